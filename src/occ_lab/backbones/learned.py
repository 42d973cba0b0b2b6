"""A backbone that stage 1 has learned: one file, used like any other backbone."""

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

Output = Literal["levels", "pooled"]
Features = Literal["pooled", "head", "turns"]

SUFFIX = ".safetensors"
FORMAT = "occ_lab.encoder.1"
PATCHES = 256  # through the network at once


class LearnedBackbone(FrozenBackbone):
    """An encoder from a file of `save_encoder`, frozen.

    An encoder that has learned from patches and is asked for ``levels`` gives one: the features of
    a patch around every position of a grid, the image mirrored at its border. One that has learned
    from whole images gives the stages of its network, as any ResNet does.

    Args:
        name: what the backbone is called in results.
        path: the file, or a folder that has a file ``TASK.safetensors`` for each task.
        output: ``levels`` (structured tasks) or ``pooled`` (semantic tasks): one embedding.
        features: of an embedding or a patch: the ``pooled`` features of the network; the output of
            the ``head``; or, of an encoder that has learned to predict rotations, ``turns``: the
            log-probability of each quarter turn where the image was given that turn.
        stride: of the grid of patches in pixels, at most the side of a patch.
        strides: of the stages, where the encoder has learned from whole images.
        pool: side of the window, in positions, that stages are averaged over; 1 is off.
        precision: what the network computes in, see `Frozen`.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.
        InputError: the file is not there, or is no such file.
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
                raise ValueError("features=turns needs an encoder that has learned rotations")
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
        """Raise a ``InputError`` where the folder lacks the file of a task."""
        lacking = [task for task in tasks if not self._file(task).is_file()]
        if lacking:
            raise InputError(
                f"backbone.path: {self.path.absolute()} has no {SUFFIX} file of "
                f"{', '.join(lacking)}"
            )

    def for_task(self, task: str) -> LearnedBackbone:
        """The backbone of a task: from its file, where each task has one."""
        if not self.path.is_dir():
            return self
        return LearnedBackbone(self._file(task), *self.settings, name=self.name)

    def _file(self, task: str) -> Path:
        return self.path / f"{task}{SUFFIX}" if self.path.is_dir() else self.path

    def check_size(self, height: int, width: int) -> None:
        """Raise a ``InputError`` where an image of this size, in pixels, cannot be taken."""
        if self.by_patch:
            if height % self.stride or width % self.stride:
                raise InputError(
                    f"images of {height}x{width} px have no grid of patches every {self.stride} px:"
                    f" set dataset.crop to a multiple of {self.stride}, or backbone.stride"
                )
            if min(height, width) <= self.margin:
                raise InputError(
                    f"images of {height}x{width} px are too small to be mirrored by the "
                    f"{self.margin} px that patches of {self.encoder.side} px reach over the border"
                )
        elif self.size and (height, width) != (self.size, self.size):
            raise InputError(
                f"the backbone {self.path} has learned from images of {self.size}x{self.size} px, "
                f"not {height}x{width}: set dataset.resize={self.size} dataset.crop={self.size}"
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
        found = torch.cat([self._embedding(few) for few in patches.split(PATCHES)])
        return found.unflatten(0, (len(image), *grid)).permute(0, 3, 1, 2)

    def _embedding(self, image: Tensor) -> Tensor:
        """What is asked of images ``[B, 3, s, s]``, ``[B, C]``."""
        if self.features == "turns":
            turns = range(self.channels[0])
            told = [self.encoder.classify(turned(image, turn)) for turn in turns]
            right = torch.stack(told, dim=1).float().log_softmax(dim=2)
            return right.diagonal(dim1=1, dim2=2)
        pooled = self.encoder.pooled(image)
        return self.encoder.head(pooled) if self.features == "head" else pooled


def save_encoder(encoder: Encoder, patches: int, path: Path) -> None:
    """Write an encoder to a file, whole or not at all.

    Args:
        encoder: as it is trained.
        patches: how many random patches of an image it has learned from; 0 is whole images.
        path: a ``.safetensors`` file.
    """
    facts = json.dumps({**encoder.facts, "patches": patches})
    tensors = {name: value.cpu().contiguous() for name, value in encoder.state_dict().items()}
    with whole_file(path) as scratch:
        save_file(tensors, scratch, metadata={"format": FORMAT, "encoder": facts})


def load_encoder(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in a file of `save_encoder`, and what the file says of it.

    Raises:
        InputError: it is no such file.
    """
    try:
        with safe_open(path, "pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError("it does not say that it is a learned encoder")
        facts = json.loads(metadata["encoder"])
        with torch.random.fork_rng(devices=[]):
            encoder = Encoder(**{key: facts[key] for key in facts if key != "patches"})
        encoder.load_state_dict(tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"backbone.path: {path} cannot be used ({str(error).splitlines()[0]}); it must be a "
            "file that `python -m occ_lab.two_stage` has written"
        ) from error
    return encoder, facts


def any_file(path: Path) -> Path:
    """The file, or the first of a folder.

    Raises:
        InputError: there is none.
    """
    files = [path] if path.is_file() else sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise InputError(
            f"backbone.path: no learned backbone in {path.absolute()}; name a file that "
            "`python -m occ_lab.two_stage` has written, or its folder of one file a task"
        )
    return files[0]
