"""The defaults of a kind of dataset, in every command, and where they can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from occ_lab.config.composition import composed, unresolved
from tests.commands import command

STRUCTURED, SEMANTIC = "textures", "mnist"

# Command, dataset, overrides: key and value.
TABLE: list[tuple[str, str, list[str], dict[str, Any]]] = [
    ("train", STRUCTURED, [], {"backbone.output": "levels"}),
    ("train", SEMANTIC, [], {"backbone.output": "pooled"}),
    ("train", "celeba", [], {"backbone.output": "pooled"}),
    *(
        ("train", dataset, [f"backbone={name}"], {"backbone.output": output})
        for name in (
            *("dinov2_small", "dinov3_small", "efficientnet_b5"),
            *(f"efficientnet_lite{number}" for number in range(3)),
            *("resnet152", "resnet18", "vgg19", "vgg19_bn", "wide_resnet50_2"),
        )
        for dataset, output in ((STRUCTURED, "levels"), (SEMANTIC, "pooled"))
    ),
    ("train", STRUCTURED, ["backbone=file:x"], {"backbone.output": "levels"}),
    ("train", SEMANTIC, ["backbone=file:x"], {"backbone.output": "pooled"}),
    *(
        (
            "train",
            STRUCTURED,
            [f"loss.solver={solver}"],
            {
                "loss.normalize": False,
                "loss.squared": False,
                "loss.nu": 1e-3,
                "loss.radius_weight": 0,
                "loss.fit.batch_size": 16,
                "projector.normalize": False,
            },
        )
        for solver in ("gradient", "closed_form")
    ),
    *(
        (
            "train",
            SEMANTIC,
            [f"loss.solver={solver}"],
            {
                "loss.normalize": normalize,
                "loss.squared": True,
                "loss.nu": 1,
                "loss.radius_weight": 1e3,
                "loss.fit.batch_size": 64,
                "projector.normalize": normalize,
            },
        )
        for solver, normalize in (("gradient", False), ("closed_form", True))
    ),
    ("train", STRUCTURED, [], {"loss.solver": "closed_form", "loss.time": "integrated"}),
    ("train", SEMANTIC, [], {"loss.solver": "closed_form", "loss.time": "auto"}),
    ("train", STRUCTURED, ["loss=svdd"], {"loss.fit.batch_size": 16}),
    ("train", SEMANTIC, ["loss=svdd"], {"loss.fit.batch_size": 64}),
    (
        "train",
        STRUCTURED,
        ["loss=cfa"],
        {"loss.fit.batch_size": 4, "loss.unit_rms": True, "projector.unit_rms": True},
    ),
    ("train", STRUCTURED, ["loss=cfa", "loss.unit_rms=false"], {"projector.unit_rms": False}),
    ("train", STRUCTURED, ["projector=coordconv"], {"projector.unit_rms": False}),
    ("train", STRUCTURED, ["projector=local"], {"projector.cell": 4, "projector.normalize": False}),
    ("train", "mvtec", ["experiment=cfa_mvtec"], {"projector.unit_rms": False}),
    ("train", SEMANTIC, ["loss=cfa"], {"loss.fit.batch_size": 4}),
    (
        "stream",
        STRUCTURED,
        [],
        {"loss.time": "integrated", "loss.normalize": False, "loss.squared": False},
    ),
    (
        "stream",
        SEMANTIC,
        [],
        {"loss.time": "integrated", "loss.normalize": True, "loss.squared": True},
    ),
    (
        "compare",
        STRUCTURED,
        [],
        {
            "methods[0]": "norm",
            "methods[1]": "norm loss.time=auto",
            "methods[2]": "padim",
            "backbone.output": "levels",
            "maps": 4,
        },
    ),
    (
        "compare",
        SEMANTIC,
        [],
        {"methods[0]": "norm", "methods[1]": "gde", "backbone.output": "pooled"},
    ),
    ("norm_study", STRUCTURED, [], {"normalize": False, "backbone.output": "levels"}),
    ("norm_study", SEMANTIC, [], {"normalize": True, "backbone.output": "pooled"}),
    *(
        (
            "two_stage",
            dataset,
            [f"representation={name}"],
            {
                "dataset.resize": resize,
                "dataset.crop": crop,
                "representation.encoder.side": 32,
                "representation.augment.side": 32,
                "representation.patches": patches,
            },
        )
        for name in ("rotation", "contrastive", "contrastive_da")
        for dataset, resize, crop, patches in ((STRUCTURED, 256, 224, 4), (SEMANTIC, 32, 32, 0))
    ),
    (
        "two_stage",
        "celeba",
        ["dataset.resize=64", "dataset.crop=64"],
        {"representation.encoder.side": 64, "representation.patches": 0},
    ),
]


@pytest.mark.parametrize(
    ("name", "dataset", "overrides", "expected"),
    TABLE,
    ids=[" ".join([name, dataset, *overrides]) for name, dataset, overrides, _ in TABLE],
)
def test_the_values_of_every_combination(
    name: str, dataset: str, overrides: list[str], expected: dict[str, Any]
) -> None:
    cfg = composed(name, [f"dataset={dataset}", *overrides])
    found = {key: OmegaConf.select(cfg, key) for key in expected}
    assert found == expected
    assert [type(found[key]) for key in found] == [type(expected[key]) for key in expected]


def test_the_kind_may_be_given_on_the_command_line() -> None:
    cfg = composed("train", ["dataset.kind=semantic", "loss.solver=closed_form"])
    assert (cfg.loss.squared, cfg.loss.normalize, cfg.backbone.output) == (True, True, "pooled")
    assert composed("train", ["dataset=mnist", "dataset.kind=structured"]).loss.time == "integrated"


def test_a_value_of_ones_own_takes_precedence() -> None:
    assert composed("train", ["dataset=mnist", "loss.nu=0.5"]).loss.nu == 0.5
    changed = composed("train", ["dataset=mnist", "kinds.semantic.norm.nu=0.5"])
    assert changed.loss.nu == 0.5


def test_the_defaults_are_visible() -> None:
    cfg = unresolved("train", ["dataset=mnist"])
    assert cfg.kind.norm.normalize == {"gradient": False, "closed_form": True}
    written = OmegaConf.to_yaml(cfg)
    assert "squared: ${kind.norm.squared}" in written
    assert "radius_weight: 1000.0" in written
    assert "kinds" not in composed("train", ["dataset=mnist"])  # of no use in config.yaml


OWN = """
defaults:
  - base/structured@_here_
  - _self_
_target_: occ_lab.data.datasets.class_folder.ClassFolder
name: mine
root: parts
protocol: one_vs_rest
"""


@pytest.mark.parametrize(("kind", "output"), [("", "levels"), ("kind: semantic", "pooled")])
def test_a_dataset_of_ones_own_sets_its_kind(tmp_path: Path, kind: str, output: str) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text(OWN + kind)
    asked = ["--config-dir", str(tmp_path), "dataset=mine", "--cfg", "job", "--resolve"]
    done = command("train", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cfg = OmegaConf.create(done.stdout)
    assert cfg.backbone.output == output
    assert cfg.loss.squared is (output == "pooled")
