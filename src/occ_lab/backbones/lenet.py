"""The LeNets of Deep SVDD: small networks without bias terms, trained end to end."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import MiniBatchDictionaryLearning
from torch import Tensor, nn

from occ_lab.backbones.base import Backbone
from occ_lab.utils.errors import InputError, check_number

Variant = Literal["mnist", "cifar10"]

PATCHED_IMAGES, PATCHES = 500, 10_000  # for the dictionary that initialises the first layer


@dataclass(frozen=True)
class Shape:
    """The layers of a LeNet and of the decoder for its pre-training.

    Attributes:
        side: height and width of the image in pixels.
        colours: the number of channels of the image; 1 for grey.
        widths: the numbers of channels of the convolutions.
        dim: the length of the embedding.
        decoder: the decoder's padding and output channels, one pair for each layer.
        decoder_scale: the upsampling factor of the embedding, a 4 × 4 map, before the first layer.
        code_norm: whether the decoder begins with a batch-norm of the embedding.
    """

    side: int
    colours: int
    widths: tuple[int, ...]
    dim: int
    decoder: tuple[tuple[int, int], ...]
    decoder_scale: int
    code_norm: bool


SHAPES: dict[str, Shape] = {
    "mnist": Shape(28, 1, (8, 4), 32, ((2, 4), (3, 8), (2, 1)), 2, False),
    "cifar10": Shape(32, 3, (32, 64, 128), 128, ((2, 128), (2, 64), (2, 32), (2, 3)), 1, True),
}


class LeNet(Backbone):
    """The network of Deep SVDD (Ruff et al. 2018, section 4.2), as in its authors' code.

    It has 5 × 5 convolutions, batch-norm without an affine part, leaky ReLU and max-pooling, and
    then one linear layer. There are no bias terms, because a bias could map every image to the
    centre (proposition 2 of the paper).

    An image is normalised to zero mean and mean absolute value one (global contrast normalisation),
    then scaled to 0..1 by the extremes of the training set, which `prepare` finds. `prepare` also
    sets the filters of the first layer to the atoms of a dictionary of training patches, as in the
    code of the published figures. All other weights are initialised as by Glorot and Bengio (2010).

    Args:
        variant: ``mnist`` (28 × 28 pixels, grey, embedding of 32) or ``cifar10`` (32 × 32 pixels,
            colour, embedding of 128).
        seed: the seed of the initial weights; torch's global generator is not used.
        name: its name in results.

    Attributes:
        shape: its layers.
        channels: the length of the embedding, which is the only level.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> LeNet("mnist")(torch.rand(2, 3, 28, 28))[0].shape
        torch.Size([2, 32, 1, 1])
    """

    low: Tensor
    high: Tensor

    def __init__(self, variant: Variant = "mnist", seed: int = 0, name: str = "lenet") -> None:
        if variant not in get_args(Variant):
            known = ", ".join(get_args(Variant))
            raise ValueError(f"variant must be one of {known}, got {variant!r}")
        check_number("seed", seed, at_least=0, integer=True)
        super().__init__(name)
        self.shape = SHAPES[variant]
        self.seed = seed
        self.channels = [self.shape.dim]
        widths = (self.shape.colours, *self.shape.widths)
        side = self.shape.side // 2 ** len(self.shape.widths)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.convs = nn.ModuleList(
                nn.Conv2d(inputs, outputs, 5, padding=2, bias=False)
                for inputs, outputs in itertools.pairwise(widths)
            )
            self.linear = nn.Linear(widths[-1] * side**2, self.shape.dim, bias=False)
            glorot(self.convs)
            nn.init.xavier_uniform_(self.linear.weight)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width, eps=1e-4, affine=False) for width in self.shape.widths
        )
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(1.0))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the embedding, which is the only level.

        Args:
            image: ``[B, 3, h, w]`` in 0..1.

        Returns:
            One level ``[B, C, 1, 1]``.

        Raises:
            InputError: the images do not have the size of the variant.
        """
        self.check_size(*image.shape[-2:])
        return [self.encode(self.normalized(image))[:, :, None, None]]

    def encode(self, x: Tensor) -> Tensor:
        """The embedding ``[B, C]`` of normalised images ``[B, colours, h, w]``."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.leaky_relu(norm(conv(x))), 2)
        embedding: Tensor = self.linear(x.flatten(1))
        return embedding

    def normalized(self, image: Tensor) -> Tensor:
        """Normalise images ``[B, 3, h, w]`` to the network's input ``[B, colours, h, w]``."""
        return (self._contrast(image) - self.low) / (self.high - self.low)

    def _contrast(self, image: Tensor) -> Tensor:
        if self.shape.colours == 1:
            image = image.mean(dim=1, keepdim=True)
        centred = image - image.mean(dim=(1, 2, 3), keepdim=True)
        scale = centred.abs().mean(dim=(1, 2, 3), keepdim=True)
        return centred / scale.clamp_min(torch.finfo(scale.dtype).tiny)

    @torch.no_grad()
    def prepare(self, images: Iterable[Tensor]) -> None:
        """Compute the extremes and the first filters from the training set.

        Args:
            images: all training images, in batches ``[B, 3, h, w]`` in 0..1.
        """
        training = torch.cat([self._contrast(x) for x in images])
        self.low, self.high = training.aminmax()
        filters = next(self.convs.parameters())
        training = (training - self.low) / (self.high - self.low)
        filters.copy_(patch_atoms(training, filters.shape, self.seed))

    def check_size(self, height: int, width: int) -> None:
        """Raise an ``InputError`` if images do not have the size of the variant."""
        side = self.shape.side
        if (height, width) != (side, side):
            raise InputError(
                f"variant: {self.name} takes images of {side}x{side} px, not {height}x{width}: "
                f"resize and crop them to {side}, or use another backbone",
                part="backbone",
            )


