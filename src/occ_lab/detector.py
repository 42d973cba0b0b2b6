"""The LightningModule of every method: backbone, projector, objective and postprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

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
from occ_lab.utils.optimizers import MakeOptimizer, MakeScheduler, optimizing
from occ_lab.utils.processes import gathered_objects
from occ_lab.utils.specs import made_of, spec_or_reason


class Detector(LightningModule):
    """A backbone, a projector over its levels and an objective over the projected map.

    A batch is a dictionary with ``image`` ``[B, 3, h, w]`` in 0..1 or the cached ``levels`` of a
    frozen backbone, to test also ``label`` ``[B]``, and maybe ``mask`` ``[B, h, w]``, ``path``,
    ``index`` and ``box`` ``[B, 4]``, the part of h × w that is the image, if not all of it (what
    lies around it takes no part in anything); or a pair of images and labels; or images alone.
    Training batches hold normal images.

    A checkpoint is enough to build the detector again: ``Detector.load_from_checkpoint(path)``. It
    holds what was learned and the name and identity of a frozen backbone, not its weights.

    Args:
        backbone: images to levels; or the name of a preset, see `occ_lab.backbones.create`.
        objective: feature maps to a loss and to scores; by default the norm-space objective in
            closed form.
        projector: levels to a feature map, or what makes one for the channels of the levels; by
            default the objective's own choice.
        optimizer: makes an optimizer of the parameters to train; by default the objective's.
        scheduler: makes a schedule of the learning rate, one step an epoch.
        postprocess: scores to image scores and anomaly maps.
        preprocessing: how `score` resizes and crops images; by default as the data module of the
            fit does.
        trust: packages whose classes a checkpoint may name, beside those of OCC Lab.

    Raises:
        InputError: an unknown preset, weights that cannot be had, or a class in a checkpoint that
            is neither ours nor trusted.

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
            # Earlier versions have not stored the range: it was that of 16 bits.
            preprocessing = frame_of({"range": SIXTEEN_BITS, **preprocessing})
        self.preprocessing: Frame | None = preprocessing
        if isinstance(preprocessing, Tiles):
            self.objective.see_tiles(self.projector)
        self.automatic_optimization = not self.objective.one_pass
        if self.objective.one_pass:
            # Of several processes each steps as often as its part of the images has batches. DDP
            # wants something to train, and would wait for all at every step to send its buffers.
            self.untrained = nn.Parameter(torch.zeros(()))
            self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self.evaluation = Evaluation()
        self.backbone_prepared = False
        self._test_scores: list[Tensor] = []
        self._resumed: Mapping[str, Any] | None = None
        self.save_hyperparameters(self._description(), logger=False)

    def _description(self) -> dict[str, Any]:
        """The arguments of the constructor as plain data, for a checkpoint."""
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
        """How many numbers are learned by gradient."""
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
        """The scores ``[H, W]`` of an image in tiles, of which only a few are in memory at once.

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
            boxes: the parts of the maps that are the images, ``[B, 4]``; None where they are all.

        Returns:
            Maps ``[B, h, w]`` or None, and scores ``[B]``; see `PostProcess.framed`.
        """
        return self.postprocess.framed(patch_scores, size or self.frame.size, boxes)

    @property
    def frame(self) -> Frame:
        """How images are brought to one size: as in the fit, else to 256 and 224 pixels."""
        return self.preprocessing or Preprocessing()

    @torch.inference_mode()
    def score(
        self, images: AnyImage | Iterable[AnyImage], batch_size: int = 32, maps: bool = True
    ) -> Scores:
        """Score images of any size, in the form in which a program has them.

        Args:
            images: one or many: paths of files, PIL images, arrays uint8 ``[h, w]`` or
                ``[h, w, 3]``, tensors ``[3, h, w]`` (uint8, or floats in 0..1), a batch of these,
                or any iterable of them, such as a generator or ``Path("parts").glob("*.png")``.
            batch_size: images that go through the network at once.
            maps: whether anomaly maps are kept: each takes four bytes a pixel of the image.

        Returns:
            Scores ``[N]`` and the maps of the images at their full size, on the CPU: one tensor
            ``[N, h, w]`` if all images have one size, else a list of ``[h, w]``. Pixels that the
            detector does not see, since images are cropped, are zero.

        Raises:
            OSError: a file cannot be read.
            ValueError: an array or tensor is no image, or there is none.

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
            batch_size = 1  # images of any size, and large ones
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
            sizes: height and width of each image before it was preprocessed; None where all of the
                pixels are of the image.

        Returns:
            Scores ``[N]`` and maps ``[N, h, w]`` of what the network sees.
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
        """Map and score of an image, of which the levels are there.

        Args:
            batches: one batch of the one image, or those of its tiles.
            size: height and width of the image.

        Returns:
            As `maps_and_scores`.
        """
        if isinstance(self.frame, Tiles):
            return self.postprocess.stitched(self.stitched(batches, size), size)
        (batch,) = batches
        return self.maps_and_scores(self.score_levels(batch["levels"]), None, batch["box"])

    def full_map(self, seen: Tensor, size: tuple[int, int]) -> Tensor:
        """A map of what the network sees, ``[h, w]``, as one of the image of a size."""
        return at_full_size(seen, self.frame.box(*size), self.frame.shown(*size), size)

    # Training

    def setup(self, stage: str) -> None:
        """Take from the data what must be known before there is an optimizer.

        It is the preprocessing of the data module and, for some projectors, the size of the maps.
        """
        frame = getattr(self._data, "preprocessing", None)
        if frame is not None and (stage == "fit" or self.preprocessing is None):
            self.see(frame)
        if stage == "fit" and self.projector.needs_size and not self.objective.one_pass:
            self.eval()
            for levels in islice(self._training_levels(), 1):
                self.projector.build(levels[0].shape[-2:])
            self.train()

    def see(self, frame: Frame) -> None:
        """Bring images to one size in this frame from now on; nothing may have been learned yet."""
        self.preprocessing = frame
        if isinstance(frame, Tiles):
            self.objective.see_tiles(self.projector)
        self.hparams["preprocessing"] = describe_frame(frame)

    @property
    def _data(self) -> Any:
        """The data module of the trainer, or None."""
        return getattr(self._trainer, "datamodule", None)

    def on_fit_start(self) -> None:
        """Let backbone, projector and objective each see the training set once, if they must."""
        if self._resumed is not None:  # what they have seen is in the checkpoint
            torch.set_rng_state(self._resumed["random_state"])
            self._resumed = None
            return
        self.prepare_backbone(self._training_batches)
        if self.projector.needs_setup or self.objective.needs_setup:
            self.eval()
            # First the projector, on which the maps depend that the objective sees.
            if self.projector.needs_setup:
                self.projector.setup(self._training_levels())
            if self.objective.needs_setup:
                self.objective.setup(self._training_maps())
            self.train()

    def prepare_backbone(self, batches: Callable[[], Iterable[AnyBatch]]) -> None:
        """Let a backbone that is trained see the training images once, before anything else.

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
        _ = self.trainer.estimated_stepping_batches  # lets Lightning make the loader
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
        """Levels, and which positions are of the image, see `valid`."""
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
        """Tell the objective which epoch begins."""
        self.objective.start_epoch(self.current_epoch)

    def levels(self, batch: Batch) -> list[Tensor]:
        """The levels ``[B, C_l, H_l, W_l]`` of a batch of images, cached or computed."""
        if "levels" in batch:
            return [level.to(self.dtype) for level in batch["levels"]]
        return framed_levels(self.backbone, batch["image"].to(self.dtype), batch.get("box"))

    def valid(self, batch: Batch, like: Tensor) -> Tensor | None:
        """Which positions of maps ``[B, C, H, W]`` are of the image; None if all of them are.

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
        """The optimizer of all that learns by gradient."""
        if self.objective.one_pass:
            return None
        make = self.optimizer or self.objective.configure_optimizer
        return optimizing(self.parameters(), make, self.scheduler)

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
        """Let an objective that learns in one pass see the positions that are of the image."""
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
        """Log ``val_loss``, the loss on normal images that are held out."""
        if not self.objective.one_pass:
            self._log_loss("val_loss", as_batch(batch))

    def _log_loss(self, name: str, batch: Batch) -> Tensor:
        z = self.project(batch)
        valid = self.valid(batch, z)
        loss = self.objective.loss(z if valid is None else listed(z, valid))
        size = batch_size_of(batch)
        together = name != "loss"  # processes agree on when to stop early
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
        """After its one pass, let the objective conclude."""
        if self.objective.one_pass:
            self.objective.finish(self.projector)

    def on_train_end(self) -> None:
        """After the last step, let the objective report what is worth knowing."""
        if not self.objective.one_pass:
            self.objective.conclude()

    # Test and prediction

    def on_test_epoch_start(self) -> None:
        """Begin without the images of an earlier test."""
        self.evaluation.reset()
        self._test_scores = []

    def test_step(  # type: ignore[override]  # Lightning hands what is returned to callbacks
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
        self._test_scores.append(scores.detach())
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
        scores = torch.cat(self._test_scores).double().cpu()
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

        Of an image in tiles, see `TiledImages`, maps have a pixel for each position.
        """
        if "tiles" in batch:
            tiles: TilesOfImage = batch["tiles"]
            patches = self.stitched(tiles.batches(), tiles.size)
            return patches[None], *self.postprocess.stitched(patches, tiles.size)
        patch_scores = self.score_levels(self.levels(batch))
        maps, scores = self.maps_and_scores(patch_scores, self._size(batch), batch.get("box"))
        return patch_scores, maps, scores

    def _size(self, batch: Batch) -> tuple[int, int] | None:
        """Height and width of the images of a batch, as far as it or its data module knows."""
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
        """Build the detector in a checkpoint, see Lightning's method of this name.

        Which packages are trusted is never read from the checkpoint, which may be anybody's.
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
        if "optimizer_states" in checkpoint:  # training may go on from here, in the same order
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
