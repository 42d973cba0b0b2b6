"""The state of a stream as a file: what was learned, and the scores that p-values refer to."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from occ_lab.data.transforms import Frame, frame_of
from occ_lab.engine.online import OnlineState
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_file

FACTS = "occ_lab"  # the key of the metadata
FRAMES = (("height", "width"), ("tile", "overlap"), ("resize", "crop"))  # what describes one


class DamagedStateError(InputError):
    """A file that holds no state of a stream, or a damaged one."""


@dataclass(frozen=True)
class StreamState:
    """A stream after some of its images.

    Attributes:
        learned: the state of what updates the detector; None if it stays as it is.
        scores: see `Reference`, float64 ``[n]``.
        peaks: likewise.
        latest: likewise.
        fixed: likewise.
        position: how many images of the stream are done.
        rows: how many of them are in the table; the others could not be read.
        failed: these, and why.
        re_solves: how often the projector was solved for.
        settings: by name, all that must be the same where the stream goes on.
    """

    learned: OnlineState | None
    scores: Tensor
    peaks: Tensor
    latest: Tensor
    fixed: bool
    position: int
    rows: int
    failed: dict[str, str]
    settings: dict[str, Any]
    re_solves: int = 0

    @property
    def frame(self) -> Frame | None:
        """How its images were brought to one size; None before the first one."""
        for names in FRAMES:
            if names[0] in self.settings:
                return frame_of({name: self.settings.get(name) for name in (*names, "range")})
        return None


def write_state(path: Path, state: StreamState) -> None:
    """Write what `read_state` reads, by one rename."""
    facts = {
        "learned": None if state.learned is None else state.learned.facts,
        "fixed": state.fixed,
        "position": state.position,
        "rows": state.rows,
        "failed": state.failed,
        "re_solves": state.re_solves,
        "settings": state.settings,
    }
    learned = {} if state.learned is None else state.learned.tensors
    tensors = {
        **learned,
        "scores": state.scores,
        "peaks": state.peaks,
        "latest": state.latest,
    }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    facts["checksum"] = checksum(tensors)
    with whole_file(path) as scratch:
        save_file(tensors, scratch, {FACTS: json.dumps(facts)})


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """Of all bytes, in the order of the names."""
    value = 0
    for name in sorted(tensors):
        content = tensors[name].cpu().reshape(-1).view(torch.uint8).numpy()
        value = zlib.crc32(content.tobytes(), value)
    return value


def read_state(path: Path, settings: dict[str, Any]) -> StreamState:
    """The state in a file.

    Args:
        path: the file.
        settings: those of the stream that goes on with it.

    Raises:
        DamagedStateError: the file holds no state, or a damaged one.
        InputError: it was learned with other settings.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()[FACTS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if checksum(tensors) != facts.get("checksum", checksum(tensors)):
            raise ValueError("its content has changed")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedStateError(
            f"state: {path} is not the state of a stream ({type(error).__name__}); name a file "
            "that `occ-lab stream` has written, streams/*.safetensors"
        ) from error
    earlier = facts["settings"]
    other = [name for name in settings if earlier.get(name) != settings[name]]
    if other:
        changed = ", ".join(f"{name} {earlier.get(name)}, not {settings[name]}" for name in other)
        raise InputError(f"state: {path} was learned with {changed}; use the same settings")
    scores = tensors.pop("scores").to(torch.float64)
    # Earlier versions had the scores alone.
    peaks = tensors.pop("peaks", scores).to(torch.float64)
    latest = tensors.pop("latest", scores[:0]).to(torch.float64)
    return StreamState(
        learned=None if facts["learned"] is None else OnlineState(tensors, facts["learned"]),
        scores=scores,
        peaks=peaks,
        latest=latest,
        fixed=facts.get("fixed", False),
        position=facts["position"],
        rows=facts["rows"],
        failed=facts.get("failed", {}),
        settings=earlier,
        re_solves=facts.get("re_solves", 0),
    )
