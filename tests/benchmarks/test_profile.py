"""Where the time of a command goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.profile import SPANS, Spans, located
from tests import warm

SMALL = [
    *("dataset=textures", "dataset.category=brick", "dataset.train=4", "dataset.normal=2"),
    *("dataset.defective=2", "dataset.resize=64", "dataset.crop=64", "maps=1", "logger=none"),
    *("backbone=resnet18", "backbone.model=test_resnet", "backbone.weights=random"),
]


@pytest.mark.parametrize("target", SPANS.values())
def test_what_is_timed_exists(target: str) -> None:
    assert callable(getattr(*located(target)))


def test_nested_spans_share_their_time() -> None:
    spans = Spans(clock=iter([0.0, 1.0, 3.0, 4.0, 4.5, 7.0]).__next__)
    with spans.of("fit"):
        with spans.of("solve"):
            pass
        with spans.of("fit"):
            pass
    assert spans.own == {"solve": 2.0, "fit": 5.0}
    assert spans.total == {"solve": 2.0, "fit": 7.0}  # the inner one is in it
    assert spans.counts == {"solve": 1, "fit": 2}
    events = spans.trace()["traceEvents"]
    assert [(each["name"], each["ts"], each["dur"]) for each in events] == [
        ("solve", 1e6, 2e6),
        ("fit", 4e6, 0.5e6),
        ("fit", 0.0, 7e6),
    ]


def test_a_command_is_profiled(tmp_path: Path) -> None:
    done = warm.run(["-m", "benchmarks.profile", "train", *SMALL], tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("imports", "fit", "test", "backbone", "solve", "heatmaps"):
        assert f" {name} " in done.stdout
    names = {
        each["name"] for each in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    }
    assert {"fit", "solve"} <= names
