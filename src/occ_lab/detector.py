"""The LightningModule of all methods: backbone, projector, objective and postprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from occ_lab import backbones
from occ_lab.backbones.base import Backbone, FrozenBackbone
from occ_lab.data.any_image import AnyImage, as_images, as_rgb
from occ_lab.data.batches import AnyBatch, Batch, as_batch, batch_size_of
from occ_lab.data.tiled_images import TilesOfImage, tile_batches
from occ_lab.data.tiling import Stitching, Tiles
from occ_lab.data.transforms import (
    Frame,
    Preprocessing,
    at_full_size,
    describe_frame,
    frame_of,
)
from occ_lab.data.value_range import SIXTEEN_BITS
from occ_lab.features.levels import pieces
from occ_lab.features.regions import (
    contents,
    framed_levels,
    level_contents,
    listed,
    valid_positions,
)
from occ_lab.metrics.collapse import check_collapse
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.objectives.base import Objective
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.postprocessing.prediction import Prediction, Scores, prediction
from occ_lab.projectors import MakeProjector
from occ_lab.utils.errors import InputError
from occ_lab.utils.merging import append
from occ_lab.utils.optimizers import MakeOptimizer, MakeScheduler, optimizing
from occ_lab.utils.precision import check_training_precision
from occ_lab.utils.processes import gathered_objects
from occ_lab.utils.specs import made_of, spec_or_reason


class Detector(LightningModule):
    """A backbone, a projector over its levels and an objective over the projected map.

    A batch is a dictionary, a pair of images and labels, or a tensor of images. A dictionary has
    ``image`` ``[B, 3, h, w]`` in 0..1 or the cached ``levels`` of a frozen backbone; for tests also
    ``label`` ``[B]``; and optionally ``mask`` ``[B, h, w]``, ``regions`` (see `TaskImages`),
    ``path``, ``index`` and ``box`` ``[B, 4]``. The box is the part of h × w that the image fills,
    if not all of it; its surroundings have no effect on anything. Training batches contain normal
    images only.

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

    backbone: Backbone
    projector: Any
    objective: Objective

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

    # Scores

    def forward(self, image: Tensor) -> Scores:
        """Scores and maps of images.

        Args:
            image: float ``[B, 3, h, w]`` in 0..1.

        Returns:
            Scores ``[B]`` and maps ``[B, h, w]``.
        """
        size = (image.shape[-2], image.shape[-1])
        maps, scores = self.maps_and_scores(self.patch_scores(image), size)
        return Scores(scores, maps)

    def patch_scores(self, image: Tensor) -> Tensor:
        """Scores ``[B, H, W]`` on the grid of the features, of images ``[B, 3, h, w]`` in 0..1."""
        return self.score_levels(self.backbone(image))

    def score_levels(self, levels: Sequence[Tensor]) -> Tensor:
        """Scores ``[B, H, W]`` of levels ``[B, C_l, H_l, W_l]``."""
        scores = [self.objective(self.projector(piece)) for piece in pieces(levels)]
        return torch.cat(scores)

    def stitched(self, batches: Iterable[Batch], size: tuple[int, int]) -> Tensor:
        """The scores ``[H, W]`` of an image in tiles; only a few tiles are in memory at a time.

        Args:
            batches: its tiles in the order of `Tiles.origins`, a few at a time.
            size: height and width of the image.
        """
        frame = self.frame
        assert isinstance(frame, Tiles)
        stitching = Stitching(frame, size)
        for batch in batches:
            moved = self.transfer_batch_to_device(batch, self.device, 0)
            stitching.add(self.score_levels(self.levels(moved)).float())
        return stitching.map

    def maps_and_scores(
        self,
        patch_scores: Tensor,
        size: tuple[int, int] | None = None,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """Anomaly maps, if there are any, and image scores.

        Args:
            patch_scores: ``[B, H, W]``.
            size: height and width of the maps; by default those of preprocessed images.
            boxes: the parts of the maps that the images fill, ``[B, 4]``; None if they fill them.

        Returns:
            Maps ``[B, h, w]`` or None, and scores ``[B]``; see `PostProcess.framed`.
        """
        return self.postprocess.framed(patch_scores, size or self.frame.size, boxes)

    @property
    def frame(self) -> Frame:
        """The preprocessing of the fit; by default, a resize to 256 and a crop to 224 pixels."""
        return self.preprocessing or Preprocessing()

    @torch.inference_mode()
    def score(
        self, images: AnyImage | Iterable[AnyImage], batch_size: int = 32, maps: bool = True
    ) -> Scores:
        """Score images of any size and form.

        Args:
            images: one or many: paths of files, PIL images, arrays uint8 ``[h, w]`` or
                ``[h, w, 3]``, tensors ``[3, h, w]`` (uint8, or floats in 0..1), a batch of these,
                or any iterable of them, such as a generator or ``Path("parts").glob("*.png")``.
            batch_size: the number of images that pass through the network at once.
            maps: whether to return anomaly maps, which take four bytes per pixel of an image.

        Returns:
            Scores ``[N]`` and the maps of the images at their full size, on the CPU: one tensor
            ``[N, h, w]`` if all images have the same size, otherwise a list of ``[h, w]``. Pixels
            that the detector does not see, because images are cropped, are zero.

        Raises:
            OSError: a file cannot be read.
            ValueError: an array or tensor is not an image, or there is no image.

        Example:
            >>> from occ_lab.backbones import TimmBackbone
            >>> backbone = TimmBackbone("resnet10t", weights="random")
            >>> objective = Norm(solver="gradient")
            >>> detector = Detector(backbone, objective, preprocessing=Preprocessing(64, 64))
            >>> detector.score(np.zeros((80, 100, 3), np.uint8)).map.shape
            torch.Size([1, 80, 100])
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        was_training = self.training
        self.eval()
        scores: list[Tensor] = []
        kept: list[Tensor] = []
        remaining = iter(as_images(images))
        if isinstance(self.frame, Tiles):
            batch_size = 1  # images differ in size and may be large
        while batch := list(islice(remaining, batch_size)):
            full = [as_rgb(image, self.frame.range) for image in batch]
            sizes = [(pixels.shape[0], pixels.shape[1]) for pixels in full]
            found = self.score_pixels(np.stack([self.frame(pixels) for pixels in full]), sizes)
            scores.append(found.score)
            if maps and found.map is not None:
                kept += [
                    self.full_map(each, size) for each, size in zip(found.map, sizes, strict=True)
                ]
        self.train(was_training)
        if not scores:
            raise ValueError("there is no image to score")
        if not kept:
            return Scores(torch.cat(scores), None)
        same = len({each.shape for each in kept}) == 1
        return Scores(torch.cat(scores), torch.stack(kept) if same else kept)

    def score_pixels(
        self, pixels: np.ndarray, sizes: Sequence[tuple[int, int]] | None = None
    ) -> Scores:
        """Score preprocessed images; the result is on the CPU.

        Args:
            pixels: uint8 ``[N, h, w, 3]``.
            sizes: height and width of each image before preprocessing; None if the images fill
                their frame.

        Returns:
            Scores ``[N]`` and maps ``[N, h, w]`` of the preprocessed images.
        """
        if isinstance(self.frame, Tiles):
            found = [self._score_in_tiles(each, self.frame) for each in pixels]
            return Scores(*(torch.cat(part) for part in zip(*found, strict=True)))
        image = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        boxes = None if sizes is None else torch.tensor([self.frame.box(*each) for each in sizes])
        patches = self.score_levels(self.levels({"image": image.to(self.dtype), "box": boxes}))
        maps, scores = self.maps_and_scores(patches, (pixels.shape[1], pixels.shape[2]), boxes)
        return Scores(scores.float().cpu(), None if maps is None else maps.float().cpu())

    def _score_in_tiles(self, pixels: np.ndarray, frame: Tiles) -> tuple[Tensor, Tensor]:
        """Score ``[1]`` and map ``[1, H, W]`` of an image, uint8 ``[h, w, 3]``."""
        size = (pixels.shape[0], pixels.shape[1])
        patches = self.stitched(tile_batches(pixels, frame), size)
        maps, scores = self.postprocess.stitched(patches, size)
        return scores, maps

    def scores_of(
        self, batches: Iterable[Batch], size: tuple[int, int]
    ) -> tuple[Tensor | None, Tensor]:
        """Map and score of an image whose levels are available.

        Args:
            batches: one batch with a single image, or the batches of its tiles.
            size: height and width of the image.

        Returns:
            As `maps_and_scores`.
        """
        if isinstance(self.frame, Tiles):
            return self.postprocess.stitched(self.stitched(batches, size), size)
        (batch,) = batches
        return self.maps_and_scores(self.score_levels(batch["levels"]), None, batch["box"])

    def full_map(self, seen: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize a map of preprocessed pixels, ``[h, w]``, to the full size of the image."""
        return at_full_size(seen, self.frame.box(*size), self.frame.shown(*size), size)

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

    def levels(self, batch: Batch) -> list[Tensor]:
        """The levels ``[B, C_l, H_l, W_l]`` of a batch of images, cached or computed."""
        if "levels" in batch:
            return [level.to(self.dtype) for level in batch["levels"]]
        return framed_levels(self.backbone, batch["image"].to(self.dtype), batch.get("box"))

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
            self._observe(batch)
            return None
        loss = self._log_loss("loss", batch)
        facts, size = self.objective.facts(), batch_size_of(batch)
        self.log_dict(facts, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def _observe(self, batch: Batch) -> None:
        """Pass the positions that belong to the images to an objective that learns in one pass."""
        levels = self.levels(batch)
        valid = self.valid(batch, levels[0])
        if valid is None:
            self.objective.observe(levels)
        elif self.objective.located:
            self.objective.observe(levels, valid)  # type: ignore[call-arg]
        else:
            for part in contents(levels, valid):
                self.objective.observe([part])

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
