"""Every configuration file composes, and bad values are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from occ_lab.config.composition import build, conf_dir, file_backbones
from occ_lab.config.composition import composed as occ_lab_composed
from occ_lab.config.errors import UserError
from occ_lab.utils.errors import check_number

GROUPS = (
    "launcher",
    "dataset",
    "backbone",
    "projector",
    "pretrain",
    "loss",
    "trainer",
    "logger",
    "explain",
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


NEEDED = {"backbone=file": "backbone.path=learned.safetensors"}  # what has no default


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_composes_and_resolves(choice: str) -> None:
    cfg = composed(choice, *([NEEDED[choice]] if choice in NEEDED else []))
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("representation", ["rotation", "contrastive", "contrastive_da"])
@pytest.mark.parametrize("dataset", ["textures", "mnist"])
def test_every_representation_composes_and_resolves(representation: str, dataset: str) -> None:
    cfg = occ_lab_composed("two_stage", [f"representation={representation}", f"dataset={dataset}"])
    assert cfg.representation.encoder.side == 32
    assert cfg.representation.patches == (4 if dataset == "textures" else 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["backbone=file:a b.safetensors"], ["backbone=file", "backbone.path='a b.safetensors'"]),
        (["-m", "backbone=file:a,file:b"], ["-m", "backbone=file", "backbone.path='a','b'"]),
        (["backbone=resnet18", "x=file:a"], ["backbone=resnet18", "x=file:a"]),
        (["backbone=file:it's mine"], ["backbone=file", "backbone.path='it\\'s mine'"]),
    ],
)
def test_a_learned_backbone_is_chosen_by_its_file(given: list[str], said: list[str]) -> None:
    assert file_backbones(given) == said


@pytest.mark.parametrize("path", ["a.safetensors", "~/it's (mine) = ä/x", "a: {b} [c]", "null"])
def test_a_path_arrives_as_it_is_typed(path: str) -> None:
    assert occ_lab_composed("train", [f"backbone=file:{path}"]).backbone.path == path


def test_learned_and_other_backbones_are_not_mixed() -> None:
    with pytest.raises(UserError, match="sweep over them apart"):
        file_backbones(["backbone=file:a,resnet18"])


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
    node = OmegaConf.create({"_target_": "occ_lab.objectives.norm.objective.Norm", "norm": value})
    with pytest.raises(UserError, match=r"^loss\.norm must be a number and > 0, got "):
        build(node, "loss", channels=4, levels=[4])


def test_a_value_of_a_nested_object_names_its_key() -> None:
    cfg = occ_lab_composed("two_stage", ["representation.augment.blur=2"])
    within = OmegaConf.masked_copy(cfg.representation, ["_target_", "encoder", "augment"])
    for node, key in (
        (cfg.representation.augment, "representation.augment"),
        (within, "representation"),
        (OmegaConf.create(OmegaConf.to_container(within)), "representation"),
    ):
        with pytest.raises(UserError, match=r"^representation\.augment\.blur must be a number"):
            build(node, key)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "occ_lab.config.composition.build",
        "occ_lab.data.datasets.mvtec.Path",
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
    coordconv = "occ_lab.projectors.CoordConv1x1"
    assert composed("loss=cfa").projector._target_ == coordconv
    plain = "occ_lab.projectors.Conv1x1"
    assert composed("loss=cfa", "projector=conv1x1").projector._target_ == plain
    assert composed("loss=norm").projector._target_ == plain


@pytest.mark.parametrize("loss", ["knn", "padim", "kde", "ocsvm_linear", "ocsvm_rbf"])
def test_what_compares_features_brings_no_projector(loss: str) -> None:
    identity = "occ_lab.projectors.Identity"
    assert composed(f"loss={loss}").projector._target_ == identity


def test_gde_scales_its_features() -> None:
    assert composed("loss=gde").projector.normalize is True
    assert composed("loss=gaussian").projector.normalize is False
