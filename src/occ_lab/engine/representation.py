"""Stage 1 of one task: an encoder is trained on normal images, and written to a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning import seed_everything
from lightning.pytorch.callbacks import Callback, LambdaCallback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from occ_lab.backbones.learned import save_encoder
from occ_lab.config.composition import build
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.engine.fit import make_trainer
from occ_lab.features.dataset import held
from occ_lab.pretraining.representation import Representation
from occ_lab.reporting.record import to_json
from occ_lab.utils.files import write_whole

FIGURES = "stage1.json"
NOT_ARGUMENTS = ("name", "fit", "own_score")  # of a representation's configuration


def make_representation(cfg: DictConfig) -> Representation:
    """The untrained module; its random weights come from the global seed."""
    arguments = [str(key) for key in cfg.representation if key not in NOT_ARGUMENTS]
    return build(OmegaConf.masked_copy(cfg.representation, arguments), "representation")


def learn(
    cfg: DictConfig,
    benchmark: Benchmark,
    task: str,
    folder: Path,
    target: Path,
    loggers: list[Logger],
    watchers: list[Callback],
) -> dict[str, Any]:
    """Train an encoder on a task's normal images, from a checkpoint where there is one.

    Args:
        cfg: the whole configuration, resolved.
        benchmark: where the images come from.
        task: whose.
        folder: of the checkpoint, ``last.ckpt``, which is removed when all epochs are done, and of
            ``stage1.json``, what is returned.
        target: the file to write; once it is there all is.
        loggers: of the loss.
        watchers: further callbacks.

    Returns:
        ``n_train``, ``epochs``, ``steps``, the last epoch's ``loss`` and its ``chance`` level
        (unless that epoch was over before a stop), and the ``seconds`` of this process.
    """
    started = time.perf_counter()
    fit = cfg.representation.fit
    instances = max(1, cfg.representation.patches)
    data = AnomalyDataModule(benchmark, task, max(1, fit.batch_size // instances), **cfg.loader)
    data.prepare_data()
    checkpoint = folder / "last.ckpt"
    saving = ModelCheckpoint(
        folder,
        "last",
        every_n_epochs=fit.save_epochs,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )

    def go_on(trainer: Any, module: Any, state: dict[str, Any]) -> None:
        # Lightning tells the sampler too late: worker processes have begun to read ahead.
        sampler: Any = loader.sampler
        sampler.set_epoch(state["epoch"] + 1)

    going_on = LambdaCallback(on_load_checkpoint=go_on)
    trainer = make_trainer(cfg, loggers, fit.epochs, [saving, going_on, *watchers])
    data.trainer = trainer
    data.train_set = held(data.train_images)
    loader = data.resumable_dataloader(cfg.seed)
    seed_everything(cfg.seed, workers=True, verbose=False)
    representation = make_representation(cfg)
    trainer.fit(
        representation,
        loader,
        ckpt_path=checkpoint if checkpoint.is_file() else None,
        weights_only=True,
    )
    metrics = trainer.callback_metrics
    figures: dict[str, Any] = {
        "n_train": len(data.split.train),
        "epochs": fit.epochs,
        "steps": trainer.global_step,
        **{name: float(metrics[name]) for name in ("loss", "chance") if name in metrics},
        "seconds": time.perf_counter() - started,
    }
    if trainer.is_global_zero:
        write_whole(folder / FIGURES, to_json(figures))
        save_encoder(representation.encoder, cfg.representation.patches, target)
        checkpoint.unlink(missing_ok=True)
    trainer.strategy.barrier()
    return figures
