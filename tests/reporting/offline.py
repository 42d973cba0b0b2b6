"""What W&B has stored of an offline run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def only(directory: Path) -> Path:
    """The file of the only offline run in a run directory, complete."""
    import wandb

    wandb.teardown()  # the service writes the file, also after a run is finished
    (file,) = directory.glob("wandb/offline-run-*/*.wandb")
    return file


def records(file: Path) -> list[Any]:
    """What an offline W&B run holds, in order: the log format of LevelDB after 7 bytes of W&B."""
    from wandb.proto import wandb_internal_pb2

    content, place, records, begun = file.read_bytes(), 7, [], b""
    while place + 7 <= len(content):
        room = 32768 - place % 32768  # left in the block; what cannot hold a header is padding
        if room < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        begun += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            records.append(wandb_internal_pb2.Record.FromString(begun))
            begun = b""
    return records


def run_of(file: Path) -> Any:
    """The W&B run: its name, group, job type and configuration."""
    (run,) = (each.run for each in records(file) if each.HasField("run"))
    return run


def history(file: Path) -> dict[str, Any]:
    """The last value that was logged under each name."""
    logged = [each.history.item for each in records(file) if each.HasField("history")]
    return joined(item for items in logged for item in items)


def summary(file: Path) -> dict[str, Any]:
    """The summary of the run."""
    updates = [each.summary.update for each in records(file) if each.HasField("summary")]
    return joined(item for items in updates for item in items)


def joined(items: Iterable[Any]) -> dict[str, Any]:
    """Values by their keys; those of nested keys are mappings."""
    found: dict[str, Any] = {}
    for item in items:
        *above, key = item.nested_key or [item.key]
        inner = found
        for name in above:
            inner = inner.setdefault(name, {})
        inner[key] = json.loads(item.value_json)
    return found


def artifacts(file: Path) -> dict[str, dict[str, Path]]:
    """The files of each artifact by their names in it, by its name without the run's."""
    own, found = f"-{run_of(file).run_id}", {}
    for each in records(file):
        if each.HasField("artifact"):
            name = each.artifact.name.replace(own, "")
            entries = each.artifact.manifest.contents
            found[name] = {entry.path: Path(entry.local_path) for entry in entries}
    return found


def media(file: Path, *parts: str) -> Path:
    """The only file below the run's media that matches."""
    (path,) = file.parent.glob("/".join(["files/media", *parts]))
    return path
