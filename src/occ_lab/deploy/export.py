"""A trained detector in one file that other runtimes score images with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from omegaconf import DictConfig
from rich.console import Console
from torch.export import Dim, ExportedProgram

import occ_lab
from occ_lab.backbones.base import FrozenBackbone
from occ_lab.config.composition import check_value
from occ_lab.data.generated import made_image
from occ_lab.deploy.formats import METADATA, Run, require
from occ_lab.deploy.graph import Deployed
from occ_lab.inference.predict import set_overkill
from occ_lab.inference.predictor import TrainedDetector, load
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_files

INPUTS = ("raw", "tensor")
# The largest differences from the detector that a file may have: of scores, relative to their
# size; of maps, to their highest value. OpenVINO, which resizes in float32, may be a level off in a
# pixel, and that moves a map by more than a score.
TOLERANCE = {"score": 1e-3, "map": 1e-2}
READ = {
    "onnx": "onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map",
    "torch_export": f"torch.export.load(path, extra_files={{'{METADATA}': ''}})",
    "openvino": "openvino.Core().read_model(path).get_rt_info(['occ_lab']).value",
}


def export(cfg: DictConfig) -> Path:
    """Write the detector of ``cfg.run`` as ``cfg`` says, and check it.

    Returns:
        The file.

    Raises:
        InputError: a value out of range, no such run, a package that is not installed, a detector
            that cannot be exported, or a file that scores otherwise than the detector, which is not
            kept.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    form = require(str(cfg.format))
    if cfg.input not in INPUTS:
        raise InputError(f"input: must be {' or '.join(INPUTS)}, got {cfg.input!r}")
    check_value(cfg, "batch_size", at_least=1, integer=True)
    trained = load(str(cfg.run), None if cfg.task is None else str(cfg.task))
    set_overkill(cfg, trained)
    check_precision(trained)
    raw, count = cfg.input == "raw", int(cfg.batch_size)
    path = Path(cfg.output).expanduser() if cfg.output else default_path(cfg, trained, form.suffix)
    if path.suffix != form.suffix:
        raise InputError(f"output: a file of format={cfg.format} ends in {form.suffix}, got {path}")
    with whole_files(path.parent) as scratch:
        file = scratch / path.name
        console.print(f"{trained.task}: tracing {trained.cfg.loss.name}")
        program = traced(trained, raw, count)
        console.print(f"writing {cfg.format}")
        try:
            form.write(program, metadata(trained, str(cfg.input), count), file)
        except Exception as error:  # a translator fails in any way
            raise InputError(
                f"format: {trained.cfg.loss.name} on {trained.cfg.backbone.name} cannot be written "
                f"as {cfg.format} ({type(error).__name__}: {first_line(error)}); "
                "format=torch_export takes any detector"
            ) from error
        console.print("comparing it with the detector")
        found = differences(trained, form.run(file, torch.get_num_threads()), raw, count)
        check_differences(found)
        size = sum(each.stat().st_size for each in scratch.iterdir()) / 1e6
    tell(console, cfg, trained, path, size, found)
    return path


def default_path(cfg: DictConfig, trained: TrainedDetector, suffix: str) -> Path:
    """Inside the run directory, by what a call takes."""
    batch = "" if cfg.batch_size == 1 else f"_{cfg.batch_size}"
    folder = Path(cfg.run).expanduser() / "tasks" / trained.task / "export"
    return folder / f"{trained.task}_{cfg.input}{batch}{suffix}"


def check_precision(trained: TrainedDetector) -> None:
    """Refuse a backbone in half precision.

    Raises:
        InputError: it is one.
    """
    backbone = trained.detector.backbone
    if isinstance(backbone, FrozenBackbone) and backbone.precision != "float32":
        raise InputError(
            f"run: its backbone computes in {backbone.precision}, which files cannot be checked "
            "in; train with backbone.precision=float32 to export"
        )


@torch.no_grad()
def traced(trained: TrainedDetector, raw: bool, count: int) -> ExportedProgram:
    """The graph of the detector, for batches of ``count`` images; see `Deployed`.

    How many is fixed, since what bounds the memory of an objective depends on it. Raw images may
    have any size of at least 2 pixels a side.
    """
    module = Deployed(trained, raw).eval()
    if raw:
        height, width = Dim("height", min=2), Dim("width", min=2)
        # Of no size that could be taken for another one: not square, and to be resized.
        example = torch.zeros(count, module.resize + 12, module.resize + 7, 3, dtype=torch.uint8)
        return torch.export.export(
            module, (example,), dynamic_shapes={"image": {1: height, 2: width}}
        )
    return torch.export.export(module, (torch.zeros(count, 3, module.crop, module.crop),))


