"""Every key of every YAML file is explained, and what is said of it is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from occ_lab.config.commands import COMMANDS, module_of
from occ_lab.config.composition import build, composed, conf_dir, unresolved
from occ_lab.config.errors import UserError
from occ_lab.config.job import object_of
from occ_lab.config.options import EVERYWHERE, Options
from occ_lab.config.suggestions import flat
from occ_lab.config.values import Allowed
from occ_lab.config.yaml_file import read

CONFIGURED = [module_of(name) for name, command in COMMANDS.items() if command.configured]
GROUPS = {
    **dict.fromkeys(Options("two_stage").groups, "two_stage"),
    **dict.fromkeys(Options("train").groups, "train"),
}
CHOICES = [
    (name, [f"{group}={choice}"])
    for group, name in GROUPS.items()
    for choice in Options(name).choices(group)
]
CHOICES += [
    ("two_stage", [f"experiment={each}"]) for each in Options("two_stage").choices("experiment")
]
ALL = [*((name, []) for name in CONFIGURED), *CHOICES]
NAMES = [" ".join([name, *words]) for name, words in ALL]


@cache
def options(name: str, *words: str) -> Options:
    return Options(name, words)


def of_yaml(text: str) -> Any:
    """A value as the configuration has it, which reads 1e-3 as a number."""
    return OmegaConf.to_container(OmegaConf.create(f"x: {text}"))["x"]


@pytest.mark.parametrize(("name", "words"), ALL, ids=NAMES)
def test_every_key_is_explained_and_its_default_is_allowed(name: str, words: list[str]) -> None:
    found = options(name, *words)
    for key, each in found.leaves().items():
        assert each.allowed is not None, f"{key}: a comment that ends with [...], see yaml_file.py"
        assert len(each.said) > 5, f"{key}: say what it is"
        allowed, value = Allowed(each.allowed), found.value(key)
        if key.rpartition(".")[2] in EVERYWHERE or found.in_a_whole(key) or value == "???":
            continue
        assert value is not None
        assert allowed.accepts(of_yaml(value)), f"{key}={value} is not [{each.allowed}]"


def test_every_file_is_an_option_or_the_base_of_one() -> None:
    files = {path.relative_to(conf_dir()).as_posix() for path in Path(conf_dir()).rglob("*.yaml")}
    asked = {f"{name}.yaml" for name in [*CONFIGURED, "base"]}
    asked |= {f"{words[0].replace('=', '/')}.yaml" for _, words in CHOICES}
    assert {each for each in files - asked if "/base/" not in each} == set()


@pytest.mark.parametrize(
    "path", sorted(Path(conf_dir()).rglob("*.yaml")), ids=lambda path: path.stem
)
def test_every_file_says_what_it_is(path: Path) -> None:
    file = read(path)
    assert len(file.about) > 10
    for key, each in file.keys.items():
        if each.allowed is not None:
            assert each.said.endswith("."), f"{path.name}: {key}: whole sentences, then [...]"


def same_as_hydra(name: str, words: list[str]) -> None:
    """Check that help and completion see what Hydra composes."""
    cfg, mine = unresolved(name, words), Options(name, words)
    theirs = {key: value for key, value in flat(cfg).items() if not isinstance(value, dict)}
    ours = {key for key, each in mine.keys.items() if each.value not in (None, "{}")}
    assert {key for key in ours if not key.startswith("hydra.")} == set(theirs)
    for key, value in theirs.items():
        if value != "???" and key != "kind" and "${task." not in str(value):
            resolved = OmegaConf.select(cfg, key)
            resolved = (
                OmegaConf.to_container(resolved) if OmegaConf.is_config(resolved) else resolved
            )
            assert of_yaml(str(mine.value(key))) == resolved, key


@pytest.mark.parametrize("name", CONFIGURED)
def test_commands_are_as_hydra_composes_them(name: str) -> None:
    same_as_hydra(name, [])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train", ["dataset=cifar100", "loss=cfa", "backbone=vgg19_bn"]),
        ("train", ["backbone=lenet", "loss=svdd", "dataset=mnist"]),
        ("train", ["experiment=cfa_rd_mvtec"]),
        ("train", ["experiment=deep_svdd_mnist", "pretrain=none"]),
        ("train", ["experiment=noco_mvtec", "launcher=cores", "logger=wandb", "loss.norm=4"]),
        ("train", ["callbacks=early_stopping", "explain=occlusion", "loss.solver=gradient"]),
        ("stream", ["dataset=folder", "watch=true"]),
        ("two_stage", ["representation=contrastive_da", "dataset=celeba"]),
        ("compare", ["dataset=visa", "logger=none"]),
    ],
)
def test_choices_are_as_hydra_composes_them(name: str, words: list[str]) -> None:
    same_as_hydra(name, words)


def test_files_of_ones_own_take_precedence(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("# Mine.\ndefaults: [norm]\nlength: 1\n")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mnist.yaml").write_text("# Another.\nname: mnist\n")
    found = Options("train", ["--config-dir", str(tmp_path), "loss=mine", "dataset=mnist"])
    assert found.choices("loss")["mine"] == "Mine."
    assert found.value("loss.length") == "1"
    assert found.keys["loss.norm"].said.startswith("The norm of the target")
    assert "dataset.category" not in found.keys


def test_what_a_command_cannot_take_is_no_choice() -> None:
    assert "lenet" not in options("compare").choices("backbone")  # it chooses a projector
    assert "lenet" in options("train").choices("backbone")
    of_stages, of_train = (options(each).choices("experiment") for each in ("two_stage", "train"))
    assert all(name.startswith("sohn_") for name in of_stages)
    assert not of_stages.keys() & of_train.keys()


def bounds(key_and_group: str) -> Iterator[tuple[str, str, list[tuple[str, float]]]]:
    """The choices of a group, their keys with a range, and the range."""
    for choice in options("train").choices(key_and_group):
        found = options("train", f"{key_and_group}={choice}")
        for key in found.leaves():
            allowed = (found.explained(key) or found.keys[key]).allowed or ""
            number = re.search(r"(?:^|\| )(?:integer|number) ([^|]*)", allowed)
            if key.startswith(f"{key_and_group}.") and number and ".fit." not in key:
                words = number[1].split()
                yield choice, key, list(zip(words[::2], map(float, words[1::2]), strict=True))


@pytest.mark.parametrize(
    ("group", "choice", "key", "limits"),
    [(group, *each) for group in ("loss", "explain") for each in bounds(group)],
)
def test_a_range_is_that_of_the_class(
    group: str, choice: str, key: str, limits: list[tuple[str, float]]
) -> None:
    if key in ("explain.count", "loss.seed"):
        return  # of the run
    cfg = made(group, choice).copy()
    if key.startswith("explain.window"):
        cfg.explain.stride = 1e-7  # at most window
    if key.startswith("explain.stride"):
        cfg.explain.window = 1
    for sign, bound in limits:
        inside = bound if "=" in sign else bound + (1e-6 if sign == ">" else -1e-6)
        outside = bound if "=" not in sign else bound + (-1 if sign == ">=" else 1)
        for value, right in ((inside, True), (outside, False)):
            OmegaConf.update(cfg, key, int(value) if value == int(value) else value)
            if right:
                build(object_of(cfg, group), group)
            else:
                with pytest.raises(UserError, match=key.rpartition(".")[2]):
                    build(object_of(cfg, group), group)


@cache
def made(group: str, choice: str) -> DictConfig:
    return composed("train", [f"{group}={choice}"])
