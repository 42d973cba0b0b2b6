"""Where the configuration lies, and how its nodes become objects."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import (
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from occ_lab.config.errors import UserError, joined
from occ_lab.config.packages import located, make_importable, register
from occ_lab.utils.conf import conf_dir as conf_dir
from occ_lab.utils.errors import check_number

FILE = "file:"  # before the path of a learned backbone
DEFAULTS = ("kinds", "kind")  # what other values refer to; not needed once they are resolved

register()


def resolved(cfg: DictConfig) -> DictConfig:
    """A copy without interpolations, so that any part of it can be taken out.

    What refers to the task stays as it is until there is one: ``${task.folder}``.

    Raises:
        UserError: something refers to what is not there.
    """
    copy = cfg.copy()
    try:
        _resolve(copy)
    except OmegaConfBaseException as error:
        raise _unresolved(error) from None  # Hydra would print both
    with open_dict(copy):
        for key in DEFAULTS:
            copy.pop(key, None)
    return copy


def _resolve(node: DictConfig | ListConfig) -> None:
    keys = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        if OmegaConf.is_missing(node, key):
            continue
        if OmegaConf.is_interpolation(node, key):
            try:
                node[key] = node[key]
            except InterpolationToMissingValueError:
                continue
        child = node[key]
        if isinstance(child, DictConfig | ListConfig):
            _resolve(child)


def _unresolved(error: OmegaConfBaseException) -> UserError:
    """What the user reads of a value that is missing or refers to what is not there."""
    if isinstance(error, MissingMandatoryValue):
        return UserError(f"{error.full_key} has no default; give it a value")
    said = str(error.msg or error).splitlines()[0]
    return UserError(f"{error.full_key}: {said}" if error.full_key else said)


def composed(name: str, overrides: list[str]) -> DictConfig:
    """The configuration ``name`` with ``overrides``, resolved, outside a Hydra command."""
    return resolved(unresolved(name, overrides))


def unresolved(name: str, overrides: list[str]) -> DictConfig:
    """The configuration ``name`` with ``overrides`` as it is composed, in a command or outside."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose(name, file_backbones(overrides))


def prepared(arguments: list[str]) -> list[str]:
    """The command line that Hydra reads for the one that was typed.

    Modules in the folder of ``--config-dir`` can be imported from then on.

    Args:
        arguments: without the name of the command.

    Raises:
        UserError: as of `file_backbones`.
    """
    make_importable(arguments)
    return file_backbones(arguments)


def file_backbones(arguments: list[str]) -> list[str]:
    """A command line with ``backbone=file:PATH`` as Hydra can read it.

    It becomes ``backbone=file backbone.path=PATH``; in a sweep over such files, the paths are
    separated by commas.

    Raises:
        UserError: a sweep over such files and over other backbones.
    """
    rewritten: list[str] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        choices = value.split(",")
        files = [choice.removeprefix(FILE) for choice in choices if choice.startswith(FILE)]
        if key != "backbone" or not files:
            rewritten.append(argument)
            continue
        if len(files) < len(choices):
            raise UserError(
                f"backbone: {value} mixes learned files and other backbones; sweep over each "
                "kind separately"
            )
        paths = ",".join("'{}'".format(path.replace("'", "\\'")) for path in files)
        rewritten += ["backbone=file", f"backbone.path={paths}"]
    return rewritten


def build(node: DictConfig, key: str, **values: Any) -> Any:
    """The object that ``node`` describes by its ``_target_``, any class that can be imported.

    This is for the configuration of a command, which is the user's own. What comes with a run
    directory is read by `occ_lab.utils.specs.made_of`, which makes only known classes.

    Args:
        node: a configuration node with a ``_target_``; nested ones are built too.
        key: where the node stands in the configuration; error messages begin with it.
        values: further arguments of the target, which take precedence.

    Raises:
        UserError: a value that the target refuses, or a target that cannot be imported.
    """
    if "_target_" not in node:
        raise UserError(f"{key}: name a class as {key}._target_")
    try:
        for path, target in _targets(node, key):
            located(target, f"{path}._target_")
        return instantiate(node, _convert_="all", **values)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ValueError | TypeError):
            below = _below(node, error)
            refused = OmegaConf.select(node, below) if below else node
            text = joined(f"{key}.{below}".strip("."), cause, _arguments(refused))
            raise UserError(text) from error
        if cause is None:  # a class that Hydra itself refuses, such as os.system
            raise UserError(f"{key}: {' '.join(str(error).split())}") from error
        raise
    except OmegaConfBaseException as error:
        raise _unresolved(error) from None


def _targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The targets of a node and of all nodes in it, each with the key of its node."""
    if isinstance(node, DictConfig):
        for name in node:
            if OmegaConf.is_missing(node, name):
                continue
            if name == "_target_":
                yield key, node[name]
            else:
                yield from _targets(node[name], f"{key}.{name!s}")
    elif isinstance(node, ListConfig):
        for index in range(len(node)):
            yield from _targets(node[index], f"{key}[{index}]")


def _below(node: DictConfig, error: InstantiationException) -> str:
    """The key below ``node`` of the object that could not be built; empty where it is itself."""
    said = re.search(r"^full_key: (.+)$", str(error), re.MULTILINE)
    own = str(node._get_full_key(None))
    return said[1].removeprefix(own).strip(".") if said else ""


def _arguments(node: Any) -> set[str]:
    """The names of the arguments of what a node describes."""
    if not isinstance(node, DictConfig):
        return set()
    target = located(node._target_, "_target_")
    classes = inspect.getmro(target) if inspect.isclass(target) else ()
    known = {str(name) for name in node}
    for each in (target, *classes[:-1]):
        try:
            known |= set(inspect.signature(each).parameters)
        except (TypeError, ValueError):  # of C
            continue
    return known


def check_value(cfg: DictConfig, key: str, **rules: Any) -> None:
    """Check the number under ``key`` by the rules of `check_number`.

    Raises:
        UserError: it breaks one; the message begins with ``key``.
    """
    try:
        check_number(key, OmegaConf.select(cfg, key), **rules)
    except ValueError as error:
        raise UserError(str(error)) from error
