"""A backbone that stage 1 has trained: one file, used like any other backbone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from occ_lab.backbones.base import FrozenBackbone, Precision
from occ_lab.backbones.encoder import Encoder, turned
from occ_lab.backbones.timm import choose_strides, fold_batch_norm
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import whole_file
from occ_lab.utils.scratch import visible

Output = Literal["levels", "pooled"]
Features = Literal["pooled", "head", "turns"]

SUFFIX = ".safetensors"
FORMAT = "occ_lab.encoder.1"
PATCHES = 256  # that go through the network at once


class LearnedBackbone(FrozenBackbone):
    """An encoder from a file of `save_encoder`, frozen.

    With ``output="levels"``, an encoder trained on patches has one level: the features of a patch
    around every position of a grid; the image is mirrored at its border. An encoder trained on
    whole images has the stages of its network as levels, like any ResNet.

    Args:
        path: the file, or a folder with a file ``TASK.safetensors`` for each task.
        output: ``levels`` (structured tasks) or ``pooled`` (semantic tasks): one embedding.
        features: what an embedding or a patch gives: the ``pooled`` features of the network, the
            output of the ``head``, or ``turns``. The latter needs an encoder trained to predict
            rotations: each quarter turn is applied to the image, and the log-probability of that
            turn is taken.
        stride: step of the grid of patches in pixels, at most the side of a patch.
        strides: strides of the stages, if the encoder was trained on whole images.
        pool: side of the window, in positions, that stages are averaged over; 1 is off.
        precision: see `FrozenBackbone`.
        name: what it is called in results.

    Attributes:
        by_patch: whether the level is a grid of patches.
        size: height and width that images must have; None if it is free.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.
        InputError: the file does not exist, or is not a file of `save_encoder`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "encoder.safetensors")
        ...     save_encoder(Encoder("resnet18", side=16, head=[32]), patches=8, path=path)
        ...     backbone = LearnedBackbone(path, stride=8)
        >>> [level.shape for level in backbone(torch.rand(1, 3, 32, 32))]
        [torch.Size([1, 512, 4, 4])]
    """

    def __init__(
        self,
        path: str | Path,
        output: Output = "levels",
        features: Features = "pooled",
        stride: int = 8,
        strides: Sequence[int] = (2, 4, 8),
        pool: int = 3,
        precision: Precision = "float32",
        name: str = "learned",
    ) -> None:
        for key, value, choices in (("output", output, Output), ("features", features, Features)):
            if value not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ValueError(f"{key} must be one of {known}, got {value!r}")
        check_number("stride", stride, at_least=1, integer=True)
        if pool < 1 or pool % 2 == 0:
            raise ValueError(f"pool must be odd and at least 1, got {pool}")
        super().__init__(name, precision)
        self.path = Path(path).expanduser()
        self.settings = (output, features, stride, tuple(strides), pool, precision)
        self.features = features
        self.stride = stride
        self.pool = pool
        encoder, facts = load_encoder(any_file(self.path))
        self.by_patch: bool = facts["patches"] > 0 and output == "levels"
        self.size: int | None = None if facts["patches"] else encoder.side
        self.channels = [encoder.width]
        self.stages: list[int] = []
        if output == "levels" and not self.by_patch:
            stages = encoder.net.feature_info
            self.stages = choose_strides(strides, None, [level["reduction"] for level in stages])
            self.channels = [stages[level]["num_chs"] for level in self.stages]
        elif features == "head":
            self.channels = [encoder.embedding.out_features]
        elif features == "turns":
            if encoder.classifier is None:
                raise ValueError(
                    "features must be pooled or head: the encoder has no rotation classifier"
                )
            self.channels = [encoder.classifier.out_features]
        if self.by_patch and (stride > encoder.side or (encoder.side - stride) % 2):
            raise ValueError(
                f"stride must be at most the {encoder.side} px of a patch and differ from it by an "
                f"even number, got {stride}"
            )
        self.margin = (encoder.side - stride) // 2  # of a patch around its cell
        self.encoder = encoder
        self._identify(LearnedBackbone, "encoder", FORMAT, facts, self.settings)
        fold_batch_norm(encoder.net)

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raise an ``InputError`` if the folder lacks the file of a task."""
        lacking = [task for task in tasks if not self._file(task).is_file()]
        if lacking:
            raise InputError(
                f"path: {self.path.absolute()} has no {SUFFIX} file of {', '.join(lacking)}",
                part="backbone",
            )

    def for_task(self, task: str) -> LearnedBackbone:
        """The backbone of a task: from its own file, if ``path`` is a folder."""
        if not self.path.is_dir():
            return self
        return LearnedBackbone(self._file(task), *self.settings, name=self.name)

    def _file(self, task: str) -> Path:
        return self.path / f"{task}{SUFFIX}" if self.path.is_dir() else self.path

    def check_size(self, height: int, width: int) -> None:
        """Raise an ``InputError`` if images have no grid of patches, or not the encoder's size."""
        if self.by_patch:
            if height % self.stride or width % self.stride:
                raise InputError(
                    f"stride: images of {height}x{width} px have no grid of patches every "
                    f"{self.stride} px; crop them to a multiple of it, or change it",
                    part="backbone",
                )
            if min(height, width) <= self.margin:
                raise InputError(
                    f"stride: images of {height}x{width} px are too small to be mirrored by the "
                    f"{self.margin} px by which patches of {self.encoder.side} px cross the border",
                    part="backbone",
                )
        elif self.size and (height, width) != (self.size, self.size):
            raise InputError(
                f"path: {self.path} was trained on images of {self.size}x{self.size} px, not "
                f"{height}x{width}: resize and crop them to {self.size}",
                part="backbone",
            )

    def levels(self, image: Tensor) -> list[Tensor]:
        """Compute the levels, see `Backbone.forward`."""
        if self.by_patch:
            return [self._grid(image)]
        if self.stages:
            levels = self.encoder.net.forward_intermediates(
                image, indices=self.stages, intermediates_only=True
            )
            return [F.avg_pool2d(level, self.pool, 1, self.pool // 2) for level in levels]
        return [self._embedding(image)[:, :, None, None]]

    def _grid(self, image: Tensor) -> Tensor:
        """Features ``[B, C, h / stride, w / stride]``, each of the patch around its cell."""
        padded = F.pad(image, [self.margin] * 4, mode="reflect")
        cells = padded.unfold(2, self.encoder.side, self.stride)
        cells = cells.unfold(3, self.encoder.side, self.stride)
        grid = cells.shape[2:4]
        patches = cells.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        found = torch.cat([self._embedding(few) for few in torch.split(patches, PATCHES)])
        return found.view(len(image), *grid, -1).permute(0, 3, 1, 2)

    def _embedding(self, image: Tensor) -> Tensor:
        """The ``features`` of images ``[B, 3, s, s]``, ``[B, C]``."""
        if self.features == "turns":
            turns = range(self.channels[0])
            logits = [self.encoder.classify(turned(image, turn)) for turn in turns]
            log_probabilities = torch.stack(logits, dim=1).float().log_softmax(dim=2)
            return log_probabilities.diagonal(dim1=1, dim2=2)
        pooled = self.encoder.pooled(image)
        return self.encoder.head(pooled) if self.features == "head" else pooled


def save_encoder(encoder: Encoder, patches: int, path: Path) -> None:
    """Write an encoder to a file, whole or not at all.

    Args:
        encoder: the trained encoder.
        patches: on how many random patches of an image it was trained; 0 means whole images.
        path: the ``.safetensors`` file to write.
    """
    facts = json.dumps({**encoder.facts, "patches": patches})
    tensors = {name: value.cpu().contiguous() for name, value in encoder.state_dict().items()}
    with whole_file(path) as scratch:
        save_file(tensors, scratch, metadata={"format": FORMAT, "encoder": facts})


def load_encoder(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """Read a file of `save_encoder`.

    Args:
        path: the file.

    Returns:
        The encoder, and its arguments together with ``patches``.

    Raises:
        InputError: it is not such a file.
    """
    try:
        with safe_open(path, "pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError("its metadata do not name a learned encoder")
        facts = json.loads(metadata["encoder"])
        with torch.random.fork_rng(devices=[]):
            encoder = Encoder(**{key: facts[key] for key in facts if key != "patches"})
        encoder.load_state_dict(tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"path: {path} cannot be used ({str(error).splitlines()[0]}); it must be a file that "
            "`occ-lab two-stage` has written",
            part="backbone",
        ) from error
    return encoder, facts


def any_file(path: Path) -> Path:
    """The file, or the first one of a folder.

    Raises:
        InputError: there is none.
    """
    files = [path] if path.is_file() else visible(path, f"*{SUFFIX}")
    if not files:
        raise InputError(
            f"path: no learned backbone in {path.absolute()}; name a file that "
            "`occ-lab two-stage` has written, or its folder with a file for each task",
            part="backbone",
        )
    return files[0]
