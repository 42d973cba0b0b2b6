"""What several jobs in one process share, such as those of a sweep: their passes and tests."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from torch import nn

from occ_lab.detector import Detector
from occ_lab.features.dataset import TaskFeatures
from occ_lab.objectives.base import Objective
from occ_lab.utils.memo import Memo


class SharedPass(Callback):
    """Takes the result of a single pass from a memo, or keeps it there for later jobs.

    The objective then gets exactly what its own pass would have given: the key covers the files of
    the images and their order, the backbone, the batches, the device, the precision and the
    settings that the result depends on. Only passes over cached features are shared, because images
    may be rotated or cropped at random.

    Args:
        memo: what earlier jobs of the process have kept.
        sums: whether the objective needs the result of the pass itself, not only what it has
            solved from it.
    """

    def __init__(self, memo: Memo, sums: bool) -> None:
        self.memo = memo
        self.sums = sums
        self.key: str | None = None
        self.solution: str | None = None
        self.found = False
        self.batches = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the solution or else the result from the memo, if it is there."""
        assert isinstance(pl_module, Detector)
        self.key = pass_key(trainer, pl_module)
        self.solution = solution_key(self.key, pl_module)
        self.found, self.batches = True, 0
        if not self.sums and self.solution and (states := self.memo.get(self.solution)):
            for part, state in zip(learned_parts(pl_module), states, strict=True):
                part.load_state_dict(state, assign=True)
            pl_module.known = "solution"
        elif self.key and (kept := self.memo.get(self.key)):
            for name, value in copy.deepcopy(kept).items():
                setattr(pl_module.objective, name, value)
            pl_module.known = "pass"
        else:
            self.found = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *outputs: Any
    ) -> None:
        """Count the batches."""
        self.batches += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the result of a complete pass, just before the objective uses it."""
        assert isinstance(pl_module, Detector)
        if self.found:
            trainer.fit_loop.epoch_loop._batches_that_stepped = int(trainer.num_training_batches)
        if self.key is None or self.found or self.batches < trainer.num_training_batches:
            return
        objective = pl_module.objective
        objective.prepare()
        result = {name: getattr(objective, name) for name in objective.of_pass}
        self.memo.keep(self.key, copy.deepcopy(result))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the solution."""
        assert isinstance(pl_module, Detector)
        if self.solution and not self.sums and pl_module.known != "solution":
            states = [part.state_dict() for part in learned_parts(pl_module)]
            self.memo.keep(self.solution, states)


def learned_parts(detector: Detector) -> tuple[nn.Module, nn.Module]:
    """The parts of a detector that learn on frozen features."""
    return detector.projector, detector.objective


def solution_key(key: str | None, detector: Detector) -> str | None:
    """A digest of everything that determines what is made of a pass; None if it is not shared.

    Args:
        key: of the pass.
        detector: whose pass it is.
    """
    settings = own_settings(detector.objective, "finish_settings")
    if key is None or settings is None or not is_ours(detector.projector):
        return None
    projector = detector.hparams["projector"]
    return digest("solution", {"pass": key, "settings": settings, "projector": projector})


def log_test(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Log metrics as a test of the trainer would, in single precision."""
    values = {name: torch.tensor(value).item() for name, value in metrics.items()}
    for logger in trainer.loggers:
        logger.log_metrics(
            {**values, "epoch": trainer.current_epoch},
            trainer.fit_loop.epoch_loop._batches_that_stepped,
        )
        logger.save()


def pass_key(trainer: Trainer, detector: Detector) -> str | None:
    """A digest of everything that determines the result of a pass; None if it is not shared."""
    objective = detector.objective
    settings = own_settings(objective, "pass_settings")
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    samples = data.train_set
    usual = all(
        isinstance(each, ProgressBar) or is_ours(each)
        for each in trainer.callbacks  # type: ignore[attr-defined]
    )
    whole = trainer.num_training_batches == -(-len(samples) // data.batch_size)
    unlimited = trainer.max_steps == -1 and not trainer.overfit_batches  # type: ignore[attr-defined]
    if settings is None or not isinstance(samples, TaskFeatures) or not samples.identity:
        return None
    if not (usual and whole and unlimited and trainer.world_size == 1):
        return None
    order = b"" if objective.in_order else torch.get_rng_state().numpy().tobytes()
    images = samples.rows.tobytes()
    facts = {
        "features": samples.identity,
        "rows and order": hashlib.sha256(images + order).hexdigest(),
        "batch_size": data.batch_size,
        "device": str(detector.device),
        "precision": [str(trainer.precision), str(detector.dtype)],
        "objective": [f"{type(objective).__module__}.{type(objective).__qualname__}", settings],
    }
    return digest("pass", facts)


def outcome_key(trainer: Trainer, detector: Detector) -> str | None:
    """A digest of everything that determines the outcome of a test; None if it is not shared."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    samples, settings = data.test_set, own_settings(detector.objective, "score_settings")
    solution = next(
        (each.solution for each in trainer.callbacks if isinstance(each, SharedPass)),  # type: ignore[attr-defined]
        None,
    )
    if solution is None or settings is None or not is_ours(detector.postprocess):
        return None
    if not isinstance(samples, TaskFeatures) or not samples.identity:
        return None
    facts = {
        "solution": solution,
        "settings": settings,
        "aupro_limit": detector.evaluation.aupro_limit,
        "segmentation": detector.evaluation.threshold,
        "postprocess": detector.hparams["postprocess"],
        "preprocessing": detector.hparams["preprocessing"],
        "features": samples.identity,
        "images": [[str(each), each.label, file_facts(each.mask)] for each in data.split.test],
        "drawn": samples.images.drawing,
        "batch_size": data.eval_batch_size,
    }
    return digest("test", facts)


def own_settings(objective: Objective, method: str) -> dict[str, Any] | None:
    """What a method of an objective returns; None if its class does not define the method itself.

    An inherited method knows nothing of what the class adds.
    """
    if method not in vars(type(objective)):
        return None
    settings: dict[str, Any] | None = getattr(objective, method)()
    return settings


def is_ours(made: object) -> bool:
    """Whether the class of an object is one of this package."""
    return type(made).__module__.startswith("occ_lab.")


def file_facts(path: Path | None) -> list[Any] | None:
    """What identifies the content of a file."""
    if path is None:
        return None
    status = path.stat()
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]


def digest(kind: str, facts: dict[str, Any]) -> str:
    """A unique name for what the facts determine."""
    return hashlib.sha256(json.dumps([kind, facts], sort_keys=True).encode()).hexdigest()
