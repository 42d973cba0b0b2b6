"""The LightningModule of all methods: backbone, projector, objective and postprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from occ_lab import backbones
from occ_lab.backbones.base import Backbone, FrozenBackbone
from occ_lab.data.batches import AnyBatch, Batch, as_batch, batch_size_of
from occ_lab.data.tiled_images import TilesOfImage
from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import (
    Frame,
    describe_frame,
    frame_of,
)
from occ_lab.data.value_range import SIXTEEN_BITS
from occ_lab.features.regions import (
    contents,
    level_contents,
    listed,
    valid_positions,
)
from occ_lab.metrics.collapse import check_collapse
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.objectives.base import Objective, observe_valid
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.postprocessing.prediction import Prediction, prediction
from occ_lab.postprocessing.scoring import ScoringModule
from occ_lab.projectors import MakeProjector
from occ_lab.utils.errors import InputError
from occ_lab.utils.merging import append
from occ_lab.utils.optimizers import MakeOptimizer, MakeScheduler, optimizing
from occ_lab.utils.precision import check_training_precision
from occ_lab.utils.processes import gathered_objects
from occ_lab.utils.specs import made_of, spec_or_reason


class Detector(ScoringModule):
    """A backbone, a projector over its levels and an objective over the projected map.

    A batch is a dictionary, a pair of images and labels, or a tensor of images. A dictionary has
    ``image`` ``[B, 3, h, w]`` in 0..1 or the cached ``levels`` of a frozen backbone; for tests also
    ``label`` ``[B]``; and optionally ``mask`` ``[B, h, w]``, ``regions`` (see `TaskImages`),
    ``path``, ``index`` and ``box`` ``[B, 4]``. The box is the part of h × w that the image fills,
    if not all of it; its surroundings have no effect on anything. Training batches contain normal
    images only.

    New images are scored by `score`, see `occ_lab.postprocessing.scoring.ScoringModule`.

    A checkpoint is sufficient to rebuild the detector: ``Detector.load_from_checkpoint(path)``. It
    contains what was learned, and the name and identity of a frozen backbone, but not its weights.

    Args:
        backbone: computes levels from images; or the name of a preset, see
            `occ_lab.backbones.create`.
        objective: computes a loss and scores from feature maps; by default the norm-space objective
            in closed form.
        projector: computes a feature map from levels, or makes a projector for the channels of the
            levels; by default the one that suits the objective.
        optimizer: makes an optimizer of the trained parameters; by default that of the objective.
        scheduler: makes a learning-rate schedule with one step per epoch.
        postprocess: computes image scores and anomaly maps from scores.
        preprocessing: resizes and crops images in `score`; by default that of the data module used
            in the fit.
        trust: packages whose classes a checkpoint may name, in addition to those of OCC Lab.

    Raises:
        InputError: a preset is unknown, weights are not available, or a class in a checkpoint is
            neither ours nor trusted.

    Example:
        >>> from occ_lab.backbones import TimmBackbone
        >>> backbone = TimmBackbone("resnet10t", weights="random")
        >>> detector = Detector(backbone, Norm(solver="gradient")).eval()
        >>> scores = detector(torch.rand(2, 3, 64, 64))
        >>> scores.score.shape, scores.map.shape
        (torch.Size([2]), torch.Size([2, 64, 64]))
    """

    def __init__(
        self,
        backbone: Backbone | str | Mapping[str, Any] = "efficientnet_lite0",
        objective: Objective | Mapping[str, Any] | None = None,
        projector: nn.Module | MakeProjector | Mapping[str, Any] | None = None,
        optimizer: MakeOptimizer | Mapping[str, Any] | None = None,
        scheduler: MakeScheduler | Mapping[str, Any] | None = None,
        postprocess: PostProcess | Mapping[str, Any] | None = None,
        preprocessing: Frame | Mapping[str, Any] | None = None,
        trust: Sequence[str] = (),
    ) -> None:
        super().__init__()

        def part(given: Any) -> Any:
            return made_of(given, trust) if isinstance(given, Mapping) else given

        given = part(backbone)
        self.backbone = backbones.create(given) if isinstance(given, str) else given
        chosen = part(projector)
        self.objective = part(objective) or Norm()
        if chosen is None:
            chosen = self.objective.default_projector
        self.projector = chosen if isinstance(chosen, nn.Module) else chosen(self.backbone.channels)
        self.objective.build(self.projector.out_channels)
        self.optimizer: MakeOptimizer | None = part(optimizer)
        self.scheduler: MakeScheduler | None = part(scheduler)
        self.postprocess: PostProcess = part(postprocess) or PostProcess()
        if isinstance(preprocessing, Mapping):
            # Earlier versions did not store the range; it was always that of 16 bits.
            preprocessing = frame_of({"range": SIXTEEN_BITS, **preprocessing})
        self.preprocessing: Frame | None = preprocessing
        if isinstance(preprocessing, Tiles):
            self.objective.see_tiles(self.projector)
        self.automatic_optimization = not self.objective.one_pass
        if self.objective.one_pass:
            # Each process takes as many steps as its part of the images has batches. DDP requires
            # a trained parameter, and would synchronise all buffers at every step.
            self.untrained = nn.Parameter(torch.zeros(()))
            self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self.evaluation = Evaluation()
        self.backbone_prepared = False
        # What its objective has already of its single pass: the sums, or also their solution.
        self.known: Literal["nothing", "pass", "solution"] = "nothing"
        self._test_scores: list[Tensor] = []
        self._resumed: Mapping[str, Any] | None = None
        self.save_hyperparameters(self._description(), logger=False)

    def _description(self) -> dict[str, Any]:
        """The arguments of the constructor as plain data, to be stored in a checkpoint."""
        parts = {
            "backbone": self.backbone,
            "objective": self.objective,
            "projector": self.projector,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "postprocess": self.postprocess,
        }
        described = {name: spec_or_reason(each) for name, each in parts.items()}
        frame = self.preprocessing
        return {**described, "preprocessing": None if frame is None else describe_frame(frame)}

    @property
    def trainable(self) -> int:
        """The number of values that are learned by gradient."""
        if self.objective.one_pass:
            return 0
        return sum(each.numel() for each in self.parameters() if each.requires_grad)

    # Training

    def setup(self, stage: str) -> None:
        """Read from the data what is needed to create the optimizer.

        These are the preprocessing of the data module and, for some projectors, the size of maps.

        Raises:
            InputError: the Trainer's precision is not one of `check_training_precision`.
        """
        check_training_precision(self.trainer.precision)
        frame = getattr(self._data, "preprocessing", None)
        if frame is not None and (stage == "fit" or self.preprocessing is None):
            self.see(frame)
        if stage == "fit" and self.projector.needs_size and not self.objective.one_pass:
            self.eval()
            for levels in islice(self._training_levels(), 1):
                self.projector.build(levels[0].shape[-2:])
            self.train()

    def see(self, frame: Frame) -> None:
        """Use this preprocessing from now on; call it before anything is learned."""
        self.preprocessing = frame
        if isinstance(frame, Tiles):
            self.objective.see_tiles(self.projector)
        self.hparams["preprocessing"] = describe_frame(frame)

    @property
    def _data(self) -> Any:
        """The data module of the trainer, or None."""
        return getattr(self._trainer, "datamodule", None)

    def on_fit_start(self) -> None:
        """Pass the training set once to the backbone, projector and objective that require it."""
        if self._resumed is not None:  # the checkpoint already contains the results
            torch.set_rng_state(self._resumed["random_state"])
            self._resumed = None
            return
        self.prepare_backbone(self._training_batches)
        if self.projector.needs_setup or self.objective.needs_setup:
            self.eval()
            # The projector comes first, because the objective's maps depend on it.
            if self.projector.needs_setup:
                self.projector.setup(self._training_levels())
            if self.objective.needs_setup:
                self.objective.setup(self._training_maps())
            self.train()

    def prepare_backbone(self, batches: Callable[[], Iterable[AnyBatch]]) -> None:
        """Pass the training images once to a trained backbone, before anything else.

        Args:
            batches: returns the training batches; it is called once, and only for such a backbone.
        """
        if self.backbone.trained and not self.backbone_prepared:
            self.backbone.prepare(as_batch(batch)["image"] for batch in batches())
            self.backbone_prepared = True

    def _training_batches(self) -> Iterable[AnyBatch]:
        """All training images in order, in every process."""
        if hasattr(self._data, "setup_dataloader"):
            ours: Iterable[AnyBatch] = self._data.setup_dataloader()
            return ours
        _ = self.trainer.estimated_stepping_batches  # makes Lightning create the loader
        given: Any = self.trainer.train_dataloader
        if not hasattr(given.dataset, "__getitem__"):
            streamed: Iterable[AnyBatch] = given
            return streamed
        return DataLoader(
            given.dataset,
            batch_size=given.batch_size or 1,
            num_workers=given.num_workers,
            collate_fn=given.collate_fn,
        )

    @torch.no_grad()
    def _training_levels(self) -> Iterator[list[Tensor]]:
        for levels, valid in self._training_features():
            yield from [levels] if valid is None else level_contents(levels, valid)

    @torch.no_grad()
    def _training_features(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """Levels, and the positions that belong to the image, see `valid`."""
        for batch in self._training_batches():
            moved = self.transfer_batch_to_device(as_batch(batch), self.device, 0)
            levels = self.levels(moved)
            yield levels, self.valid(moved, levels[0])

    @torch.no_grad()
    def _training_maps(self) -> Iterator[Tensor]:
        for levels, valid in self._training_features():
            z = self.projector(levels)
            yield from [z] if valid is None else contents([z], valid)

    def on_train_epoch_start(self) -> None:
        """Inform the objective that a new epoch starts."""
        self.objective.start_epoch(self.current_epoch)

    def valid(self, batch: Batch, like: Tensor) -> Tensor | None:
        """The positions of maps ``[B, C, H, W]`` that belong to the image; None if all do.

        Returns:
            bool ``[B, H, W]``, a rectangle for each image.
        """
        boxes, grid = batch.get("box"), like.shape[-2:]
        if boxes is None or grid == (1, 1):
            return None
        return valid_positions(boxes, self._size(batch) or self.frame.size, grid, like.device)

    def project(self, batch: Batch) -> Tensor:
        """The projected map ``[B, C, H, W]`` of a batch."""
        projected: Tensor = self.projector(self.levels(batch))
        return projected

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of all parameters that are learned by gradient."""
        if self.objective.one_pass:
            return None
        make = self.optimizer or self.objective.configure_optimizer
        return optimizing(self.parameters(), make, self.scheduler)

    def on_train_batch_start(self, batch: AnyBatch, batch_index: int) -> int | None:
        """End a pass whose result is known before its first batch."""
        return None if self.known == "nothing" else -1

    def training_step(self, batch: AnyBatch, batch_index: int) -> Tensor | None:
        """The objective's loss on a batch of normal images, if it has one."""
        batch = as_batch(batch)
        if self.objective.one_pass:
            levels = self.levels(batch)
            observe_valid(self.objective, levels, self.valid(batch, levels[0]))
            return None
        loss = self._log_loss("loss", batch)
        facts, size = self.objective.facts(), batch_size_of(batch)
        self.log_dict(facts, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: AnyBatch, batch_index: int) -> None:
        """Log ``val_loss``, the loss on held-out normal images."""
        if not self.objective.one_pass:
            self._log_loss("val_loss", as_batch(batch))

    def _log_loss(self, name: str, batch: Batch) -> Tensor:
        z = self.project(batch)
        valid = self.valid(batch, z)
        loss = self.objective.loss(z if valid is None else listed(z, valid))
        size = batch_size_of(batch)
        together = name != "loss"  # all processes must agree on early stopping
        self.log(
            name,
            loss,
            prog_bar=True,
            on_step=False,
            on_epoch=True,
            batch_size=size,
            sync_dist=together,
        )
        return loss

    def on_train_epoch_end(self) -> None:
        """Finish an objective that learns in one pass."""
        if self.objective.one_pass and self.known != "solution":
            self.objective.finish(self.projector)
        self.known = "nothing"

    def on_train_end(self) -> None:
        """Let the objective log what the user should know after the last step."""
        if not self.objective.one_pass:
            self.objective.conclude()

    # Test and prediction

    def on_test_epoch_start(self) -> None:
        """Discard the images of an earlier test."""
        self.evaluation.reset()
        self._test_scores = []

    def test_step(  # type: ignore[override]  # Lightning passes the result to callbacks
        self, batch: AnyBatch, batch_index: int
    ) -> Prediction:
        """Score a batch and add it to the metrics.

        Raises:
            InputError: the batch has no labels.
        """
        batch = as_batch(batch)
        if "label" not in batch:
            raise InputError("test batches need a label for each image: 0 normal, 1 anomalous")
        patch_scores, maps, scores = self.batch_scores(batch)
        self.evaluation.update_batch(batch, maps, scores)
        append(self._test_scores, scores.detach())
        return prediction(batch, patch_scores, maps, scores, keep_maps=False)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test.

        Raises:
            InputError: all images score the same.
        """
        self._check_collapse()
        self.log_dict(self.evaluation.compute())
        self.evaluation.reset()
        self._test_scores = []

    def _check_collapse(self) -> None:
        scores = torch.cat(self._test_scores).cpu().double()
        found = gathered_objects([(scores.min(), scores.max(), len(scores))])
        low, high, counts = zip(*found, strict=True)
        check_collapse(torch.stack([*low, *high]), sum(counts))

    def predict_step(self, batch: AnyBatch, batch_index: int) -> Prediction:
        """Scores, maps, labels and paths of a batch."""
        batch = as_batch(batch)
        patch_scores, maps, scores = self.batch_scores(batch)
        return prediction(batch, patch_scores, maps, scores)

    def batch_scores(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """Patch scores ``[B, H, W]``, maps ``[B, h, w]`` if any, and scores ``[B]`` of a batch.

        For an image in tiles, see `TiledImages`, maps have one pixel for each position.
        """
        if "tiles" in batch:
            tiles: TilesOfImage = batch["tiles"]
            patches = self.stitched(tiles.batches(), tiles.size)
            return patches[None], *self.postprocess.stitched(patches, tiles.size)
        patch_scores = self.score_levels(self.levels(batch))
        maps, scores = self.maps_and_scores(patch_scores, self._size(batch), batch.get("box"))
        return patch_scores, maps, scores

    def _size(self, batch: Batch) -> tuple[int, int] | None:
        """Height and width of the images of a batch, if it or its data module provides them."""
        shown = batch.get("image", batch.get("mask"))
        if shown is not None:
            return (shown.shape[-2], shown.shape[-1])
        frame = getattr(self._data, "preprocessing", None)
        return None if frame is None else frame.size

    # Checkpoints

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: Any, *arguments: Any, trust: Sequence[str] = (), **given: Any
    ) -> Detector:
        """Rebuild the detector from a checkpoint, see Lightning's method of this name.

        The trusted packages are never read from the checkpoint, because it may come from anybody.
        """
        return super().load_from_checkpoint(checkpoint_path, *arguments, trust=trust, **given)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the weights of a frozen backbone; keep its identity."""
        if isinstance(self.backbone, FrozenBackbone):
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {
                name: value for name, value in state.items() if not name.startswith("backbone.")
            }
            checkpoint["backbone"] = self.backbone.identity
        if "optimizer_states" in checkpoint:  # training can resume from here, in the same order
            checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a frozen backbone is the one that the checkpoint was made with."""
        if self._trainer is not None and "random_state" in checkpoint:
            self._resumed = checkpoint
        if not isinstance(self.backbone, FrozenBackbone):
            return
        stored = str(checkpoint.get("backbone", ""))
        if stored != self.backbone.identity:
            raise InputError(
                "the checkpoint was made with another backbone or other weights "
                f"({stored[:12]}) than the present one ({self.backbone.identity[:12]})",
                part="backbone",
            )
        checkpoint["state_dict"].update(
            {f"backbone.{name}": value for name, value in self.backbone.state_dict().items()}
        )
