"""From the configuration of ``occ_lab.export`` to the functions that do the work."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from occ_lab.config.composition import check_value
from occ_lab.config.predict import loaded
from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import WholeImage
from occ_lab.deploy.export import Exported, check_arguments, default_name, export
from occ_lab.deploy.formats import FORMATS
from occ_lab.inference.predictor import Predictor
from occ_lab.inference.stored import stored_run


def perform_export(cfg: DictConfig) -> Exported:
    """Write the detector of ``cfg.run`` as one file, check it and print what it is.

    Args:
        cfg: the configuration of ``occ_lab.export``.

    Raises:
        UserError: a value out of range; before any work.
        InputError: no such run or task, or as of `occ_lab.deploy.export.export`.
    """
    check_value(cfg, "batch_size", at_least=1, integer=True)
    output = None if cfg.output is None else Path(str(cfg.output)).expanduser()
    check_arguments(str(cfg.format), str(cfg.input), cfg.batch_size, output)
    predictor = loaded(cfg)
    stored = stored_run(Path(str(cfg.run)).expanduser(), predictor.task)
    if output is None:
        name = default_name(predictor.task, cfg.format, cfg.input, cfg.batch_size)
        output = stored.folder / "export" / name
    console = Console(highlight=False, markup=False, soft_wrap=True)
    about = {group: stored.settings[group]["name"] for group in ("dataset", "loss")}
    console.print(f"{predictor.task}: {about['loss']} on {predictor.detector.backbone.name}")
    found = export(
        predictor,
        output,
        format=cfg.format,
        input=cfg.input,
        batch_size=cfg.batch_size,
        about=about,
        say=console.print,
    )
    console.print(description(cfg, predictor, found))
    return found


def description(cfg: DictConfig, predictor: Predictor, found: Exported) -> str:
    """What was written, what the file takes and gives, and how close it is to the detector."""
    count, (height, width) = cfg.batch_size, predictor.detector.frame.size
    takes = f"float32 [{count}, 3, {height}, {width}] in 0..1, resized as in training"
    if cfg.input == "raw":
        takes = f"uint8 [{count}, height, width, 3], RGB, of any size"
    maps = f", map [{count}, {height}, {width}]" if "map" in found.differences else ""
    if cfg.input == "raw" and isinstance(predictor.detector.frame, WholeImage):
        maps += ", box [4]: top, left, height and width of the image in the map"
    gives = f"score [{count}]{maps}"
    if isinstance(predictor.detector.frame, Tiles):
        takes = takes.replace("height, width, 3], RGB, of any size", f"{height}, {width}, 3], RGB")
        gives = "map, the scores of each tile, to be stitched (docs/guides/whole_image.md)"
    threshold = "none: the run was not calibrated"
    if predictor.calibration is not None and predictor.overkill is not None:
        threshold = f"{predictor.calibration.threshold(predictor.overkill):.6g}"
        threshold += f" at a false-positive rate of {100 * predictor.overkill:.3g} %"
    beside = f" and {found.path.with_suffix('.bin').name}" if cfg.format == "openvino" else ""
    close = ", ".join(f"{name} {value:.1e}" for name, value in found.differences.items())
    return (
        f"\n{found.path}{beside}: {found.megabytes:.1f} MB\n"
        f"  takes      image: {takes}\n"
        f"  gives      {gives}\n"
        f"  threshold  {threshold}\n"
        f"  differs    from the detector by at most {close} (relative)\n"
        f"  metadata   {FORMATS[cfg.format].metadata}"
    )
