"""Files from untrusted sources give their data or one message, within a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.utils.errors import InputError
from occ_lab.utils.plain import LARGEST_YAML, read_json, read_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_plain_data_is_read(tmp_path: Path) -> None:
    file = tmp_path / "größe"
    file.write_text("size: {width: 3, name: größe}", encoding="utf-8")
    assert read_yaml(file) == {"size": {"width": 3, "name": "größe"}}
    file.write_text('{"size": [1, 2.5, null]}', encoding="utf-8")
    assert read_json(file) == {"size": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "aliases"),
        ("run: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("[" * 100_000, "recursion|expected"),
        ("a: [1", "expected"),
        (f"a: {'x' * LARGEST_YAML}", "at most 1,048,576"),
        (b"\xff\xfe\x00", "decode"),
    ],
)
def test_hostile_and_damaged_yaml_is_named(tmp_path: Path, text: str | bytes, reason: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"config.yaml cannot be read .*({reason})") as error:
        read_yaml(file, "run")
    assert error.value.part == "run"


@pytest.mark.parametrize("text", ["", '{"a": ', "[" * 100_000, "\0" * 100])
def test_damaged_json_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"metrics\.json cannot be read \("):
        read_json(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml cannot be read .*No such file"):
        read_yaml(tmp_path / "none.yaml")
