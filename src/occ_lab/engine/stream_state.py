"""The state of a stream as a file: what was learned, and the scores that p-values refer to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from occ_lab.engine.online import OnlineState
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_file

FACTS = "occ_lab"  # the key of the metadata


@dataclass(frozen=True)
class StreamState:
    """A stream after some of its images.

    Attributes:
        learned: the state of what updates the detector.
        scores: of the latest images that were learned from, float64 ``[n]``, each given before.
        position: how many images of the stream are done.
        rows: how many of them are in the table; the others could not be read.
        settings: by name, all that must be the same where the stream goes on.
    """

    learned: OnlineState
    scores: Tensor
    position: int
    rows: int
    settings: dict[str, Any]


def write_state(path: Path, state: StreamState) -> None:
    """Write what `read_state` reads, by one rename."""
    facts = {
        "learned": state.learned.facts,
        "position": state.position,
        "rows": state.rows,
        "settings": state.settings,
    }
    tensors = {**state.learned.tensors, "scores": state.scores}
    with whole_file(path) as scratch:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            scratch,
            {FACTS: json.dumps(facts)},
        )


def read_state(path: Path, settings: dict[str, Any]) -> StreamState:
    """The state in a file.

    Args:
        path: the file.
        settings: those of the stream that goes on with it.

    Raises:
        InputError: the file holds no state, or one that was learned with other settings.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()[FACTS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise InputError(
            f"state: {path} is not the state of a stream ({type(error).__name__}); name a file "
            "that `python -m occ_lab.stream` has written, streams/*.safetensors"
        ) from error
    earlier = facts["settings"]
    other = [name for name in settings if earlier.get(name) != settings[name]]
    if other:
        changed = ", ".join(f"{name} {earlier.get(name)}, not {settings[name]}" for name in other)
        raise InputError(f"state: {path} was learned with {changed}; use the same settings")
    scores = tensors.pop("scores").to(torch.float64)
    learned = OnlineState(tensors, facts["learned"])
    return StreamState(learned, scores, facts["position"], facts["rows"], earlier)
