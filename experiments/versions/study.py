"""Which versions the tests pass with: ``python -m experiments.versions.study --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from experiments.trial import table
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Every room, and the main command; not the long tests of flows, faults and pages.
TESTS = (
    *("src", "tests/backbones", "tests/config", "tests/data", "tests/deploy", "tests/explain"),
    *("tests/features", "tests/inference", "tests/metrics", "tests/objectives"),
    *(
        "tests/postprocessing",
        "tests/pretraining",
        "tests/reporting",
        "tests/serving",
        "tests/utils",
    ),
    *("tests/test_detector.py", "tests/test_train.py"),
)
FINISHED = (0, 1)  # exit codes of pytest: all passed, some failed; others mean that it was cut
PATIENCE = ("-o", "faulthandler_timeout=600")  # a test that hangs says where
SHOWN = ("torch", "torchvision", "lightning", "timm", "numpy", "scipy", "scikit-learn", "onnx")


def main() -> None:
    """Run the tests in this environment, record its versions, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["lowest", "newest"], help="what the environment holds")
    parser.add_argument("tests", nargs="*", help=f"default: {' '.join(TESTS)}")
    asked = parser.parse_args()
    tests = asked.tests or [*TESTS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", os.environ.get("JOBS", "2"), *PATIENCE, *tests],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(done.stdout)
    if not asked.tests and done.returncode in FINISHED:
        path = HERE / "results.json"
        results = json.loads(path.read_text()) if path.is_file() else {}
        results[f"{asked.name}, Python {'.'.join(platform.python_version_tuple()[:2])}"] = {
            "python": platform.python_version(),
            "versions": {name: version(name) for name in direct()},
            **{
                what: int(found[1]) if found else 0
                for what in ("passed", "failed")
                for found in [re.search(rf"(\d+) {what}", done.stdout)]
            },
        }
        results = dict(sorted(results.items()))
        write_whole(path, json.dumps(results, indent=1) + "\n")
        write_whole(HERE / "README.md", report(results))
    sys.exit(done.returncode)


def direct() -> list[str]:
    """The names of what occ-lab and its extras require, but for the tools of development."""
    wanted = [Requirement(each) for each in requires("occ-lab") or ()]
    return sorted(
        {
            each.name
            for each in wanted
            if each.name != "occ-lab" and 'extra == "dev"' not in str(each.marker)
        }
    )


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    rows = [
        [
            key.split(",")[0],
            result["python"],
            *(result["versions"].get(name, "") for name in SHOWN),
            str(result["passed"]),
            str(result["failed"]),
        ]
        for key, result in results.items()
    ]
    return "\n".join(
        [
            "# Versions that are tested",
            "",
            "*Lowest*: the lower bounds of `pyproject.toml` for occ-lab and all its extras, by",
            "`make test-lowest`; what these bring in their turn is as new as it can be. *Newest*:",
            "`constraints.txt`. All versions are in `results.json`.",
            "",
            *table(["", "Python", *SHOWN, "passed", "failed"], rows),
            "",
            "The tests are those of all rooms of the package, the examples of all docstrings and",
            "the train command; `make test` runs the others as well. To test another Python:",
            "",
            "```",
            "make test-newest PYTHON=python3.13 NEWEST=.venv-3.13",
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    main()