def glorot(layers: nn.ModuleList) -> None:
    """Initialise layers that precede a leaky ReLU uniformly (Glorot and Bengio 2010)."""
    for weight in layers.parameters():
        nn.init.xavier_uniform_(weight, nn.init.calculate_gain("leaky_relu", 0.01))


def patch_atoms(images: Tensor, shape: torch.Size, seed: int) -> Tensor:
    """The unit-length atoms of a sparse dictionary of training patches (Mairal et al. 2009).

    Args:
        images: ``[N, colours, h, w]``.
        shape: the shape of the filters, ``[F, colours, side, side]``.
        seed: the seed of the choice of images and patches, and of the dictionary.

    Returns:
        float64 of ``shape``.
    """
    random = np.random.default_rng(seed)
    shown = images[random.permutation(len(images))[:PATCHED_IMAGES]]
    patches = F.unfold(shown, shape[-1]).transpose(1, 2).flatten(0, 1).double().numpy(force=True)
    patches = patches[random.permutation(len(patches))[:PATCHES]]
    patches = (patches - patches.mean(axis=0)) / (patches.std(axis=0) + np.finfo(float).tiny)
    dictionary = MiniBatchDictionaryLearning(
        shape[0], alpha=1, batch_size=10, max_iter=1, random_state=seed
    )
    return torch.from_numpy(dictionary.fit(patches).components_).view(shape)


class Decoder(nn.Module):
    """Decodes the embedding of a LeNet to an image, for its pre-training.

    As in the authors' code (lukasruff/Deep-SVDD-PyTorch), that of CIFAR-10 has a batch-norm without
    an affine part between the encoder and the decoder, and that of MNIST has none.

    Args:
        shape: the shape of the LeNet.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.scale = shape.decoder_scale
        self.code_norm = (
            nn.BatchNorm1d(shape.dim, eps=1e-4, affine=False) if shape.code_norm else nn.Identity()
        )
        widths = [shape.dim // 16, *(width for _, width in shape.decoder)]
        self.deconvs = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, 5, padding=padding, bias=False)
            for inputs, (padding, outputs) in zip(widths, shape.decoder, strict=False)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width, eps=1e-4, affine=False) for width in widths[1:-1]
        )
        glorot(self.deconvs)

    def forward(self, z: Tensor) -> Tensor:
        """Decode embeddings ``[B, C]`` to images ``[B, colours, h, w]`` in 0..1."""
        x = F.leaky_relu(self.code_norm(z).view(len(z), -1, 4, 4))
        x = self.deconvs[0](F.interpolate(x, scale_factor=self.scale))
        for norm, deconv in zip(self.norms, self.deconvs[1:], strict=True):
            x = deconv(F.interpolate(F.leaky_relu(norm(x)), scale_factor=2))
        return torch.sigmoid(x)
