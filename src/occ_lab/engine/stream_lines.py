"""What a stream prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from occ_lab.engine.live import Stream
from occ_lab.engine.online import why_frozen
from occ_lab.engine.stream_files import StreamFiles
from occ_lab.metrics.calibration import fewest

SHOWN = 20  # rejected images in the final lines


def introduction(stream: Stream) -> str:
    """A few lines that describe what a stream does."""
    rate = f"{100 * stream.overkill:.3g} %"
    reference = stream.reference
    if reference.fixed:
        given = f"by {len(reference.scores)} scores of normal images"
    else:
        given = (
            f"by the scores of the first images of the stream; there are decisions once there are "
            f"{fewest(stream.overkill)} scores"
        )
    lines = [f"An image is rejected at a false-positive rate of {rate}, {given}."]
    if stream.online is None:
        why = why_frozen(stream.detector) if stream.plan.learn else ""
        lines.append(f"The detector does not learn{f': {why}' if why else ''}.")
    elif stream.refuse == stream.overkill:
        lines.append("The detector learns from every image that is not rejected.")
    elif stream.refuse:
        lines.append(f"The detector learns from images with a p-value above {stream.refuse:g}.")
    else:
        lines.append("The detector learns from every image.")
    return "\n".join(lines)


def named(name: str, reason: str) -> str:
    """The reason why a file could not be read, beginning with its name.

    Example:
        >>> named("1.png", "1.png: unreadable (not an image)"), named("2.png", "no verdict")
        ('1.png: unreadable (not an image)', '2.png: no verdict')
    """
    return reason if reason.startswith(f"{name}: ") else f"{name}: {reason}"


def line_of(row: Mapping[str, Any]) -> str:
    """The row of an image as a readable line.

    Example:
        >>> line_of({"path": "1.png", "score": "3.5", "p_value": "0.5", "decision": "accept"})
        'accept  1.png  score 3.5  p-value 0.5'
    """
    if not row["score"]:
        return f"first   {row['path']}  (there is nothing to compare it with)"
    figures = f"score {row['score']}  p-value {row['p_value']}"
    return f"{row['decision'] or '–':6}  {row['path']}  {figures}"


def closing_lines(stream: Stream, files: StreamFiles) -> list[str]:
    """The numbers of accepted and rejected images, and the rejected ones, the worst first."""
    figures = files.figures(stream)
    said = (
        f"{files.name}: {figures['accepted']} accepted, {figures['rejected']} rejected at a "
        f"false-positive rate of {100 * stream.overkill:.3g} %"
    )
    if figures["undecided"]:
        said += (
            f"; {figures['undecided']} without a decision, which needs "
            f"{fewest(stream.overkill)} earlier scores"
        )
    worst = sorted(files.rejected, key=lambda row: -float(row["score"]))
    more = [f"... and {len(worst) - SHOWN} more"] if len(worst) > SHOWN else []
    return [said, *map(line_of, worst[:SHOWN]), *more]
