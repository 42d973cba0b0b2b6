"""Every configuration file composes, and bad values are refused by name."""

from __future__ import annotations

import inspect
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from occ_lab.config.composition import build, conf_dir, file_backbones, resolved
from occ_lab.config.composition import composed as occ_lab_composed
from occ_lab.config.errors import UserError
from occ_lab.config.packages import located
from occ_lab.utils.errors import InputError, check_number

GROUPS = (
    "launcher",
    "dataset",
    "backbone",
    "projector",
    "pretrain",
    "loss",
    "trainer",
    "callbacks",
    "logger",
    "explain",
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


def open_values(cfg: DictConfig) -> bool:
    """Whether only the task, and references to it, are still open."""
    content = OmegaConf.to_container(cfg)
    assert isinstance(content, dict)
    assert content.pop("task") == {"name": "???", "folder": "???"}
    left = re.findall(r"(\$\{[^}]*\}|\?\?\?)", str(content))
    return set(left) <= {"${task.name}", "${task.folder}"}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_composes_and_resolves(choice: str) -> None:
    assert open_values(resolved(composed(choice, *([NEEDED[choice]] if choice in NEEDED else []))))


@pytest.mark.parametrize("command", ["train", "compare", "two_stage", "stream", "norm_study"])
def test_every_command_composes_and_resolves(command: str) -> None:
    assert open_values(occ_lab_composed(command, []))


@pytest.mark.parametrize("representation", ["rotation", "contrastive", "contrastive_da"])
@pytest.mark.parametrize("dataset", ["textures", "mnist"])
def test_every_representation_composes_and_resolves(representation: str, dataset: str) -> None:
    cfg = occ_lab_composed("two_stage", [f"representation={representation}", f"dataset={dataset}"])
    assert cfg.representation.encoder.side == 32
    assert cfg.representation.patches == (4 if dataset == "textures" else 0)


DECLARED = {"occ_lab", "lightning", "torch"}  # the packages whose classes the files name


def targets() -> list[str]:
    found = set()
    for path in Path(conf_dir()).rglob("*.yaml"):
        found |= set(re.findall(r"_target_: (\S+)", path.read_text(encoding="utf-8")))
    return sorted(found)


@pytest.mark.parametrize("target", targets())
def test_every_target_is_a_class_of_ours_or_of_a_declared_library(target: str) -> None:
    assert target.split(".")[0] in DECLARED
    assert inspect.isclass(located(target, "_target_"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["backbone=file:a,b"], ["backbone=file", "backbone.path='a,b'"]),
        (["backbone=file:a b.safetensors"], ["backbone=file", "backbone.path='a b.safetensors'"]),
        (["-m", "backbone=file:a,file:b"], ["-m", "backbone=file", "backbone.path='a','b'"]),
        (["backbone=resnet18", "x=file:a"], ["backbone=resnet18", "x=file:a"]),
        (["backbone=file:it's mine"], ["backbone=file", "backbone.path='it\\'s mine'"]),
    ],
)
def test_a_learned_backbone_is_chosen_by_its_file(given: list[str], said: list[str]) -> None:
    assert file_backbones(given, "-m" in given) == said


@pytest.mark.parametrize("path", ["a.safetensors", "~/it's (mine) = ä/x", "a: {b} [c]", "null"])
def test_a_path_arrives_as_it_is_typed(path: str) -> None:
    found = occ_lab_composed("train", [f"backbone=file:{path}"]).backbone.path
    assert found == path.replace("~", str(Path.home()))


def test_learned_and_other_backbones_are_not_mixed() -> None:
    with pytest.raises(UserError, match="sweep over each kind separately"):
        file_backbones(["backbone=file:a,resnet18"], multirun=True)


def test_every_group_of_the_design_is_there() -> None:
    groups = {choice.split("=")[0] for choice in CHOICES}
    assert groups == set(GROUPS)


def test_values_override_and_nested_targets_build() -> None:
    node = OmegaConf.create(
        {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.1, "amsgrad": True}
    )
    assert build(node, "loss.fit.optimizer").keywords == {"lr": 0.1, "amsgrad": True}


@pytest.mark.parametrize("value", [-1, 0, "abc"])
def test_a_value_out_of_range_names_its_key(value: object) -> None:
    node = OmegaConf.create({"_target_": "occ_lab.objectives.norm.objective.Norm", "norm": value})
    with pytest.raises(UserError, match=r"^loss\.norm must be a number and > 0 .*, got "):
        build(node, "loss", channels=4)


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
    ("target", "text"),
    [
        ("absent.cosine.Cosine", "absent.cosine.Cosine cannot be imported (ModuleNotFoundError"),
        ("occ_lab.nowhere.Thing", "cannot be imported"),
        ("occ_lab.objectives.cfa.Nothing", "cannot be imported (AttributeError"),
        ("occ_lab.objectives.norm", "is not a class"),
        (7, "must be the dotted name of a class, got 7"),
    ],
)
def test_what_is_not_there_is_named_with_its_key(target: object, text: str) -> None:
    for node, key in (
        ({"_target_": target}, "dataset"),
        ({"_target_": "collections.OrderedDict", "of": [{"_target_": target}]}, "dataset.of[0]"),
    ):
        with pytest.raises(UserError) as error:
            build(OmegaConf.create(node), "dataset")
        assert str(error.value).startswith(f"{key}._target_")
        assert text in str(error.value)
        assert "\n" not in str(error.value)


def test_any_importable_class_is_built() -> None:
    made = build(OmegaConf.create({"_target_": "fractions.Fraction", "numerator": 3}), "loss")
    assert made == Fraction(3)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"name": "x"}, "loss: name a class as loss._target_"),
        ({"_target_": f"{__name__}.Refusing", "about": "root: no data"}, "loss.root: no data"),
        ({"_target_": f"{__name__}.Refusing", "about": "about must be"}, "loss.about must be"),
        ({"_target_": f"{__name__}.Refusing", "about": "No such word"}, "loss: No such word"),
        ({"_target_": f"{__name__}.Refusing", "x": 1}, "loss: Refusing.__init__() got an unexp"),
        (
            {"_target_": "os.system"},
            "loss: Target 'os.system' is blocklisted",
        ),
        ({"_target_": f"{__name__}.Refusing", "about": "???"}, "loss.about has no default"),
        ({"_target_": f"{__name__}.Refusing", "about": "${no}"}, "about: Interpolation key 'no'"),
    ],
)
def test_refusals_of_a_constructor_begin_with_the_key(node: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as error:
        build(OmegaConf.create({"loss": node}).loss, "loss")
    assert text in str(error.value)


class Refusing:
    def __init__(self, about: str) -> None:
        raise InputError(about, part="objective")


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


@pytest.mark.parametrize(
    "loss",
    ["gaussian", "gde", "kde", "knn", "ocsvm_linear", "ocsvm_rbf", "padim", "rotation_classifier"],
)
def test_one_pass_needs_no_optimizer(loss: str) -> None:
    assert occ_lab_composed("train", [f"loss={loss}"]).loss.fit == {"epochs": 1, "batch_size": 32}
