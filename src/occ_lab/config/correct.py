"""From the configuration of ``occ_lab.correct`` to the functions that do the work."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from occ_lab.config.predict import device_named, task_of, trusted
from occ_lab.engine.corrections import FALSE_ALARM, Corrected, Scoring, correct
from occ_lab.inference.stored import stored_run
from occ_lab.reporting.tables.corrections import corrections_table
from occ_lab.utils.files import typed_path


def perform_correct(cfg: DictConfig) -> Corrected:
    """Correct the detector of ``cfg.run`` by the verdicts in ``cfg.verdicts``.

    Args:
        cfg: the configuration of ``occ_lab.correct``.

    Raises:
        InputError: no such run, task or file, or a detector that cannot be corrected; nothing has
            been written then.
    """
    stored = stored_run(typed_path(str(cfg.run)), task_of(cfg))
    given = None if cfg.calibration is None else str(cfg.calibration)
    directory = beside(stored.directory) if cfg.out is None else typed_path(str(cfg.out))
    found = correct(
        stored,
        typed_path(str(cfg.verdicts)),
        directory,
        device_named(str(cfg.device)),
        trusted(cfg),
        given,
    )
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"{len(found.learned)} false alarms learned, {len(found.forgotten)} defects forgotten"
    )
    console.print(corrections_table(lines_of(found)))
    console.print(f"run directory: {found.directory}")
    return found


def lines_of(found: Corrected) -> list[tuple[str, str, str]]:
    """What is compared, before and after."""
    good = [each for each in found.marked if each.good]
    bad = [each for each in found.marked if not each.good]
    alarms = [each for each in found.marked if each.verdict == FALSE_ALARM]
    lines = []
    for title, images in (
        ("false alarms rejected", alarms),
        ("good parts rejected", good),
        ("defects rejected", bad),
    ):
        if images:
            before, after = (each.rejected(images) for each in (found.before, found.after))
            lines.append((title, f"{before} of {len(images)}", f"{after} of {len(images)}"))
    for title, text in (
        ("threshold", threshold),
        ("calibration images", images_of),
        ("false-positive rate", rate),
    ):
        lines.append((title, text(found.before), text(found.after)))
    return lines


def threshold(scoring: Scoring) -> str:
    """The threshold, as text."""
    return "none" if scoring.calibration is None else f"{scoring.threshold:.6g}"


def images_of(scoring: Scoring) -> str:
    """The number of calibration images, as text."""
    return "0" if scoring.calibration is None else str(len(scoring.calibration.scores))


def rate(scoring: Scoring) -> str:
    """The false-positive rate, as text."""
    return "none" if scoring.calibration is None else f"{100 * scoring.rate:.3g} %"


def beside(directory: Path) -> Path:
    """A new directory beside a run: its name with ``-corrected``, and a number if it is taken.

    Example:
        >>> beside(Path("outputs/model")).name
        'model-corrected'
    """
    whole = directory.absolute()
    names = (f"{whole.name}-corrected{'' if n == 1 else n}" for n in count(1))
    return next(path for name in names if not (path := whole.with_name(name)).exists())
