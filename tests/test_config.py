"""Every configuration file composes, and bad values are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from occ_lab.config import build, conf_dir
from occ_lab.errors import UserError, check_number

GROUPS = (
    "launcher",
    "dataset",
    "backbone",
    "projector",
    "pretrain",
    "loss",
    "trainer",
    "logger",
    "experiment",
)
CHOICES = [
    f"{group}={path.stem}"
    for group in GROUPS
    for path in sorted((Path(conf_dir()) / group).glob("*.yaml"))
]


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_composes_and_resolves(choice: str) -> None:
    cfg = composed(choice)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def test_every_group_of_the_design_is_there() -> None:
    groups = {choice.split("=")[0] for choice in CHOICES}
    assert groups == set(GROUPS)


def test_defaults_follow_the_kind_of_dataset() -> None:
    assert composed().loss.squared is False
    assert composed("dataset.kind=semantic").loss.squared is True
    assert composed("dataset.kind=semantic").backbone.output == "pooled"


def test_values_override_and_nested_targets_build() -> None:
    node = OmegaConf.create(
        {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.1, "amsgrad": True}
    )
    assert build(node, "loss.fit.optimizer").keywords == {"lr": 0.1, "amsgrad": True}


@pytest.mark.parametrize("value", [-1, 0, "abc"])
def test_a_value_out_of_range_names_its_key(value: object) -> None:
    node = OmegaConf.create({"_target_": "occ_lab.models.norm.Norm", "norm": value})
    with pytest.raises(UserError, match=r"^loss\.norm must be a number and > 0, got "):
        build(node, "loss", channels=4, levels=[4])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "occ_lab.config.build",
        "occ_lab.data.mvtec.Path",
        "occ_lab.nowhere.Thing",
        7,
    ],
)
def test_only_classes_of_trusted_packages_are_built(target: object) -> None:
    for node in ({"_target_": target}, {"inner": [{"_target_": target}]}):
        with pytest.raises(UserError, match="is not a class of"):
            build(OmegaConf.create(node), "dataset")


@pytest.mark.parametrize(
    ("value", "rules", "ok"),
    [
        (1, {"at_least": 1}, True),
        (0.5, {"at_least": 1}, False),
        (0, {"above": 0}, False),
        (2, {"at_most": 1}, False),
        (True, {}, False),
        (float("nan"), {"above": 0}, False),
        (1.0, {"integer": True}, False),
        ("1", {}, False),
    ],
)
def test_check_number(value: object, rules: dict, ok: bool) -> None:
    if ok:
        check_number("x", value, **rules)
    else:
        with pytest.raises(ValueError, match=r"^x must be "):
            check_number("x", value, **rules)


def test_cfa_brings_its_projector_unless_another_is_chosen() -> None:
    coordconv = "occ_lab.models.coordconv.CoordConv1x1"
    assert composed("loss=cfa").projector._target_ == coordconv
    plain = "occ_lab.models.projector.Conv1x1"
    assert composed("loss=cfa", "projector=conv1x1").projector._target_ == plain
    assert composed("loss=norm").projector._target_ == plain
