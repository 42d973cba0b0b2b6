"""The page of the GPU study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiments.gpu import correctness as tolerances
from experiments.trial import table

OBJECTIVE, SPEED = "objective: ", "speed: "


def report(results: dict[str, Any]) -> str:
    """The page: machine, agreement with the CPU, speed, and what did not pass."""
    checks, machine = results["checks"], results["machine"]
    versions = ", ".join(f"{name} {each}" for name, each in machine["versions"].items())
    cuda = f", CUDA {machine['cuda']}, cuDNN {machine['cudnn']}" if machine["cuda"] else ""
    lines = [
        "# On a GPU",
        "",
        *(["**Tiny sizes (`--short`): the speed says nothing.**", ""] if results["short"] else []),
        f"{len(machine['names'])} × {machine['names'][0]} (`{machine['device']}`), "
        f"{machine['cores']} cores, {machine['threads']} threads.",
        f"Python {machine['python']}{cuda}; {versions}.",
        "",
        f"Recorded on {listed(checks, 'date')} by `python -m experiments.gpu.study` (`make gpu`), "
        f"occ-lab {listed(checks, 'occ_lab')}, files in {listed(checks, 'scratch')}.",
        "",
        *agreement(checks),
        *objectives(checks),
        *speed(checks),
    ]
    failed = list(not_passed(checks))
    lines += ["## Not passed", ""]
    lines += [*failed, ""] if failed else ["Every check that was run has passed.", ""]
    return "\n".join(lines)


def listed(checks: dict[str, Any], fact: str) -> str:
    """The values of a fact in all checks that were run."""
    return ", ".join(sorted({check[fact] for check in checks.values() if fact in check}))


def agreement(checks: dict[str, Any]) -> list[str]:
    """The table of all checks of correctness but those of objectives."""
    rows = []
    for name, check in checks.items():
        if name.startswith((OBJECTIVE, SPEED)):
            continue
        for part, each in (check.get("parts") or {"": check}).items():
            off, tolerance = each.get("difference"), each.get("tolerance")
            rows.append([name, part, scientific(off), scientific(tolerance), verdict(each)])
    if not rows:
        return []
    notes = [check["note"] for check in checks.values() if check.get("note")]
    return [
        "## Agreement with the CPU",
        "",
        "Of levels: the root mean square of the difference over that of the level. Of scores and",
        "maps: the largest difference over the spread. Of processes: the largest difference of any",
        "metric. Of representations: the relative difference of the loss.",
        "",
        *table(["check", "part", "difference", "tolerance", ""], rows),
        "",
        *(line for note in notes for line in (note, "")),
    ]


def objectives(checks: dict[str, Any]) -> list[str]:
    """The table of objectives, in float32 and bfloat16."""
    rows = []
    for name, check in checks.items():
        if not name.startswith(OBJECTIVE):
            continue
        row = [name.removeprefix(OBJECTIVE)]
        for precision in ("32-true", "bf16-mixed"):
            each = check.get("parts", {}).get(precision, check)
            row += [scientific(each.get("difference")), scientific(each.get("metrics"))]
            row += [verdict(each)]
        rows.append(row)
    if not rows:
        return []
    columns = ("scores", "metrics", "")
    titles = ["objective", *(f"float32: {columns[0]}", *columns[1:])]
    titles += [f"bfloat16: {columns[0]}", *columns[1:]]
    return [
        "## Objectives",
        "",
        "Fitted and tested on the CPU and on the device, from the same features: the largest",
        "difference of an image score over the spread of the scores, and of any metric. In float32",
        f"it may be {tolerances.ONE_PASS:g} for objectives that learn in one pass and "
        f"{tolerances.GRADIENT:g} for those trained by",
        f"gradient, and {tolerances.AUROC:g} for metrics; with `trainer.precision=bf16-mixed` "
        f"{tolerances.BFLOAT16:g}.",
        "",
        *table(titles, rows),
        "",
    ]


def speed(checks: dict[str, Any]) -> list[str]:
    """The table of ratios with their goals, and the figures behind them."""
    found = {
        name.removeprefix(SPEED): check
        for name, check in checks.items()
        if name.startswith(SPEED) and "ratio" in check
    }
    if not found:
        return []
    rows = []
    for name, each in found.items():
        kind, *precision = name.split(", ")
        goal = f"{'≥' if kind in AT_LEAST else '≤'} {each['goal']}"
        rows.append([WHAT[kind].format(*precision), f"{each['ratio']:.2f}", goal, verdict(each)])
    lines = ["## Speed", "", *table(["ratio", "", "goal", ""], rows), ""]
    for name, each in found.items():
        lines.append(f"- {name}: {'; '.join(figures(each))}.")
    return [*lines, ""]


AT_LEAST = ("extraction", "scoring")
WHAT = {
    "extraction": "pass that stores features over the bare backbone, both from JPEG files, {}",
    "job": "whole closed-form job, cold, over the pass",
    "scoring": "detector over its backbone, images in memory",
    "CFA": "epoch of CFA from cached features over its matrix products",
}


def figures(check: dict[str, Any], prefix: str = "") -> Iterable[str]:
    """All numbers of a check, by their names."""
    for name, value in check.items():
        words = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from figures(value, f"{words} ")
        elif isinstance(value, list):
            yield f"{words} {', '.join(f'{each:.4g}' for each in value)}"
        elif not isinstance(value, bool | str) and name not in ("goal", "ratio", "check_seconds"):
            yield f"{words} {value:.4g}" if isinstance(value, float) else f"{words} {value}"


def not_passed(checks: dict[str, Any]) -> Iterable[str]:
    """A line for every check, or part of it, that has not passed, with its error."""
    for name, check in checks.items():
        for part, each in (check.get("parts") or {"": check}).items():
            if isinstance(each, dict) and each.get("agrees") is False:
                said = str(each.get("error", "beyond the tolerance or goal")).replace("\n", " / ")
                yield f"- {name}{f', {part}' if part else ''}: {said}"
        if "error" not in check and not check["agrees"] and "ratio" in check and "parts" in check:
            yield f"- {name}: the goal is missed"


def scientific(value: float | None) -> str:
    """A number in short; a dash if there is none."""
    return "–" if value is None else f"{value:.1e}"


def verdict(check: dict[str, Any]) -> str:
    """What a cell says of a check."""
    return "yes" if check.get("agrees") else "error" if "error" in check else "no"
