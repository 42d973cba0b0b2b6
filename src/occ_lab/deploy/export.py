"""Export of a trained detector to a single file that other runtimes can run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from torch.export import Dim, ExportedProgram

import occ_lab
from occ_lab.backbones.base import FrozenBackbone
from occ_lab.data.generated import made_image
from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import Frame, Preprocessing, WholeImage, describe_frame
from occ_lab.deploy.formats import Run, required
from occ_lab.deploy.graph import Deployed
from occ_lab.detector import Detector
from occ_lab.inference.predictor import Predictor
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import whole_files

log = logging.getLogger(__name__)

INPUTS = ("raw", "tensor")
# The largest allowed differences from the detector: of scores, relative to their size; of maps,
# relative to their highest value. OpenVINO resizes in float32 and may differ by one level in a
# pixel, which changes a map more than a score.
TOLERANCE = {"score": 1e-3, "map": 1e-2}


@dataclass(frozen=True)
class Exported:
    """The result of `export`.

    Attributes:
        path: the file.
        megabytes: its size, including a separate file of weights if there is one.
        differences: the largest relative differences from the detector: of ``score`` and, if the
            detector has maps, of ``map``.
    """

    path: Path
    megabytes: float
    differences: dict[str, float]


def export(
    predictor: Predictor,
    path: str | Path,
    *,
    format: str = "onnx",
    input: str = "raw",
    batch_size: int = 1,
    about: Mapping[str, object] | None = None,
    say: Callable[[str], object] = log.info,
) -> Exported:
    """Write a detector to a file and check that the file computes the same scores.

    Args:
        predictor: the detector, on the CPU, see `occ_lab.load`.
        path: the file; its suffix must match the format.
        format: ``onnx``, ``torch_export`` or ``openvino``.
        input: the input of the file: ``raw``, decoded images of any size; or ``tensor``, resized
            and cropped images in 0..1.
        batch_size: the number of images in each call.
        about: further entries for the metadata of the file, such as the name of the dataset.
        say: is called with a description of each step, because export takes a while.

    Raises:
        InputError: the format or input is unknown, a package is not installed, the detector cannot
            be exported, or the file computes different scores (it is then deleted).

    Example:
        >>> import occ_lab
        >>> predictor = occ_lab.load("outputs/grass")  # doctest: +SKIP
        >>> export(predictor, "grass.onnx").differences["score"] < 1e-3  # doctest: +SKIP
        True
    """
    path = Path(path).expanduser()
    check_arguments(format, input, batch_size, path)
    check_precision(predictor)
    form, raw = required(format), input == "raw"
    with whole_files(path) as scratch:
        file = scratch / path.name
        say("tracing the detector")
        program = traced(predictor, raw, batch_size)
        say(f"writing {format}")
        try:
            form.write(program, metadata(predictor, input, batch_size, about or {}), file)
        except Exception as error:  # an exporter may raise anything
            detector = predictor.detector
            raise InputError(
                f"format: {type(detector.objective).__name__} on {detector.backbone.name} cannot "
                f"be written as {format} ({type(error).__name__}: {first_line(error)}); "
                "torch_export supports any detector"
            ) from error
        say("comparing the file with the detector")
        found = differences(predictor, form.run(file, torch.get_num_threads()), raw, batch_size)
        check_differences(found)
        megabytes = sum(each.stat().st_size for each in scratch.iterdir()) / 1e6
    return Exported(path, megabytes, found)


def check_arguments(format: str, input: str, batch_size: int, path: Path | None) -> None:
    """Check the arguments as far as possible without a detector.

    Raises:
        InputError: the format or input is unknown, a package is not installed, or the suffix of the
            file does not match the format.
        ValueError: the batch size is out of range.
    """
    suffix = required(format).suffix
    if input not in INPUTS:
        raise InputError(f"input: must be {' or '.join(INPUTS)}, got {input!r}")
    check_number("batch_size", batch_size, at_least=1, integer=True)
    if path is not None and path.suffix != suffix:
        raise InputError(f"output: a file of the format {format} ends in {suffix}, got {path}")


def default_name(task: str, format: str, input: str, batch_size: int) -> str:
    """A file name that states the input of the file.

    Example:
        >>> default_name("bottle", "onnx", "raw", 8)
        'bottle_raw_8.onnx'
    """
    batch = "" if batch_size == 1 else f"_{batch_size}"
    return f"{task}_{input}{batch}{required(format).suffix}"


def check_precision(predictor: Predictor) -> None:
    """Refuse a backbone in half precision.

    Raises:
        InputError: the backbone computes in half precision.
    """
    backbone = predictor.detector.backbone
    if isinstance(backbone, FrozenBackbone) and backbone.precision != "float32":
        raise InputError(
            f"its backbone computes in {backbone.precision}, in which a file cannot be compared "
            "with it; train with the precision float32 to export",
            part="run",
        )


@torch.no_grad()
def traced(predictor: Predictor, raw: bool, count: int) -> ExportedProgram:
    """The graph of the detector, for batches of ``count`` images; see `Deployed`.

    The batch size is fixed, because it determines the memory limits inside an objective. Raw images
    may have any size of at least 2 pixels a side.
    """
    module = Deployed(predictor.detector, raw).eval()
    if raw and isinstance(module.frame, Tiles):
        tiles = torch.zeros(count, *module.size, 3, dtype=torch.uint8)
        return torch.export.export(module, (tiles,))
    if raw:
        height, width = Dim("height", min=2), Dim("width", min=2)
        # A size that cannot be confused with another one: not square, and not the final size.
        side = longer_side(module.frame)
        example = torch.zeros(count, side + 12, side + 7, 3, dtype=torch.uint8)
        return torch.export.export(
            module, (example,), dynamic_shapes={"image": {1: height, 2: width}}
        )
    return torch.export.export(module, (torch.zeros(count, 3, *module.size),))


def longer_side(frame: Frame) -> int:
    """The longer side of an image after the resize, or of a tile, in pixels."""
    return frame.resize if isinstance(frame, Preprocessing) else max(frame.size)


def metadata(
    predictor: Predictor, input: str, count: int, about: Mapping[str, object]
) -> dict[str, str]:
    """The metadata of the file, as text."""
    backbone, frame = predictor.detector.backbone, predictor.detector.frame
    facts: dict[str, Any] = {
        "task": predictor.task,
        **about,
        "backbone": backbone.name,
        "occ_lab": occ_lab.__version__,
        "input": input,
        "batch_size": count,
        **describe_frame(frame),
        "sigma": predictor.detector.postprocess.sigma,
    }
    if isinstance(backbone, FrozenBackbone):
        facts["backbone_identity"] = backbone.identity
    if input == "raw":
        facts["resize_as"] = f"Pillow {PIL.__version__}, Lanczos"
    if predictor.calibration is not None and predictor.overkill is not None:
        facts["overkill"] = predictor.overkill
        facts["threshold"] = predictor.calibration.threshold(predictor.overkill)
        facts["pixel_threshold"] = predictor.pixel_threshold
        facts["calibration_images"] = len(predictor.calibration.scores)
    return {name: str(value) for name, value in facts.items()}


def differences(predictor: Predictor, run: Run, raw: bool, count: int) -> dict[str, float]:
    """The largest differences between a file and the detector, on generated images of many sizes.

    Args:
        predictor: the detector.
        run: the opened file.
        raw: whether it takes raw images.
        count: the number of images in each call.

    Returns:
        For ``score``, the largest difference divided by the median size of the scores, because a
        single score may happen to be zero; for ``map``, if there is one, divided by its highest
        value.
    """
    frame = predictor.detector.frame
    if isinstance(frame, Tiles):
        return differences_of_tiles(predictor.detector, run, raw, count)
    side = longer_side(frame)
    sizes = [(side, side), (side // 2 + 3, side), (side, 2 * side + 1), (3 * side + 5, side + 2)]
    if isinstance(frame, WholeImage) and not raw:  # such images must fill the frame
        sizes = [(times * frame.height, times * frame.width) for times in range(1, len(sizes) + 1)]
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    our_maps: list[np.ndarray] = []
    their_maps: list[np.ndarray] = []
    for number, (height, width) in enumerate(sizes):
        images = [made_image(10 * number + index, height, width) for index in range(count)]
        seen = [predictor.seen(image) for image in images]
        pixels = np.stack([each.pixels for each in seen])
        scores, maps = predictor.score_pixels(pixels, [each.size for each in seen])
        found = run(np.stack(images) if raw else as_tensor(pixels))
        ours.append(scores.numpy())
        theirs.append(found["score"])
        if maps is not None:
            our_maps.append(maps.numpy())
            their_maps.append(found["map"])
    result = {"score": largest(ours, theirs, float(np.median(np.abs(np.concatenate(ours)))))}
    if our_maps:
        result["map"] = largest(our_maps, their_maps, float(np.abs(our_maps).max()))
    return result


def differences_of_tiles(detector: Detector, run: Run, raw: bool, count: int) -> dict[str, float]:
    """As `differences`, for a file that takes tiles and returns the scores to be stitched."""
    ours, theirs = [], []
    for number in range(4):
        tiles = [made_image(10 * number + index, *detector.frame.size) for index in range(count)]
        pixels = as_tensor(np.stack(tiles))
        with torch.inference_mode():
            ours.append(detector.patch_scores(torch.from_numpy(pixels)).numpy())
        theirs.append(run(np.stack(tiles) if raw else pixels)["map"])
    return {"map": largest(ours, theirs, float(np.abs(ours).max()))}


def largest(ours: list[np.ndarray], theirs: list[np.ndarray], scale: float) -> float:
    """The largest difference, divided by ``scale``."""
    return float(np.abs(np.concatenate(theirs) - np.concatenate(ours)).max() / scale)


def check_differences(found: Mapping[str, float]) -> None:
    """Compare differences with `TOLERANCE`.

    Raises:
        InputError: a difference is larger, or is not a number.
    """
    beyond = [name for name, value in found.items() if not value <= TOLERANCE[name]]
    if beyond:
        by = ", ".join(f"{name} by {found[name]:.1e}" for name in beyond)
        raise InputError(
            f"format: the file differs from the detector: {by} (at most {TOLERANCE[beyond[0]]:g}); "
            "it was deleted. Choose another format, or resized images as input (tensor)"
        )


def as_tensor(pixels: np.ndarray) -> np.ndarray:
    """Resized images uint8 ``[N, h, w, 3]`` as a network's input, float32 ``[N, 3, h, w]``."""
    planes = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(planes, dtype=np.float32) / np.float32(255)


def first_line(error: Exception) -> str:
    """The first non-empty line of an error's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else ""
