"""From the configuration to a job: what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, message
from occ_lab.config.job import make_job
from occ_lab.config.process import prepare_process
from occ_lab.utils.errors import InputError


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("loss.fit.optimizer.lr=-1", r"loss\.fit\.optimizer: Invalid learning rate"),
        ("loss.fit.optimizer.lr=abc", r"loss\.fit\.optimizer: .* not supported"),
        ("+loss.fit.optimizer.more=1", r"loss\.fit\.optimizer: .*unexpected keyword"),
        ("loader.validation=2", r"loader\.validation must be a number"),
        ("scoring.aupro_limit=0", r"scoring\.aupro_limit must be a number"),
        ("loss.norm=-1", r"loss\.norm must be a number"),
        ("loss.fit.epochs=0", r"loss\.fit\.epochs must be an integer"),
    ],
)
def test_a_value_out_of_range_is_named_by_its_key(tmp_path: Path, override: str, said: str) -> None:
    small = ["dataset.train=2", "dataset.normal=1", "dataset.defective=1", "logger=none"]
    with pytest.raises(UserError, match=said):
        make_job(composed("train", [*small, f"dataset.root={tmp_path}", override]))


FROZEN = ["loss.solver=gradient"]
LENET = ["dataset=mnist", "dataset.resize=28", "dataset.crop=28", "backbone=lenet", "loss=svdd"]


@pytest.mark.parametrize(
    ("overrides", "epochs", "steps"),
    [
        (FROZEN, None, None),
        (["loss=svdd"], None, None),
        (["loss=cfa"], None, None),
        ([*FROZEN, "loss.fit.epochs=3"], 3, None),
        ([*FROZEN, "loss.fit.steps=100"], None, 100),
        ([*FROZEN, "loss.fit.steps=auto"], None, "auto"),
        (["experiment=noco_mvtec"], 50, None),
        (["experiment=noco_cifar10"], 10, None),
        (["experiment=cfa_mvtec"], 30, None),
        (["experiment=cfa_rd_mvtec"], 30, None),
        (["experiment=deep_svdd_mnist"], 30, None),
        (["experiment=noco_mvtec", "loss.fit.epochs=null", "loss.fit.steps=auto"], None, "auto"),
        (LENET, None, None),
    ],
)
def test_a_training_is_counted_in_epochs_or_in_steps(
    overrides: list[str], epochs: int | None, steps: int | str | None
) -> None:
    cfg = composed("train", overrides)
    assert (cfg.trainer.max_epochs, cfg.loss.fit.steps) == (epochs, steps)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss.fit.steps=9", "loss.fit.epochs=3"], "9 and 3 epochs are both asked for"),
        (["loss.fit.steps=auto", "loss.fit.epochs=3"], "auto and 3 epochs are both asked for"),
        (["loss.fit.steps=0"], "must be auto or an integer >= 1, got 0"),
        (["loss.fit.steps=some"], "must be auto or an integer >= 1, got 'some'"),
    ],
)
def test_other_lengths_are_refused(tmp_path: Path, overrides: list[str], said: str) -> None:
    small = ["dataset.train=2", "dataset.normal=1", "dataset.defective=1", "logger=none"]
    with pytest.raises(InputError, match=said) as raised:
        make_job(composed("train", [*small, f"dataset.root={tmp_path}", *FROZEN, *overrides]))
    assert message(raised.value).startswith("loss.fit.steps: ")


def test_what_may_be_computed_in_tf32_is_set_for_the_process() -> None:
    try:
        prepare_process(OmegaConf.create({"tf32": "all"}))
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        prepare_process(OmegaConf.create({"tf32": "none"}))
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        with pytest.raises(UserError, match="tf32 must be one of none, convolutions, all, got 1"):
            prepare_process(OmegaConf.create({"tf32": 1}))
    finally:
        prepare_process(OmegaConf.create({"tf32": "convolutions"}))
