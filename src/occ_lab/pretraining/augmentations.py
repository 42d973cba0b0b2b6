"""Random augmentations of whole batches, on the device they lie on."""

from __future__ import annotations

from typing import Literal

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from occ_lab.backbones.encoder import turned
from occ_lab.utils.errors import check_number

Family = Literal["none", "rotations", "hflip", "vflip", "geometric"]
TURNS = 4  # quarter turns, the first of which leaves the image as it is
GEOMETRIES = 8  # quarter turns with and without a flip


class Augment(nn.Module):
    """Crop and resize, flip, colour jitter, grey, blur (Sohn et al. 2021, appendix C).

    Each image of a batch draws its own. (The authors' code names a blur and leaves it out in
    training, by a condition the wrong way round; here it does what the paper says.)

    Args:
        side: of the result in pixels.
        scale: least side of the crop, as a share of the image's, above 0 and at most 1; the largest
            is the image itself.
        flip: probability of a horizontal flip.
        jitter: of brightness, contrast and saturation by a factor within 1 ± jitter, and of the
            hue by a shift within ± jitter turns of the colour wheel, 0 to 0.5.
        gray: probability of grey.
        blur: probability of a Gaussian blur, its standard deviation between 0.1 and 2 pixels.
    """

    def __init__(
        self,
        side: int,
        scale: float = 0.5,
        flip: float = 0.5,
        jitter: float = 0.4,
        gray: float = 0.2,
        blur: float = 0.5,
    ) -> None:
        check_number("side", side, at_least=8, integer=True)
        check_number("scale", scale, above=0, at_most=1)
        for name, probability in (("flip", flip), ("gray", gray), ("blur", blur)):
            check_number(name, probability, at_least=0, at_most=1)
        check_number("jitter", jitter, at_least=0, at_most=0.5)
        super().__init__()
        self.flip = flip
        kernel = max(3, side // 10 // 2 * 2 + 1)  # a tenth of the side, as in SimCLR
        self.pipeline = K.AugmentationSequential(
            K.RandomResizedCrop(
                (side, side),
                scale=(scale**2, 1.0),
                ratio=(1.0, 1.0),
                cropping_mode="resample",  # all at once, not one after another
            ),
            K.RandomHorizontalFlip(p=flip),
            K.ColorJitter(jitter, jitter, jitter, jitter, p=float(jitter > 0)),
            K.RandomGrayscale(p=gray),
            K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=blur),
            data_keys=["input"],
        )

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Augmented images ``[B, 3, side, side]`` of images ``[B, 3, h, w]``, both in 0..1."""
        with torch.autocast(image.device.type, enabled=False):
            return self.pipeline(image)


def crops(image: Tensor, side: int, count: int) -> Tensor:
    """Random patches ``[B · count, 3, side, side]`` of images ``[B, 3, h, w]``, ``count`` each."""
    places = [
        torch.randint(size - side + 1, (len(image) * count, 1), device=image.device)
        for size in image.shape[-2:]
    ]
    reach = torch.arange(side, device=image.device)
    rows, columns = (place + reach for place in places)
    owner = torch.arange(len(image), device=image.device).repeat_interleave(count)
    patches = image[owner[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return patches.permute(0, 3, 1, 2)


def instances_of(family: Family, count: int | None) -> int:
    """How many instances distribution augmentation makes of an image, itself included.

    Raises:
        ValueError: ``count`` is given for another family than ``geometric``, or out of range.
    """
    sizes = {"none": 1, "rotations": TURNS, "hflip": 2, "vflip": 2, "geometric": GEOMETRIES}
    if family not in sizes:
        raise ValueError(f"family must be one of {', '.join(sizes)}, got {family!r}")
    if count is None:
        return sizes[family]
    if family != "geometric":
        raise ValueError(f"count must be null: only the geometric family has one, got {count}")
    check_number("count", count, at_least=1, at_most=GEOMETRIES, integer=True)
    return count


def instances(image: Tensor, family: Family, which: Tensor) -> Tensor:
    """Each image as one of the instances that distribution augmentation makes of it.

    Sohn et al. 2021, section 3.2.2 and figure 7: the four ``rotations`` by quarter turns, the image
    and its ``hflip`` or ``vflip``, or the first of eight ``geometric`` ones, each quarter turn
    followed by its horizontal flip.

    Args:
        image: ``[B, 3, s, s]``.
        family: which transformations.
        which: the instance each image becomes, ``[B]``, 0 is itself.
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
    """Raise a ValueError where a random flip would make two instances of a family the same."""
    if family in ("hflip", "geometric") and flip > 0:
        raise ValueError(
            f"augment.flip must be 0 where a flip makes an instance of its own (family={family}), "
            f"got {flip}"
        )
