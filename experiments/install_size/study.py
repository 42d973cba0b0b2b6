"""What the installation weighs: ``python -m experiments.install_size.study --help``."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from experiments.trial import table
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MB = 1e6
ACCELERATOR = ("nvidia-", "cuda-", "triton")  # packages that only a build of torch for GPUs needs
SMALL = 20  # MB; packages below are summed up on the page


def main() -> None:
    """Measure the packages of this environment, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cpu-torch", type=Path, help="site-packages of an environment with torch for CPUs"
    )
    asked = parser.parse_args()
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    results.update(measured())
    if asked.cpu_torch:
        (cpu,) = distributions(name="torch", path=[str(asked.cpu_torch)])
        results["cpu_torch"] = {"version": cpu.version, "mb": size(cpu)}
    write_whole(path, json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def measured() -> dict[str, Any]:
    """The size of every package that occ-lab brings here, and what each requirement brings."""
    here: dict[str, Distribution] = {}
    for each in distributions():  # the first on the path is the one that is imported
        here.setdefault(str(canonicalize_name(each.metadata["Name"])), each)
    core, extras = requirements(here["occ-lab"])
    all_core = closure(core, here)
    names = set(all_core)
    brought = {}
    for name, wanted in extras.items():
        brought[name] = sorted(closure(wanted, here) - all_core)
        names |= set(brought[name])
    return {
        "mb": {name: size(here[name]) for name in sorted(names)},
        "core": sorted(all_core),
        "alone": {
            each.name: sorted(all_core - closure([other for other in core if other != each], here))
            for each in core
        },
        "extras": brought,
        "torch": here["torch"].version,
        "why": why(),
    }


def requirements(package: Distribution) -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What a package requires, and what each of its extras adds, but for those of development."""
    wanted = [Requirement(each) for each in package.requires or ()]
    core = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    extras: dict[str, list[Requirement]] = {}
    for name in package.metadata.get_all("Provides-Extra") or ():
        if name != "dev":
            of_extra = [each for each in wanted if each.marker and each not in core]
            extras[name] = [each for each in of_extra if each.marker.evaluate({"extra": name})]
    return core, extras


def closure(wanted: Iterable[Requirement], here: dict[str, Distribution]) -> set[str]:
    """The names of all packages that requirements bring, those of their extras included."""
    seen: set[tuple[str, str]] = set()
    todo = list(wanted)
    while todo:
        each = todo.pop()
        name = str(canonicalize_name(each.name))
        for extra in ("", *each.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                todo += needed(here[name], extra)
    return {name for name, _ in seen} - {"occ-lab"}


def needed(package: Distribution, extra: str) -> Iterator[Requirement]:
    """What a package requires on this machine, with one of its extras."""
    for each in map(Requirement, package.requires or ()):
        if each.marker is None or each.marker.evaluate({"extra": extra}):
            yield each


def size(package: Distribution) -> float:
    """The megabytes that the installed files of a package take."""
    paths = [Path(str(package.locate_file(file))) for file in package.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / MB


def why() -> dict[str, str]:
    """What each requirement is for: the comments in ``pyproject.toml``."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.findall(r'"([\w-]+)>=[^"]*",? *(?:# (.*))?$', text, re.MULTILINE)
    return {str(canonicalize_name(name)): reason for name, reason in found}


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    mb, core, reasons = results["mb"], set(results["core"]), results["why"]
    accelerator = {name for name in core if name.startswith(ACCELERATOR)}
    torch, cpu = mb["torch"], results["cpu_torch"]
    total = sum(mb[name] for name in core)
    rest = total - torch - sum(mb[name] for name in accelerator)
    totals = [
        [f"with PyTorch for GPUs (torch {results['torch']})", f"{total:,.0f}"],
        [f"with PyTorch for CPUs (torch {cpu['version']})", f"{rest + cpu['mb']:,.0f}"],
        ["without torch and what it brings for GPUs", f"{rest:,.0f}"],
    ]
    alone = {
        name: sum(mb[each] for each in brought if each not in accelerator)
        for name, brought in results["alone"].items()
    }
    rows = [
        [f"`{name}`", f"{mb[canonicalize_name(name)]:,.1f}", f"{alone[name]:,.1f}", reason]
        for name in sorted(results["alone"], key=lambda each: -mb[canonicalize_name(each)])
        for reason in [reasons.get(canonicalize_name(name), "")]
        if mb[canonicalize_name(name)] >= SMALL or alone[name] >= SMALL
    ]
    extras = [
        [f"`{name}`", f"{sum(mb[each] for each in brought):,.0f}", ", ".join(largest(brought, mb))]
        for name, brought in sorted(results["extras"].items())
    ]
    return "\n".join(
        [
            "# What the installation weighs",
            "",
            "Megabytes of installed files, with the versions of `constraints.txt`, on Linux and",
            "Python 3.11. `python -m experiments.install_size.study` measures the environment that",
            "it runs in and makes this page; `--cpu-torch DIR` adds a PyTorch for CPUs.",
            "",
            "## `pip install occ-lab`",
            "",
            *table(["", "MB"], totals),
            "",
            "The libraries for GPUs are most of it. A machine without a GPU is better served by",
            "PyTorch's wheels for CPUs, which are installed first:",
            "",
            "```",
            "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu",
            "pip install occ-lab",
            "```",
            "",
            f"## Requirements of {SMALL} MB or more",
            "",
            "*Own* is the package itself. *Saved* is what would not be installed without it: with",
            "what nothing else requires, and without what something else requires as well.",
            "",
            *table(["package", "own", "saved", "for"], rows),
            "",
            "Training or scoring uses all of them, scikit-image on the embedded photographs alone.",
            "",
            "## Extras",
            "",
            "What each adds to the above, and its largest packages. Training and prediction do",
            "without them: exporting, sweeps, reports, other sources of images and of weights.",
            "",
            *table(["extra", "MB", "packages"], extras),
            "",
        ]
    )


def largest(names: list[str], mb: dict[str, float], count: int = 3) -> list[str]:
    """The largest of some packages, with their sizes."""
    ordered = sorted(names, key=lambda each: -mb[each])
    return [f"{name} {mb[name]:,.0f}" for name in ordered[:count]]


if __name__ == "__main__":
    main()
