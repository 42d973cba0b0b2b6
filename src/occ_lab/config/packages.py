"""Configuration and classes from packages and folders of the user's own."""

from __future__ import annotations

import os
import pkgutil
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from occ_lab.config.errors import UserError
from occ_lab.config.folders import GROUP, folder_of


class InstalledConfigs(SearchPathPlugin):
    """Adds the configuration of installed packages to that of the project.

    A package joins by an entry point of the group ``occ_lab.configs``, whose value is a package
    with YAML files in the groups of the project, or with a folder ``conf`` that holds them. In its
    ``pyproject.toml``:

    .. code-block:: toml

        [project.entry-points."occ_lab.configs"]
        mine = "mine.conf"
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder of each package; files of the project take precedence."""
        for entry in entry_points(group=GROUP):
            folder = folder_of(entry.value)
            if folder is None:
                warnings.warn(
                    f"{GROUP}: the package {entry.value} of {entry.name} cannot be found; its "
                    "configuration is left out",
                    stacklevel=2,
                )
            else:
                search_path.append(f"{GROUP}:{entry.name}", f"file://{folder}")


def register() -> None:
    """Let Hydra know of `InstalledConfigs`; doing so again changes nothing."""
    Plugins.instance().register(InstalledConfigs)


def make_importable(arguments: list[str]) -> None:
    """Let modules in the folder of ``--config-dir DIR`` be imported, here and in processes to come.

    Args:
        arguments: of a command of Hydra, without its name.
    """
    folder = get_args_parser().parse_known_args(arguments)[0].config_dir
    if folder is None:
        return
    path = str(Path(folder).absolute())
    if path not in sys.path:
        sys.path.insert(0, path)
    inherited = os.environ.get("PYTHONPATH")
    if path not in (inherited or "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join([path, *([inherited] if inherited else [])])


def located(name: object, key: str) -> Any:
    """What a dotted name refers to.

    Args:
        name: such as ``mine.cosine.Cosine``.
        key: the configuration key that holds it.

    Raises:
        UserError: it cannot be imported.
    """
    if not isinstance(name, str):
        raise UserError(f"{key} must be the dotted name of a class, got {name!r}")
    try:
        found = pkgutil.resolve_name(name)
    except Exception as error:  # a module of the user's own fails in any way
        raise UserError(
            f"{key}: {name} cannot be imported ({type(error).__name__}: {error}); install its "
            "package, or name the folder of its module with --config-dir"
        ) from error
    if not callable(found):
        raise UserError(f"{key}: {name} is not a class")
    return found
