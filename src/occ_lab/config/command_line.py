"""The command line is completed and checked before Hydra reads it, so that messages are ours."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from occ_lab.config.composition import explained_errors, hydra_ready, readable
from occ_lab.config.errors import UserError, open_value
from occ_lab.config.packages import make_importable
from occ_lab.config.suggestions import check_options, parsed
from occ_lab.utils.files import check_name

REQUIRED = {  # what a value that must be given is, where a command has such a key
    "run": "the run directory that `occ-lab train` prints at its end",
    "input": "a file, a folder of images, or a pattern such as 'parts/*.png'",
}
FOLDER_NAMES = ("dataset.name", "loss.name", "representation.name")  # folders are named after them
# Options with which a command prints something instead of its work.
PRINTS = ("hydra_help", "shell_completion", "experimental_rerun", "config_path")


def prepared(arguments: list[str], name: str) -> list[str]:
    """The command line that Hydra reads for the one that was typed.

    Modules in the folder of ``--config-dir`` can be imported from then on.

    Args:
        arguments: without the name of the command.
        name: of its configuration.

    Raises:
        UserError: Hydra could not read it, or could not compose its configuration.
    """
    asked, unknown = get_args_parser().parse_known_intermixed_args(arguments)
    if unknown:
        raise UserError(
            f"{unknown[0]}: there is no such option; a setting is typed without dashes, KEY=VALUE"
        )
    if asked.config_dir is not None and not Path(asked.config_dir).is_dir():
        raise UserError(f"--config-dir: no folder {Path(asked.config_dir).absolute()}")
    make_importable(arguments)
    if any(getattr(asked, option) for option in PRINTS):
        return arguments
    name = asked.config_name or name
    with hydra_ready(asked.config_dir):
        typed = readable(name, asked.overrides, asked.multirun)
        check(asked, name, typed)
    return [*without(arguments, asked.overrides), *typed]


def without(arguments: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The options among the arguments of a command, without its overrides, which are in order."""
    left = list(overrides)
    return [each for each in arguments if not (left and each == left[0] and left.pop(0))]


def check(asked: Namespace, name: str, overrides: list[str]) -> None:
    """Compose the configuration of a command, with the first value of each sweep.

    Raises:
        UserError: it cannot be composed, or a value is missing or cannot be used.
    """
    read = parsed(overrides)
    check_options(read)
    with explained_errors(name, overrides):
        cfg = compose(name, [first_value(each) for each in read], return_hydra_config=True)
    multirun = asked.multirun or "MULTIRUN" in str(cfg.hydra.mode)
    for each in read:
        if each.is_sweep_override() and not multirun:
            key, value = each.get_key_element(), each.get_value_string()
            raise UserError(
                f"{key}={value}: commas separate the values of a sweep, which takes -m; a list is "
                f"{key}=[{value}]"
            )
        if cfg.hydra.output_subdir is not None:
            check_encoding(str(each.input_line))
    if asked.cfg is None:
        check_given(cfg)
        check_folders(cfg, "hydra.sweep.dir" if multirun else "hydra.run.dir")


def first_value(override: Override) -> str:
    """An override as a single run has it: of a sweep, the first value."""
    key, value = override.get_key_element(), override.value()
    if override.is_discrete_sweep():
        return f"{key}={next(iter(override.sweep_string_iterator()))}"
    return f"{key}={value.start}" if isinstance(value, IntervalSweep) else str(override.input_line)


def check_encoding(override: str) -> None:
    """Refuse what cannot be written into the files of a run.

    Raises:
        UserError: a name whose bytes are not UTF-8.
    """
    shown = override.encode("utf-8", "backslashreplace").decode()
    if shown != override:
        raise UserError(f"{shown}: this is not UTF-8; rename it, or name a link to it")


def check_given(cfg: DictConfig) -> None:
    """Refuse a command without the values that it needs.

    Raises:
        UserError: one is not given.
    """
    for key, what in REQUIRED.items():
        if OmegaConf.is_missing(cfg, key):
            raise UserError(f"{key} is not given; name {what}: {key}=...")


def check_folders(cfg: DictConfig, key: str) -> None:
    """Refuse names and an output directory that no folder can have, before Hydra makes it.

    Args:
        cfg: a whole configuration, with Hydra's own part.
        key: of the output directory.

    Raises:
        UserError: the message names the key.
    """
    try:
        for name in FOLDER_NAMES:
            if OmegaConf.select(cfg, name) is not None:
                check_name(name, str(OmegaConf.select(cfg, name)))
        directory = Path(str(OmegaConf.select(cfg, key))).absolute()
    except OmegaConfBaseException as error:
        raise UserError(open_value(error)) from error
    except ValueError as error:
        raise UserError(str(error)) from error
    above = next(each for each in (directory, *directory.parents) if os.path.lexists(each))
    if not above.is_dir():
        raise UserError(f"{key}: {above} is a file; name another directory than {directory}")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{key}: {above} is not writable; name another directory than {directory}")
