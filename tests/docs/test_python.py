"""The blocks of docs/python.md, run in the order of the page."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.data.trees import mvtec_tree, noise, save
from tests.docs.pages import blocks


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mvtec_tree(tmp_path / "data" / "mvtec", "transistor", train=20)
    for index in range(2):
        save(tmp_path / "parts" / f"part{index}.png", noise(index))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks("python.md", "python"), start=1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(block.text, f"python.md, block {number}", "exec"), names)
    assert names["first"].map.shape[1:] == (224, 224)
    assert len(names["first"].path) == len(names["first"].label) == len(names["first"].score)
    assert names["scores"].score.shape == (2,)
    assert [level.shape for level in names["levels"]] == [(2, 64, 16, 16), (2, 128, 8, 8)]
    assert names["z"].shape == (2, 192, 16, 16)
    assert names["judged"].anomalous.shape == (1,)
    assert (tmp_path / "outputs" / "transistor" / "metrics.json").is_file()
