"""Methods by name: a loss of ``occ_lab.train``, with further settings of it if needed."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from occ_lab.config.composition import unresolved
from occ_lab.config.errors import UserError


def several(cfg: DictConfig, key: str) -> list[str]:
    """The values of a key that is one or a list.

    Raises:
        UserError: there is none.
    """
    given = cfg[key]
    values = [str(value) for value in (given if isinstance(given, ListConfig) else [given])]
    if not values or "" in values or given is None:
        raise UserError(f"{key} must be a name or a list of names, got {given!r}")
    return values


def method_run(
    cfg: DictConfig, key: str, method: str, shared: Sequence[str], more: Sequence[str] = ()
) -> DictConfig:
    """The configuration of ``occ_lab.train`` for a method.

    Args:
        cfg: the configuration of a command that runs several methods.
        key: the one that names them.
        method: ``LOSS`` or ``LOSS KEY=VALUE ...``.
        shared: keys whose values are those of ``cfg`` for every method.
        more: overrides that come before those of the method.

    Raises:
        UserError: there is no such loss or key, or the method changes what is shared.
    """
    loss, *own = method.split()
    for override in own:
        name = override.lstrip("+~").partition("=")[0]
        if name.partition(".")[0] in shared:
            raise UserError(
                f"{key}: {method!r} sets {name}, which all have in common; give it as an argument "
                "of the command"
            )
    try:
        train = unresolved("train", [f"loss={loss}", *more, *own])
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    with open_dict(train):
        for name in (name for name in shared if name in cfg):
            train[name] = cfg[name].copy() if isinstance(cfg[name], DictConfig) else cfg[name]
        train.loader = OmegaConf.merge(train.loader, cfg.loader)
    return train
