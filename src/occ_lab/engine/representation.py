"""Stage 1 for one task: an encoder is trained on normal images and written to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import seed_everything
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.loggers import Logger

from occ_lab.backbones.learned import save_encoder
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.engine.checkpoints import Saving, resumed_from
from occ_lab.engine.job import MakeTrainer, plain_trainer
from occ_lab.features.dataset import in_memory
from occ_lab.pretraining.representation import Representation
from occ_lab.reporting.record import to_json
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import write_whole
from occ_lab.utils.quiet import quiet_lightning

FIGURES = "stage1.json"
CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class RepresentationPlan:
    """How the encoders of stage 1 are trained.

    Args:
        module: makes an untrained representation; its random weights come from the global seed.
        name: the name of the representation in results.
        epochs: the number of epochs, at least 1.
        batch_size: the number of images or patches in a step of one process, at least 1.
        save_every: the number of epochs between the checkpoints that a stopped training is resumed
            from, at least 1.
        workers: the number of processes that read images; 0 reads them in the main process.
        seed: the seed of initial weights and of the order of the images, at least 0.
        trainer: makes a Trainer from loggers, callbacks and a number of epochs.

    Raises:
        ValueError: a number is out of range; the message begins with its name.
    """

    module: Callable[[], Representation]
    name: str
    epochs: int = 100
    batch_size: int = 32
    save_every: int = 10
    workers: int = 0
    seed: int = 0
    trainer: MakeTrainer = plain_trainer

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "save_every"):
            check_number(name, getattr(self, name), at_least=1, integer=True)
        for name in ("workers", "seed"):
            check_number(name, getattr(self, name), at_least=0, integer=True)


def check_side(representation: Representation, benchmark: Benchmark) -> None:
    """Check that the images of a benchmark, or patches of them, fit an encoder.

    Raises:
        InputError: the size of the images does not match, or they are smaller than the patches.
    """
    side = representation.encoder.side
    if benchmark.tile is not None:
        raise InputError("tile: an encoder is not trained on tiles; set it to null", "dataset")
    if representation.patches and side > benchmark.resize:
        raise InputError(
            f"encoder.side: patches of {side} px are larger than the images, which are resized to "
            f"{benchmark.resize} px",
            part="representation",
        )
    if representation.patches and benchmark.crop != "whole" and side > benchmark.crop:
        raise InputError(
            f"encoder.side: patches of {side} px are larger than the images, which are cropped to "
            f"{benchmark.crop} px",
            part="representation",
        )
    if not representation.patches and side != benchmark.crop:
        kept = "kept whole" if benchmark.crop == "whole" else f"cropped to {benchmark.crop} px"
        raise InputError(
            f"encoder.side: {side} px, but images are {kept}; set the crop to {side} px, or "
            "patches above 0",
            part="representation",
        )


def learn(
    plan: RepresentationPlan,
    benchmark: Benchmark,
    task: str,
    folder: Path,
    target: Path,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train an encoder on a task's normal images, from a checkpoint if there is one.

    A training that is stopped and resumed ends with bit-identical weights.

    Args:
        plan: how it is trained.
        benchmark: provides the images.
        task: one of its tasks.
        folder: the folder for the checkpoint, ``last.ckpt``, which is removed after the last epoch,
            and for ``stage1.json``, which contains the returned figures.
        target: the file for the encoder; it is written last.
        loggers: loggers for the loss.
        callbacks: callbacks for the training.

    Returns:
        ``n_train``, ``epochs``, ``steps``, the last epoch's ``loss`` and its ``chance`` level
        (unless that epoch ended before a stop), and the ``seconds`` of this process.
    """
    started = time.perf_counter()
    checkpoint = folder / CHECKPOINT
    saving = Saving(checkpoint, plan.save_every)

    def resume(trainer: Any, module: Any, state: dict[str, Any]) -> None:
        # Lightning sets the sampler's epoch too late: worker processes have already read ahead.
        sampler: Any = loader.sampler
        sampler.set_epoch(state["epoch"] + 1)

    resuming = LambdaCallback(on_load_checkpoint=resume)
    trainer = plan.trainer(loggers, [saving, resuming, *callbacks], plan.epochs)
    seed_everything(plan.seed, workers=True, verbose=False)
    representation = plan.module()
    images = max(1, plan.batch_size // max(1, representation.patches))
    data = AnomalyDataModule(benchmark, task, images, workers=plan.workers)
    data.prepare_data()
    data.trainer = trainer  # its processes share the images
    data.train_set = in_memory(data.train_images)
    loader = data.resumable_dataloader(plan.seed)
    with quiet_lightning():
        trainer.fit(
            representation,
            loader,
            ckpt_path=resumed_from(checkpoint),
            weights_only=True,
        )
    metrics = trainer.callback_metrics
    figures: dict[str, Any] = {
        "n_train": len(data.split.train),
        "epochs": plan.epochs,
        "steps": trainer.global_step,
        **{name: float(metrics[name]) for name in ("loss", "chance") if name in metrics},
        "seconds": time.perf_counter() - started,
    }
    if trainer.is_global_zero:
        write_whole(folder / FIGURES, to_json(figures))
        save_encoder(representation.encoder, representation.patches, target)
        checkpoint.unlink(missing_ok=True)
    trainer.strategy.barrier()
    return figures
