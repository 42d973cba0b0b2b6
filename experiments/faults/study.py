"""Injected faults, counted: ``make faults``, or ``python -m experiments.faults.study``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from experiments.faults.cases import CASES
from experiments.faults.crashes import Campaign, prepare
from experiments.faults.hostile import hostile
from experiments.faults.images import fuzz
from experiments.faults.power_cut import NotAllowedError, power_cuts
from experiments.faults.races import in_one_cache, in_one_directory
from experiments.faults.sync_cost import TURNS, sync_cost
from experiments.trial import record, table
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
FILES = 1000
PROCESSES = 8
POWER_CUTS = 40
KILLS = "kills | "
SYNC_COST = "cost of syncing"
IMAGES, RUNS = "damaged image files", "hostile run directories"


def main() -> None:
    """Run the trials not recorded yet, then write the page; exit with 1 if anything is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.json, README.md")
    parser.add_argument("--again", action="store_true", help="discard what is recorded")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.again:
        (asked.out / "results.json").unlink(missing_ok=True)
    results = record(asked.out / "results.json", trials())
    write_whole(asked.out / "README.md", report(results))
    lost = [each for found in results.values() for each in found.get("lost", [])]
    print("\n".join(lost))
    injected = sum(found.get("injected", 0) for found in results.values())
    print(f"{injected} faults injected, {injected - len(lost)} survived, {len(lost)} lost")
    raise SystemExit(bool(lost))


def trials() -> Iterator[tuple[str, Any]]:
    """The trials, by their key in the results."""
    yield IMAGES, fuzzed
    yield RUNS, attacked
    for name in CASES:
        yield f"{KILLS}{name}", partial(killed, name)
    yield "processes at once, one cache", partial(raced, in_one_cache)
    yield "processes at once, one run directory", partial(raced, in_one_directory)
    yield "power cuts", cut
    yield SYNC_COST, cost


def killed(name: str) -> dict[str, Any]:
    """A command that is killed before each of its changes."""
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(CASES[name], Path(folder, "kills"))
        found = campaign.run(campaign.points(), partial(print, f"{name}:", flush=True))
    return found.as_dict()


def fuzzed() -> dict[str, Any]:
    """Damaged files that are checked and read."""
    with tempfile.TemporaryDirectory() as folder:
        found, outcomes = fuzz(FILES, Path(folder, "images"))
    return {**found.as_dict(), "outcomes": outcomes}


def attacked() -> dict[str, Any]:
    """Run directories that were made to do harm."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(CASES["train by gradient"], Path(folder, "given"))
        found, outcomes = hostile(Path(folder, "given"), Path(folder, "runs"))
    return {**found.as_dict(), "outcomes": outcomes}


def raced(race: Any) -> dict[str, Any]:
    """Processes that are started at the same time."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = race(PROCESSES, Path(folder, "race")).as_dict()
    return found


def cut() -> dict[str, Any]:
    """Power cuts, if a disk can be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return power_cuts(POWER_CUTS, Path(folder, "power")).as_dict()
        except NotAllowedError as error:
            return {"skipped": str(error)}


def cost() -> dict[str, Any]:
    """The cost of syncing."""
    with tempfile.TemporaryDirectory() as folder:
        return sync_cost(Path(folder))


def report(results: dict[str, Any]) -> str:
    """The page."""
    rows, lost = [], []
    faults = {key: found for key, found in results.items() if key != SYNC_COST}
    for key, found in faults.items():
        what = key.replace(KILLS, "kills of ")
        if "skipped" in found:
            rows.append([what, "–", "–", f"skipped: {found['skipped']}"])
            continue
        rows.append([what, *(str(found[name]) for name in ("injected", "survived"))])
        rows[-1].append(str(len(found["lost"])))
        lost += [f"- {what}: {each}" for each in found["lost"]]
    sums = [
        sum(found.get(name, 0) for found in results.values()) for name in ("injected", "survived")
    ]
    rows.append(["all", *map(str, sums), str(sums[0] - sums[1])])
    said = {
        key: ", ".join(f"{count} {name}" for name, count in results[key]["outcomes"].items())
        for key in (IMAGES, RUNS)
    }
    return "\n".join(
        [
            "# Injected faults",
            "",
            "Kills: each command runs on tiny data and is ended, as by `kill -9`, before each of",
            "its changes to its directory: opening a file for writing, or creating, removing or",
            "changing a name. Then the same command runs again. The fault is survived if the exit",
            "code and every path, figure, score and weight equal those of an undisturbed run.",
            "",
            "Damaged image files: bytes flipped, added or removed, files truncated, headers of",
            "other files; PNG, JPEG, BMP, TIFF, WebP, GIF. The fault is survived if the file is",
            f"read, or named by one of our errors, in limited time and memory: {said[IMAGES]}.",
            "",
            "Hostile run directories: pickles, classes and commands in a checkpoint or the",
            "`config.yaml`, YAML that expands, deep or truncated JSON, absurd sizes and numbers,",
            "damaged tables. Each directory is loaded, used for scoring, reported and resumed. The",
            "fault is survived if no code has run, and it ends with one of our messages or is",
            f"treated as plain data, in limited time and memory: {said[RUNS]}.",
            "",
            f"Processes at once: {PROCESSES} runs that need the same features, which are not",
            f"cached yet, and {PROCESSES} runs in one directory, of which one works while the",
            "others exit with a message.",
            "",
            "Power cuts: a disk image is copied whenever a new name appears during a run, and the",
            "run continues with the copy. They are skipped if mounting is not permitted.",
            "",
            f"Recorded until {date.today()} by `OMP_NUM_THREADS=1 make faults`.",
            "",
            *table(["fault", "injected", "survived", "lost"], rows),
            "",
            *([*lost, ""] if lost else []),
            *cost_lines(results.get(SYNC_COST)),
        ]
    )


def cost_lines(found: dict[str, float] | None) -> list[str]:
    """The lines on the cost of syncing, if it was measured."""
    if found is None:
        return []
    ratio = found["seconds"] / found["without"]
    return [
        "Syncing: the default run on one texture, with an empty cache, took "
        f"{found['seconds']:.2f} s with",
        f"its {found['syncs']:.0f} calls of `fsync` and {found['without']:.2f} s without any "
        f"(medians of {TURNS} runs in turn): {ratio:.2f} times",
        "as long, on the disk of this machine.",
        "",
    ]


if __name__ == "__main__":
    main()
