"""Scores of images by a backbone, a projector over its levels and an objective."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from occ_lab.backbones.base import Backbone
from occ_lab.data.any_image import AnyImage, as_images, as_rgb
from occ_lab.data.batches import Batch
from occ_lab.data.tiled_images import tile_batches
from occ_lab.data.tiling import Stitching, Tiles
from occ_lab.data.transforms import Frame, Preprocessing, at_full_size
from occ_lab.features.levels import pieces
from occ_lab.features.regions import framed_levels
from occ_lab.objectives.base import Objective
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.postprocessing.prediction import Scores


class ScoringModule(LightningModule):
    """A module that scores images of any size and form; `Detector` adds how it is trained.

    Attributes:
        backbone: computes levels from images.
        projector: computes a feature map from levels.
        objective: computes patch scores from feature maps.
        postprocess: computes image scores and anomaly maps from patch scores.
        preprocessing: brings images to one size; None before it is known.
    """

    backbone: Backbone
    projector: Any
    objective: Objective
    postprocess: PostProcess
    preprocessing: Frame | None

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

    def levels(self, batch: Batch) -> list[Tensor]:
        """The levels ``[B, C_l, H_l, W_l]`` of a batch of images, cached or computed."""
        if "levels" in batch:
            return [level.to(self.dtype) for level in batch["levels"]]
        return framed_levels(self.backbone, batch["image"].to(self.dtype), batch.get("box"))

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
            >>> from occ_lab import Detector
            >>> from occ_lab.backbones import TimmBackbone
            >>> from occ_lab.objectives import Norm
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
