"""Random augmentations of whole batches, on the device of the batch."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from occ_lab.backbones.encoder import turned
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.extras import from_extra

Brightness = Literal["factor", "added"]
Family = Literal["none", "rotations", "hflip", "vflip", "geometric"]
LEAST = 2  # pixels of the side of a crop; kornia fails with fewer
TURNS = 4  # quarter turns, including the unchanged image
GEOMETRIES = 8  # quarter turns with and without a flip


class Augment(nn.Module):
    """Crop and resize, flip, colour jitter, conversion to grey, blur.

    (Sohn et al. 2021, arXiv 2011.02578, appendix C.) Every image of a batch is augmented
    independently. The authors' code defines a blur but never applies it in training, because of an
    inverted condition; here it is applied, as the paper says. Random numbers come from torch's
    global generator.

    Args:
        side: height and width of the result in pixels, at least 8.
        scale: the smallest side of the crop, as a fraction of the image's side, above 0 and at most
            1; the largest crop is the image itself.
        flip: the probability of a horizontal flip.
        jitter: the strength of the colour jitter, 0 to 0.5: brightness, contrast and saturation
            change by a factor within 1 ± jitter, the hue by up to ± jitter turns of the colour
            wheel.
        brightness: whether the jitter multiplies the brightness by a ``factor``, or a number within
            ± jitter is ``added`` to all values, before the other changes and limited to 0..1, as in
            the authors' code, which does not limit it.
        gray: the probability of conversion to grey.
        blur: the probability of a Gaussian blur with a standard deviation of 0.1 to 2 pixels.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.
        InputError: kornia, of the extra ``two-stage``, is not installed.

    Example:
        >>> Augment(side=32)(torch.rand(4, 3, 40, 40)).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        side: int,
        scale: float = 0.5,
        flip: float = 0.5,
        jitter: float = 0.4,
        gray: float = 0.2,
        blur: float = 0.5,
        brightness: Brightness = "factor",
    ) -> None:
        check_number("side", side, at_least=8, integer=True)
        check_number("scale", scale, above=0, at_most=1)
        for name, probability in (("flip", flip), ("gray", gray), ("blur", blur)):
            check_number(name, probability, at_least=0, at_most=1)
        check_number("jitter", jitter, at_least=0, at_most=0.5)
        if brightness not in get_args(Brightness):
            known = " or ".join(get_args(Brightness))
            raise ValueError(f"brightness must be {known}, got {brightness!r}")
        super().__init__()
        self.flip = flip
        self.scale = scale
        kernel = max(3, side // 10 // 2 * 2 + 1)  # a tenth of the side, as in SimCLR
        K = from_extra("kornia.augmentation", "two-stage", part="augment")
        colours: list[Any] = [K.ColorJitter(jitter, jitter, jitter, jitter, p=float(jitter > 0))]
        if brightness == "added" and jitter > 0:
            colours = [
                K.RandomBrightness((1 - jitter, 1 + jitter), p=1.0),
                K.ColorJitter(0.0, jitter, jitter, jitter, p=1.0),
            ]
        self.pipeline = K.AugmentationSequential(
            K.RandomResizedCrop(
                (side, side),
                scale=(scale**2, 1.0),
                ratio=(1.0, 1.0),
                cropping_mode="resample",  # crops the whole batch at once
            ),
            K.RandomHorizontalFlip(p=flip),
            *colours,
            K.RandomGrayscale(p=gray),
            K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=blur),
            data_keys=["input"],
        )

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Augment images ``[B, 3, h, w]`` to ``[B, 3, side, side]``, both in 0..1.

        Raises:
            InputError: the smallest crop would have less than two pixels a side.
        """
        height, width = image.shape[-2:]
        if self.scale * math.sqrt(height * width) < LEAST:
            raise InputError(
                f"scale: {self.scale:g} of images of {height}x{width} px is less than {LEAST} px; "
                "choose a larger scale or larger images",
                part="augment",
            )
        with torch.autocast(image.device.type, enabled=False):
            augmented: Tensor = self.pipeline(image)
        return augmented


def crops(image: Tensor, side: int, count: int) -> Tensor:
    """Random patches of images.

    Args:
        image: ``[B, 3, h, w]``; no side is shorter than ``side``.
        side: height and width of a patch in pixels.
        count: the number of patches of each image.

    Returns:
        ``[B · count, 3, side, side]``; the patches of one image are adjacent.

    Example:
        >>> crops(torch.rand(2, 3, 40, 50), side=16, count=3).shape
        torch.Size([6, 3, 16, 16])
    """
    corners = [
        torch.randint(size - side + 1, (len(image) * count, 1), device=image.device)
        for size in image.shape[-2:]
    ]
    reach = torch.arange(side, device=image.device)
    rows, columns = (corner + reach for corner in corners)
    owner = torch.arange(len(image), device=image.device).repeat_interleave(count)
    patches = image[owner[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return patches.permute(0, 3, 1, 2)


def instances_of(family: Family, count: int | None) -> int:
    """The number of instances of an image in distribution augmentation, including the image itself.

    Args:
        family: the transformations, see `instances`.
        count: the number of instances of the ``geometric`` family, 1 to 8; None means all.

    Raises:
        ValueError: the family is unknown, or ``count`` is out of range or given for a family other
            than ``geometric``.

    Example:
        >>> instances_of("rotations", None), instances_of("geometric", 5)
        (4, 5)
    """
    sizes = {"none": 1, "rotations": TURNS, "hflip": 2, "vflip": 2, "geometric": GEOMETRIES}
    if family not in sizes:
        raise ValueError(f"family must be one of {', '.join(sizes)}, got {family!r}")
    if count is None:
        return sizes[family]
    if family != "geometric":
        raise ValueError(f"count must be None for every family but geometric, got {count}")
    check_number("count", count, at_least=1, at_most=GEOMETRIES, integer=True)
    return count


def instances(image: Tensor, family: Family, which: Tensor) -> Tensor:
    """Transform each image into one of the instances of distribution augmentation.

    (Sohn et al. 2021, section 3.2.2 and figure 7.) The instances are the four ``rotations`` by
    quarter turns; the image and its ``hflip`` or ``vflip``; or the first ones of eight
    ``geometric`` transformations: each quarter turn followed by its horizontal flip.

    Args:
        image: ``[B, 3, s, s]``.
        family: the transformations.
        which: the index of the instance for each image, int ``[B]``; 0 is the image itself.

    Returns:
        ``[B, 3, s, s]``.

    Example:
        >>> image = torch.rand(2, 3, 8, 8)
        >>> made = instances(image, "hflip", torch.tensor([0, 1]))
        >>> torch.equal(made[0], image[0]), torch.equal(made[1], image[1].flip(-1))
        (True, True)
    """
    if family in ("hflip", "vflip"):
        axis = -1 if family == "hflip" else -2
        return torch.where(which[:, None, None, None] == 1, image.flip(axis), image)
    turns = which // 2 if family == "geometric" else which
    made = torch.empty_like(image)
    for turn in range(TURNS):
        made[turns == turn] = turned(image[turns == turn], turn)
    if family == "geometric":
        made = torch.where(which[:, None, None, None] % 2 == 1, made.flip(-1), made)
    return made


def check_flip(family: Family, flip: float) -> None:
    """Check that a random flip cannot turn one instance of a family into another.

    Args:
        family: the transformations, see `instances`.
        flip: the probability of a random horizontal flip.

    Raises:
        ValueError: it could.
    """
    if family in ("hflip", "geometric") and flip > 0:
        raise ValueError(
            f"augment.flip must be 0 with family={family}, which has the flipped image as an "
            f"instance of its own, got {flip}"
        )
