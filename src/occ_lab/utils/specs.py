"""Objects as plain data: their class and the arguments that they were made with.

A checkpoint stores its parts in this form. It can therefore be read without running any code that
it does not name, and only known classes are instantiated.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from occ_lab.utils.errors import InputError
from occ_lab.utils.trusted import EARLIER, MOVED, TRUSTED


class Recorded:
    """A base class whose objects remember the arguments that they were made with.

    Attributes:
        arguments: by name. They include the defaults of arguments that were left out, so that
            stored files stay valid if the defaults change.

    Example:
        >>> class Circle(Recorded):
        ...     def __init__(self, radius: float, colour: str = "red") -> None:
        ...         self.radius = radius
        >>> Circle(2.0).arguments
        {'radius': 2.0, 'colour': 'red'}
    """

    arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make the object and note the arguments of its constructor."""
        made = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(made, *args, **kwargs)
        except TypeError:  # a copy is made without arguments; the constructor reports a wrong call
            return made
        noted = dict(bound.arguments)
        noted.pop(next(iter(noted)))  # self
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                noted.update(noted.pop(name, {}))
            elif isinstance(parameter.default, str | int | float | None):
                noted.setdefault(name, parameter.default)
        object.__setattr__(made, "arguments", noted)  # nn.Module is not initialised yet
        return made


def spec_of(made: Any) -> dict[str, Any]:
    """An object, or a `functools.partial` of a class, as plain data.

    Args:
        made: an object that has ``arguments`` (see `Recorded`), or a partial of a class.

    Returns:
        ``{"class": name, "arguments": {...}}``, with ``"partial": True`` for a partial.

    Raises:
        TypeError: the object cannot be expressed in this form.

    Example:
        >>> from functools import partial
        >>> from torch.optim import AdamW
        >>> spec_of(partial(AdamW, lr=0.1))
        {'class': 'torch.optim.adamw.AdamW', 'arguments': {'lr': 0.1}, 'partial': True}
    """
    if isinstance(made, functools.partial) and inspect.isclass(made.func) and not made.args:
        return {"class": _name(made.func), "arguments": _plain(made.keywords), "partial": True}
    arguments = getattr(made, "arguments", None)
    if not isinstance(arguments, dict):
        raise TypeError(f"{type(made).__name__} does not remember the arguments it was made with")
    return {"class": _name(type(made)), "arguments": _plain(arguments)}


def spec_or_reason(part: Any) -> dict[str, Any] | None:
    """As `spec_of`; None for None, or the reason if it cannot be expressed as plain data."""
    if part is None:
        return None
    try:
        return spec_of(part)
    except TypeError as error:
        return {"class": type(part).__qualname__, "unknown": str(error)}


def made_of(spec: Mapping[str, Any], trust: Sequence[str] = ()) -> Any:
    """The object that a result of `spec_of` describes.

    A specification may come from anybody. Therefore only classes on an exact list of ours are
    instantiated, and those of packages that the caller trusts by name.

    Args:
        spec: a result of `spec_of`.
        trust: names of further packages or modules whose classes may be instantiated.

    Raises:
        InputError: the class is not on the list, or does not accept the arguments.

    Example:
        >>> made_of({"class": "os.system", "arguments": {"command": "true"}})
        Traceback (most recent call last):
        occ_lab.utils.errors.InputError: os.system is not a class that OCC Lab makes from ...
    """
    if "unknown" in spec:
        raise InputError(
            f"the file does not say how {spec.get('class')} was made ({spec['unknown']}); give the "
            "object itself as an argument"
        )
    known = _known_class(str(spec.get("class")), trust)
    arguments = spec.get("arguments") or {}
    if not isinstance(arguments, Mapping):
        raise InputError(f"the arguments of {spec['class']} must be a mapping")
    earlier = EARLIER.get(MOVED.get(spec["class"], spec["class"]), {})
    values = {str(name): _made(value, trust) for name, value in {**earlier, **arguments}.items()}
    if spec.get("partial"):
        return functools.partial(known, **values)
    try:
        return known(**values)
    except TypeError as error:
        raise InputError(f"{spec['class']} does not take these arguments: {error}") from error


def _known_class(name: str, trust: Sequence[str]) -> Any:
    name = MOVED.get(name, name)
    module, _, attribute = name.rpartition(".")
    packages = [trust] if isinstance(trust, str) else trust
    trusted = any(module == each or module.startswith(f"{each}.") for each in packages)
    if name not in TRUSTED and not trusted:
        raise InputError(
            f"{name} is not a class that OCC Lab makes from a file of a run; if the file and the "
            f"class are your own, name its package with trust=[{module.split('.')[0] or name}]"
        )
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{name} cannot be imported ({error})") from error
    # A module also exposes the names that it imports, so the object itself is checked.
    if not inspect.isclass(cls) or _name(cls) != name:
        raise InputError(f"{name} is not the name of a class in the module that defines it")
    return cls


def _made(value: Any, trust: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if "class" in value:
            return made_of(value, trust)
        return {name: _made(each, trust) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_made(each, trust) for each in value]
    return value


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    return spec_of(value)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