def metadata(trained: TrainedDetector, given: str, count: int) -> dict[str, str]:
    """What the file tells of itself."""
    cfg, backbone = trained.cfg, trained.detector.backbone
    told: dict[str, Any] = {
        "task": trained.task,
        "dataset": cfg.dataset.name,
        "loss": cfg.loss.name,
        "backbone": cfg.backbone.name,
        "occ_lab": occ_lab.__version__,
        "input": given,
        "batch_size": count,
        "resize": cfg.dataset.resize,
        "crop": cfg.dataset.crop,
    }
    if isinstance(backbone, FrozenBackbone):
        told["backbone_identity"] = backbone.identity
    if given == "raw":
        told["resize_as"] = f"Pillow {PIL.__version__}, Lanczos"
    if trained.calibration is not None and trained.overkill is not None:
        told["overkill"] = trained.overkill
        told["threshold"] = trained.calibration.threshold(trained.overkill)
        told["pixel_threshold"] = trained.pixel_threshold
        told["calibration_images"] = len(trained.calibration.scores)
    return {name: str(value) for name, value in told.items()}


def differences(trained: TrainedDetector, run: Run, raw: bool, count: int) -> dict[str, float]:
    """How far a file is from the detector at most, on made images of several sizes.

    Args:
        trained: the detector.
        run: the file, opened.
        raw: whether it takes raw images.
        count: how many at once.

    Returns:
        Of ``score`` the largest difference over the median size of the scores, since one score may
        happen to be zero; of ``map``, where there is one, over the highest value.
    """
    side = int(trained.cfg.dataset.resize)
    sizes = [(side, side), (side // 2 + 3, side), (side, 2 * side + 1), (3 * side + 5, side + 2)]
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    our_maps: list[np.ndarray] = []
    their_maps: list[np.ndarray] = []
    for number, (height, width) in enumerate(sizes):
        images = [made_image(10 * number + place, height, width) for place in range(count)]
        pixels = np.stack([trained.pixels(image) for image in images])
        scores, maps = trained.score_pixels(pixels)
        found = run(np.stack(images) if raw else as_tensor(pixels))
        ours.append(scores.numpy())
        theirs.append(found["score"])
        if maps is not None:
            our_maps.append(maps.numpy())
            their_maps.append(found["map"])
    told = {"score": largest(ours, theirs, float(np.median(np.abs(np.concatenate(ours)))))}
    if our_maps:
        told["map"] = largest(our_maps, their_maps, float(np.abs(our_maps).max()))
    return told


def largest(ours: list[np.ndarray], theirs: list[np.ndarray], scale: float) -> float:
    """The largest difference over ``scale``."""
    return float(np.abs(np.concatenate(theirs) - np.concatenate(ours)).max() / scale)


def check_differences(found: dict[str, float]) -> None:
    """Compare with `TOLERANCE`.

    Raises:
        InputError: some difference is larger, or no number.
    """
    beyond = [name for name, value in found.items() if not value <= TOLERANCE[name]]
    if beyond:
        told = ", ".join(f"{name} by {found[name]:.1e}" for name in beyond)
        raise InputError(
            f"format: the file differs from the detector: {told} (at most "
            f"{TOLERANCE[beyond[0]]:g}); it is not kept. Take another format, or input=tensor"
        )


def as_tensor(pixels: np.ndarray) -> np.ndarray:
    """Resized images uint8 ``[N, h, w, 3]`` as networks take them, float32 ``[N, 3, h, w]``."""
    planes = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(planes, dtype=np.float32) / np.float32(255)


def first_line(error: Exception) -> str:
    """What an error says in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else ""


def tell(
    console: Console,
    cfg: DictConfig,
    trained: TrainedDetector,
    path: Path,
    size: float,
    found: dict[str, float],
) -> None:
    """Print what was written, what it takes and gives, and how close it is."""
    count, crop = cfg.batch_size, trained.cfg.dataset.crop
    takes = f"float32 [{count}, 3, {crop}, {crop}] in 0..1, resized and cropped"
    if cfg.input == "raw":
        takes = f"uint8 [{count}, height, width, 3], RGB, of any size"
    gives = f"score [{count}]" + (f", map [{count}, {crop}, {crop}]" if "map" in found else "")
    threshold = "none: the run was not calibrated"
    if trained.calibration is not None and trained.overkill is not None:
        threshold = f"{trained.calibration.threshold(trained.overkill):.6g}"
        threshold += f" at {100 * trained.overkill:g} % overkill"
    beside = f" and {path.with_suffix('.bin').name}" if cfg.format == "openvino" else ""
    close = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    console.print(
        f"\n{path}{beside}: {size:.1f} MB\n"
        f"  takes      image: {takes}\n"
        f"  gives      {gives}\n"
        f"  threshold  {threshold}\n"
        f"  differs    from the detector by at most {close} (relative)\n"
        f"  metadata   {READ[cfg.format]}"
    )
