"""Where the configuration lies, and how its nodes become objects."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from occ_lab.config.errors import UserError, joined, open_value
from occ_lab.config.packages import located, register
from occ_lab.config.suggestions import check_options, explained, flat, parsed, repository
from occ_lab.config.typed import as_typed, quoted
from occ_lab.utils.conf import conf_dir as conf_dir
from occ_lab.utils.errors import check_number

FILE = "file:"  # before the path of a learned backbone
LARGEST_SEED = 2**32 - 1  # that NumPy takes
# What other values refer to; not needed once they are resolved.
DEFAULTS = ("kinds", "kind", "sides")

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
        raise UserError(open_value(error)) from None  # Hydra would print both
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


def composed(name: str, overrides: list[str]) -> DictConfig:
    """The configuration ``name`` with ``overrides``, resolved, outside a Hydra command.

    Raises:
        UserError: as of `unresolved` and `resolved`.
    """
    return resolved(unresolved(name, overrides))


def unresolved(name: str, overrides: list[str]) -> DictConfig:
    """The configuration ``name`` with ``overrides`` as it is composed, in a command or outside.

    Raises:
        UserError: an override that cannot be read, or a key or option that does not exist.
    """
    with hydra_ready():
        overrides = readable(name, overrides)
        check_options(parsed(overrides))
        with explained_errors(name, overrides):
            return compose(name, overrides)


@contextmanager
def hydra_ready(folder: str | None = None) -> Iterator[None]:
    """A block in which configurations are composed, in a command of Hydra or outside.

    Args:
        folder: that of ``--config-dir``.
    """
    if GlobalHydra.instance().is_initialized():
        yield
        return
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        if folder is not None:  # as hydra.main adds it
            path = create_config_search_path(conf_dir())
            schema = SearchPathQuery(provider="schema")
            path.prepend("command-line", f"file://{Path(folder).absolute()}", schema)
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2("occ_lab", path)
        yield


def readable(name: str, overrides: list[str], multirun: bool = False) -> list[str]:
    """Overrides with paths and names quoted where Hydra would read them otherwise.

    Args:
        name: of the configuration.
        overrides: as typed, in the order of the command line.
        multirun: whether commas separate the values of a sweep; by default as the configuration
            says.

    Raises:
        UserError: as of `occ_lab.config.typed.as_typed` and `file_backbones`.
    """

    @cache
    def chosen() -> dict[str, Any]:
        return flat(defaults_of(name, overrides))

    def default(key: str) -> Any:
        return chosen().get(key)

    def sweeps() -> bool:
        return multirun or "MULTIRUN" in str(chosen()["hydra.mode"])

    return [as_typed(each, default, sweeps) for each in file_backbones(overrides, multirun)]


def defaults_of(name: str, overrides: list[str]) -> DictConfig:
    """The configuration with Hydra's own, as the choices among ``overrides`` leave it.

    A choice that does not exist, or of several, is left out.
    """
    choices = []
    for each in overrides:
        group, equals, option = each.lstrip("+").partition("=")
        if equals and "." not in group and option in repository().get_group_options(group):
            choices.append(each)
    try:
        return compose(name, choices, return_hydra_config=True)
    except HydraException:
        return compose(name, [], return_hydra_config=True)


@contextmanager
def explained_errors(name: str, overrides: list[str]) -> Iterator[None]:
    """Let what prevents the composition of a configuration be said in one line.

    Raises:
        UserError: in place of an error of Hydra.
    """
    try:
        yield
    except HydraException as error:
        try:
            chosen = defaults_of(name, overrides)
        except HydraException as first:  # there is no such configuration
            raise UserError(str(first).splitlines()[0]) from error
        raise UserError(explained(overrides, chosen, error)) from error


def file_backbones(arguments: list[str], multirun: bool = False) -> list[str]:
    """A command line with ``backbone=file:PATH`` as Hydra can read it.

    It becomes ``backbone=file backbone.path=PATH``; in a sweep over such files, the paths are
    separated by commas.

    Raises:
        UserError: a sweep over such files and over other backbones.
    """
    rewritten: list[str] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        choices = value.split(",") if multirun else [value]
        files = [choice.removeprefix(FILE) for choice in choices if choice.startswith(FILE)]
        if key != "backbone" or not files:
            rewritten.append(argument)
            continue
        if len(files) < len(choices):
            raise UserError(
                f"backbone: {value} mixes learned files and other backbones; sweep over each "
                "kind separately"
            )
        rewritten += ["backbone=file", f"backbone.path={','.join(map(quoted, files))}"]
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
        raise UserError(open_value(error)) from None


def benchmark_of(cfg: DictConfig, **values: Any) -> Any:
    """The benchmark that ``cfg.dataset`` describes.

    Args:
        cfg: the whole configuration; the seed that datasets take as theirs is checked first.
        values: further arguments of the benchmark, which take precedence.

    Raises:
        UserError: as of `build`.
    """
    check_value(cfg, "seed", at_least=0, at_most=LARGEST_SEED, integer=True)
    return build(cfg.dataset, "dataset", **values)


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
