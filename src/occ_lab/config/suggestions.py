"""What is wrong with an override, and what was probably meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from occ_lab.config.errors import UserError
from occ_lab.config.options import OF_THE_FILES
from occ_lab.config.typed import PARSER, shown_quoted


def parsed(overrides: Sequence[str]) -> list[Override]:
    """What Hydra reads of a command line.

    Raises:
        UserError: it cannot read one; the message shows how to quote it.
    """
    found: list[Override] = []
    for before, typed in zip(["", *overrides], overrides, strict=False):
        try:
            found += PARSER.parse_overrides([typed])
        except OverrideParseException as error:
            raise UserError(cannot_be_read(typed, before)) from error
        found[-1].config_loader = GlobalHydra.instance().config_loader()  # of glob(...)
    return found


def cannot_be_read(typed: str, before: str) -> str:
    """What to do about an override that Hydra cannot read.

    Args:
        typed: the override.
        before: the one that stands before it, which may be the first part of its value.

    Example:
        >>> cannot_be_read("1/good", "dataset.normal=/parts")
        "1/good is not KEY=VALUE; quote a value with spaces: 'dataset.normal=/parts 1/good'"
    """
    key, equals, value = typed.partition("=")
    if equals and key.strip() == key and " " not in key:
        return f"{key}: the value cannot be read; quote it: {shown_quoted(key, value)}"
    meant = f"{before} {typed}" if "=" in before else f"KEY={typed}"
    return f"{typed} is not KEY=VALUE; quote a value with spaces: {shlex.quote(meant)}"


def check_options(overrides: Sequence[Override]) -> None:
    """Refuse options that a group does not have, which Hydra ignores where a group is optional.

    Raises:
        UserError: the message names the nearest option and all others.
    """
    if any(override.key_or_group == "hydra.searchpath" for override in overrides):
        return  # the loader does not know of these files
    for override in overrides:
        group = override.key_or_group
        if "." in group or override.is_delete() or not repository().get_group_options(group):
            continue
        for option in options_of(override):
            folder = "/".join([group, *option.split("/")[:-1]])
            known = repository().get_group_options(folder, ObjectType.CONFIG)
            if option.split("/")[-1].removesuffix(".yaml") not in known:
                raise UserError(no_such_option(group, option, known))


def repository() -> IConfigRepository:
    """The configuration files, which Hydra's loader copies for every question about a group."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    return loader.repository


def options_of(override: Override) -> list[str]:
    """The options that an override of a group names; several in a sweep or list."""
    values: list[Any]
    if override.is_choice_sweep():
        values = [each.strip("'\"") for each in override.sweep_string_iterator()]
    else:
        value = override.value()
        values = list(value) if isinstance(value, list) else [value]
    return ["null" if each is None else str(each) for each in values]


def no_such_option(group: str, option: str, known: Collection[str]) -> str:
    """What to say of an option that a group does not have.

    Example:
        >>> no_such_option("loss", "nrom", ["cfa", "norm"])
        'loss=nrom: there is no such option; did you mean loss=norm? There are cfa, norm'
    """
    close = get_close_matches(option, known, n=1)
    meant = f"; did you mean {group}={close[0]}?" if close else "."
    if group == "dataset" and not close and Path(option).expanduser().exists():
        meant = f"; for a folder of your own images: dataset=folder dataset.normal={option}."
    if group.startswith("hydra/"):
        meant += " Some come with pip install 'occ-lab[sweep]'."
    return f"{group}={option}: there is no such option{meant} There are {', '.join(known)}"


def explained(overrides: Sequence[str], chosen: DictConfig, error: Exception) -> str:
    """Why a configuration cannot be composed, in one line.

    Args:
        overrides: of the configuration.
        chosen: the configuration as the choices among them leave it, with Hydra's own part.
        error: what Hydra says.
    """
    if found := re.match(r"In '(.+)/(.+)': Could not override '(\w+)\W.*No match", str(error)):
        group, option, missing = found.groups()
        return f"{group}={option} needs a {missing} of its own, which this command does not have"
    known = flat(chosen)
    for override in parsed(overrides):
        key = override.key_or_group
        if not (override.is_add() or override.is_force_add()) and key not in known:
            return no_such_key(key, override.get_key_element(), known)
        if override.is_add() and key in known:
            return f"+{key}: there is such a key already; leave out the +"
    said = [str(each).splitlines()[0] for each in (error, error.__cause__) if each]
    return "; ".join(line.rstrip(".") for line in said)


def no_such_key(key: str, typed: str, known: Mapping[str, Any]) -> str:
    """What to say of a key that a configuration does not have.

    Example:
        >>> no_such_key("dataset.catgory", "dataset.catgory", {"dataset.category": "all"})
        'dataset.catgory: there is no such key; did you mean dataset.category?'
    """
    meant = nearest(key, [each for each in known if not each.startswith(OF_THE_FILES)])
    if meant:
        return f"{typed}: there is no such key; did you mean {' or '.join(meant)}?"
    return f"{typed}: there is no such key; --cfg job prints all, and +{key}=VALUE adds one"


def nearest(key: str, known: Collection[str]) -> list[str]:
    """The keys that are most like one: in the same group, then in any, at most three.

    Example:
        >>> nearest("lr", ["loss.norm", "loss.fit.optimizer.lr"])
        ['loss.fit.optimizer.lr']
    """
    key = key.replace("/", ".")
    group, _, last = key.rpartition(".")
    siblings = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == group}
    if close := get_close_matches(last, siblings, n=1):
        return [siblings[close[0]]]
    if close := get_close_matches(key, known, n=1, cutoff=0.9):
        return close
    lasts = {each.rpartition(".")[2] for each in known}
    close = get_close_matches(last, lasts, n=1, cutoff=0.75)
    return [each for each in known if close and each.rpartition(".")[2] == close[0]][:3]


def flat(cfg: DictConfig) -> dict[str, Any]:
    """Every key of a configuration with its value, unresolved; those of nodes as well.

    Example:
        >>> flat(OmegaConf.create({"a": {"b": 1}}))
        {'a': {'b': 1}, 'a.b': 1}
    """
    content = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(content, dict)
    return dict(flat_items(content, ""))


def flat_items(node: Mapping[Any, Any], before: str) -> Iterator[tuple[str, Any]]:
    """The items of nested mappings by dotted keys."""
    for name, value in node.items():
        yield f"{before}{name}", value
        if isinstance(value, Mapping):
            yield from flat_items(value, f"{before}{name}.")
