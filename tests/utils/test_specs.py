"""Objects as plain data, and which of them are rebuilt from it."""

from __future__ import annotations

import copy
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import AdamW

from occ_lab.backbones import TimmBackbone
from occ_lab.objectives import Norm
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.utils.errors import InputError
from occ_lab.utils.specs import Recorded, made_of, spec_of, spec_or_reason
from occ_lab.utils.trusted import MOVED, TRUSTED


class Ours(Recorded):
    def __init__(self, size: int = 2, *, folder: Path | None = None, **more: Any) -> None:
        self.size = size
        self.folder = folder
        self.more = more


@pytest.mark.parametrize(
    "made",
    [
        Norm(norm=2.0, channels=8),
        PostProcess(sigma=2.0),
        TimmBackbone("test_resnet", weights="random", strides=[4, 8]),
    ],
)
def test_an_object_is_made_again_of_plain_data(made: Any) -> None:
    described = json.loads(json.dumps(spec_of(made)))
    again = made_of(described)
    assert type(again) is type(made)
    assert again.arguments == made.arguments


def test_a_partial_stays_one() -> None:
    made = made_of(spec_of(partial(AdamW, lr=0.5)))
    parameter = torch.nn.Parameter(torch.zeros(1))
    assert made([parameter]).param_groups[0]["lr"] == 0.5


def test_arguments_are_those_that_were_given_and_the_defaults() -> None:
    assert Ours().arguments == {"size": 2, "folder": None}
    assert Ours(3, folder=Path("a"), colour="red").arguments == {
        "size": 3,
        "folder": Path("a"),
        "colour": "red",
    }
    assert copy.deepcopy(Ours(3)).arguments == {"size": 3, "folder": None}
    with pytest.raises(TypeError):
        Ours(1, 2)  # type: ignore[misc]


def test_one_trusted_name_or_several() -> None:
    described = spec_of(Ours(5, folder=Path("a")))
    assert described["arguments"] == {"size": 5, "folder": "a"}
    for trust in ("tests", ["tests"], ["other", "tests.utils"]):
        assert made_of(described, trust).size == 5
    for trust in ("", "test", ["tests.utils.test_spec"]):
        with pytest.raises(InputError, match="trust="):
            made_of(described, trust)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "occ_lab.utils.specs.importlib.import_module",
        "occ_lab.utils.files.write_whole",
        "tests.utils.test_specs.os.system",
        "",
        "Norm",
    ],
)
def test_other_names_are_refused_before_anything_is_imported(name: str) -> None:
    with pytest.raises(InputError):
        made_of({"class": name, "arguments": {}})


def test_trust_reaches_classes_where_they_are_defined_alone() -> None:
    for name in ("tests.utils.test_specs.os", "tests.utils.test_specs.Norm"):
        with pytest.raises(InputError, match=r"is not the name of a class|cannot be imported"):
            made_of({"class": name}, ["tests"])
    assert os is not None


def test_what_cannot_be_described_says_so() -> None:
    assert spec_or_reason(None) is None
    reason = spec_or_reason(torch.nn.Linear(1, 1))
    assert reason is not None
    with pytest.raises(InputError, match="give the object itself"):
        made_of(reason)


def test_wrong_arguments_are_named() -> None:
    norm = "occ_lab.objectives.norm.objective.Norm"
    with pytest.raises(InputError, match="does not take these arguments"):
        made_of({"class": norm, "arguments": {"nrm": 3}})
    with pytest.raises(InputError, match="must be a mapping"):
        made_of({"class": norm, "arguments": [1]})


def test_moved_names_lead_to_classes_on_the_list() -> None:
    assert set(MOVED.values()) <= TRUSTED
    for name in sorted(TRUSTED):
        module, _, attribute = name.rpartition(".")
        found = getattr(__import__(module, fromlist=[attribute]), attribute)
        assert f"{found.__module__}.{found.__qualname__}" == name
