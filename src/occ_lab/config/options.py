"""The groups and keys of a command without Hydra, which takes a second: for help and completion.

The list of defaults of each YAML file is followed as Hydra follows it, for what the files of this
project use of it. A test composes all of them in both ways.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path

import yaml

from occ_lab.config.folders import GROUP, folder_of
from occ_lab.config.yaml_file import Key, YamlFile, read
from occ_lab.utils.conf import conf_dir

OF_THE_FILES = ("kind.", "kinds.", "task.")  # keys below these are not for the command line
# Keys that any part has.
EVERYWHERE = {
    "_target_": Key(None, "The class that is made; any class that can be imported.", "text"),
    "_partial_": Key(None, "Whether the class gets further arguments later.", "true | false"),
}
WITH_VALUE = ("--config-dir", "--config-name", "--config-path", "--cfg", "--package", "--info")
SHORT = {"-cd": "--config-dir", "-cn": "--config-name", "-cp": "--config-path", "-c": "--cfg"}


@dataclass(frozen=True)
class Typed:
    """The words of a command line after the command.

    Attributes:
        options: those with dashes, by their long names; empty where one has no value.
        overrides: all others, by key, with the first value of a sweep.
    """

    options: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)


def typed(words: Sequence[str]) -> Typed:
    """Read the words of a command line; what cannot be read is left out.

    Example:
        >>> typed(["-m", "loss=norm,cfa", "--config-dir", "mine"])
        Typed(options={'-m': '', '--config-dir': 'mine'}, overrides={'loss': 'norm'})
    """
    found = Typed()
    left = list(words)
    while left:
        word = left.pop(0)
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            name = SHORT.get(name, name)
            if name in WITH_VALUE and not equals and left and not left[0].startswith("-"):
                value = left.pop(0)
            found.options[name] = value
        elif "=" in word:
            key, _, value = word.lstrip("+~").partition("=")
            several = "," in value and value[0] not in "[{'\""
            found.overrides[key] = value.split(",")[0] if several else value
    return found


class Options:
    """The groups and the keys of a command, as a command line leaves them.

    Args:
        name: of the command's configuration, such as ``train``.
        words: of the command line after the command.

    Attributes:
        groups: what is chosen in each group that has choices, None for nothing, in the order of
            the files.
        keys: by dotted names, each with its last value.
    """

    def __init__(self, name: str, words: Sequence[str] = ()) -> None:
        self.line = typed(words)
        self.folders = list(config_folders(self.line.options.get("--config-dir")))
        self.chosen: dict[str, str | None] = {
            key: value.partition(":")[0] for key, value in self.line.overrides.items()
        }
        self.groups: dict[str, str | None] = {}
        files = self._expanded(self.line.options.get("--config-name") or name, "")
        for key, option in self.chosen.items():
            if key not in self.groups and self.file(f"{key}/{option}") is not None:
                files += self._expanded(f"{key}/{option}", key.replace("/", "."))
                self.groups[key] = option
        self.groups = dict(reversed(self.groups.items()))
        self.groups = {each: self.groups[each] for each in self.groups if self.choices(each)}
        self.keys: dict[str, Key] = {}
        for package, file in files:
            for key, found in file.keys.items():
                self._put(f"{package}.{key}".lstrip("."), found)
        self._defaults = dict(self.keys)
        for key, value in self.line.overrides.items():
            if key in self.keys and key not in self.groups:
                self.keys[key] = replace(self.keys[key], value=value)

    def _put(self, key: str, found: Key) -> None:
        """Take a key of a later file over those of earlier ones."""
        earlier = self.keys.get(key, Key(None))
        if found.allowed is None:
            found = Key(found.value, earlier.said, earlier.allowed)
        if found.value is not None:  # no keys are below it any more
            for below in [each for each in self.keys if each.startswith(f"{key}.")]:
                del self.keys[below]
        self.keys[key] = found

    def _expanded(self, path: str, package: str) -> list[tuple[str, YamlFile]]:
        """A file and those of its defaults in their order, each with its package."""
        file = self.file(path)
        if file is None:
            return []
        group = path.rpartition("/")[0]
        if file.package is not None:
            package = file.package.replace("_global_", "")
        entries = file.defaults if "_self_" in file.defaults else [*file.defaults, "_self_"]
        for entry in entries:
            if isinstance(entry, dict):
                (name, option), *_ = entry.items()
                if overridden(name):
                    self.chosen.setdefault(overridden(name), option)
        parts = []
        for entry in reversed(entries):  # a later one may choose for an earlier one
            if entry == "_self_":
                parts.append([(package, file)])
            elif isinstance(entry, str):
                name, _, at = entry.partition("@")
                inner = name.rpartition("/")[0].replace("/", ".")
                below = package if at == "_here_" or not inner else f"{package}.{inner}".strip(".")
                parts.append(self._expanded(f"{group}/{name}".lstrip("/"), below))
            elif not overridden(next(iter(entry))):
                (name, option), *_ = entry.items()
                name = name.split()[-1].lstrip("/")
                option = self.chosen.get(name, option)
                option = None if option == "null" else option
                self.groups[name] = option
                below = name.replace("/", ".")
                parts.append(self._expanded(f"{name}/{option}", below) if option else [])
        return [each for part in reversed(parts) for each in part]

    def file(self, path: str) -> YamlFile | None:
        """The file of a path like ``loss/norm``, from the first folder that has it."""
        for folder in self.folders:
            try:
                return read(folder / f"{path}.yaml")
            except (OSError, ValueError, yaml.YAMLError):
                continue
        return None

    def choices(self, group: str) -> dict[str, str]:
        """The options of a group that the command can take, each with what its file says."""
        found = {each.stem for folder in self.folders for each in (folder / group).glob("*.yaml")}
        return {
            name: file.about
            for name in sorted(found)
            if (file := self.file(f"{group}/{name}")) is not None
            and self._needed(f"{group}/{name}") <= self.groups.keys()
        }

    def _needed(self, path: str) -> set[str]:
        """The groups in which a file, or one that it is based on, makes a choice."""
        file = self.file(path)
        needed: set[str] = set()
        for entry in file.defaults if file is not None else ():
            if isinstance(entry, dict):
                name = overridden(next(iter(entry)))
                needed |= {name} if name and not name.startswith("hydra/") else set()
            elif entry != "_self_":
                needed |= self._needed(f"{path.rpartition('/')[0]}/{entry.partition('@')[0]}")
        return needed

    def explained(self, key: str) -> Key | None:
        """A key with what explains it, its own comment or that of a key above it."""
        found = self.keys.get(key)
        if found is None:
            return None
        above = key
        while found.allowed is None and above:
            if above.rpartition(".")[2] in EVERYWHERE:
                return replace(EVERYWHERE[above.rpartition(".")[2]], value=found.value)
            above = above.rpartition(".")[0]
            if above in self.keys and self.keys[above].allowed is not None:
                return replace(self.keys[above], value=found.value)
        return found

    def in_a_whole(self, key: str) -> bool:
        """Whether a key is explained by one above it alone."""
        return (
            self.keys[key].allowed is None
            and key != ""
            and any(
                self.keys[above].allowed is not None
                for above in self.keys
                if key.startswith(f"{above}.")
            )
        )

    def leaves(self) -> dict[str, Key]:
        """The keys with a value, those for the command line alone, explained."""
        return {
            key: self.explained(key) or found
            for key, found in self.keys.items()
            if found.value is not None and not key.startswith(OF_THE_FILES) and key != "kind"
        }

    def value(self, key: str) -> str | None:
        """The value of a key as text, with what it refers to put in; None where keys are below it.

        A part that only the command knows, such as the time, stays in words: ``DATE``.
        """
        return self._resolved(self.keys[key].value)

    def default(self, key: str) -> str | None:
        """The value that a key has unless the command line sets it."""
        return self._resolved(self._defaults[key].value)

    def _resolved(self, text: str | None) -> str | None:
        for _ in range(20):  # what is referred to may refer to something else
            if text is None or not (found := re.search(r"\$\{([^{}]*)\}", text)):
                return text
            put = self._referred(found[1])
            if put is None:
                return None
            text = text[: found.start()] + put + text[found.end() :]
        return text

    def _referred(self, inner: str) -> str | None:
        """What one reference stands for."""
        resolver, colon, arguments = inner.partition(":")
        if not colon:
            return self._at(inner, inner.replace(".", "_").upper())
        first, _, default = arguments.partition(",")
        if resolver == "oc.env":
            return os.environ.get(first, default.strip("'"))
        if resolver == "oc.select":
            return self._at(first, default)
        return "DATE" if resolver == "now" else first

    def _at(self, key: str, default: str) -> str | None:
        """The value of a key, or a default where there is none; `kind` is that of the dataset."""
        if key.startswith("kind."):
            kind = self._resolved(self._at("dataset.kind", "structured"))
            key = f"kinds.{kind}{key.removeprefix('kind')}"
        if key not in self.keys or self.keys[key].value == "???":
            return default
        return self.keys[key].value


def overridden(entry: str) -> str:
    """The group of an entry of a list of defaults that makes a choice in another file's place.

    Example:
        >>> overridden("override /projector@_global_.projector"), overridden("optional experiment")
        ('projector', '')
    """
    first, _, name = entry.rpartition(" ")
    return name.lstrip("/").split("@")[0] if first == "override" else ""


def config_folders(own: str | None) -> Iterator[Path]:
    """The folders of YAML files, the first ones first: of the command line, ours, of packages."""
    if own:
        yield Path(own).expanduser()
    yield Path(conf_dir())
    for entry in entry_points(group=GROUP):
        folder = folder_of(entry.value)
        if folder is not None:
            yield folder
