"""Where the configuration lies, and how its nodes become objects of the project."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from occ_lab.config.errors import UserError
from occ_lab.utils.errors import check_number

FILE = "file:"  # before the path of a learned backbone
TRUSTED = ("occ_lab.", "lightning.pytorch.", "torch.optim.", "torchmetrics.")


def conf_dir() -> str:
    """The folder of the configuration: inside the installed package, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return str(installed if installed.is_dir() else package.parents[1] / "conf")


def _by_kind(structured: Any, semantic: Any, *, _root_: DictConfig) -> Any:
    """``${by_kind:a,b}`` is ``a`` for a structured dataset and ``b`` for a semantic one."""
    return structured if _root_.dataset.kind == "structured" else semantic


OmegaConf.register_new_resolver("by_kind", _by_kind, replace=True)
OmegaConf.register_new_resolver("equal", lambda a, b: a == b, replace=True)


def resolved(cfg: DictConfig) -> DictConfig:
    """A copy without interpolations, so that any part of it can be taken out."""
    copy = cfg.copy()
    OmegaConf.resolve(copy)
    return copy


def composed(name: str, overrides: list[str]) -> DictConfig:
    """The configuration ``name`` with ``overrides``, resolved, outside a Hydra command."""
    return resolved(unresolved(name, overrides))


def unresolved(name: str, overrides: list[str]) -> DictConfig:
    """The configuration ``name`` with ``overrides`` as it is composed, inside a command or out."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose(name, file_backbones(overrides))


def file_backbones(arguments: list[str]) -> list[str]:
    """A command line in which ``backbone=file:PATH`` is said as Hydra's groups allow it.

    It is ``backbone=file backbone.path=PATH``; of a sweep over such files, commas part the paths.

    Raises:
        UserError: a sweep over such files and over backbones of other kinds.
    """
    said: list[str] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        choices = value.split(",")
        files = [choice.removeprefix(FILE) for choice in choices if choice.startswith(FILE)]
        if key != "backbone" or not files:
            said.append(argument)
            continue
        if len(files) < len(choices):
            raise UserError(
                f"backbone: {value} mixes learned files and other backbones; sweep over them apart"
            )
        paths = ",".join("'{}'".format(path.replace("'", "\\'")) for path in files)
        said += ["backbone=file", f"backbone.path={paths}"]
    return said


def build(node: DictConfig, key: str, **values: Any) -> Any:
    """The object that ``node`` describes by its ``_target_``.

    Args:
        node: a configuration node with a ``_target_``; nested ones are built too.
        key: where the node stands in the configuration; error messages begin with it.
        values: further arguments of the target, which take precedence.

    Raises:
        UserError: a value that the target refuses, or a target that is no class of the project
            or of its declared libraries.
    """
    _check_targets(node, key)
    try:
        return instantiate(node, _convert_="all", **values)
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | TypeError):
            raise UserError(f"{key}{_below(node, error)}.{error.__cause__}") from error
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise


def _below(node: DictConfig, error: InstantiationException) -> str:
    """Where below ``node`` an object could not be built, such as ``.encoder``; empty: it itself."""
    told = re.search(r"^full_key: (.+)$", str(error), re.MULTILINE)
    own = str(node._get_full_key(None))
    path = told[1].removeprefix(own).strip(".") if told else ""
    return f".{path}" if path else ""


def check_value(cfg: DictConfig, key: str, **rules: Any) -> None:
    """Check the number under ``key`` by the rules of `check_number`.

    Raises:
        UserError: it breaks one; the message begins with ``key``.
    """
    try:
        check_number(key, OmegaConf.select(cfg, key), **rules)
    except ValueError as error:
        raise UserError(str(error)) from error


def _check_targets(node: Any, key: str) -> None:
    """Only classes of trusted packages are built: a configuration may come from anywhere."""
    if isinstance(node, DictConfig):
        for name in node:
            if name == "_target_":
                _check_target(node[name], key)
            else:
                _check_targets(node[name], f"{key}.{name!s}")
    elif isinstance(node, ListConfig):
        for position, child in enumerate(node):
            _check_targets(child, f"{key}[{position}]")


def _check_target(target: Any, key: str) -> None:
    refused = f"{key}._target_: {target!r} is not a class of {', '.join(TRUSTED)}"
    if not isinstance(target, str) or not target.startswith(TRUSTED):
        raise UserError(refused)
    try:
        get_class(target)
    except (ImportError, ValueError) as error:
        raise UserError(f"{refused} ({error})") from error
