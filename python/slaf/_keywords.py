"""Keywords of calls: unknown ones are named with near ones, and former names still work."""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

from slaf._errors import from_kind, invalid

P = ParamSpec("P")
R = TypeVar("R")


def outside() -> int:
    """Give the ``stacklevel`` of the first caller that is no part of slaf, for `warnings.warn`.

    To be called by the function that warns.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    return level


def _is_ours(module: str) -> bool:
    return module == "slaf" or module.startswith("slaf.")


def former(message: str) -> None:
    """Say that something is accepted for the sake of code written for `slafdb`."""
    # One frame more: this function's own.
    warnings.warn(message, DeprecationWarning, stacklevel=outside())


def keywords(
    renamed: Mapping[str, str] | None = None, ignored: Mapping[str, Any] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check the keywords of a function before it is called.

    Parameters
    ----------
    renamed
        Former names of arguments, with the present ones; accepted with a ``DeprecationWarning``.
    ignored
        Former arguments that need not be there: dropped with a ``DeprecationWarning``. Each with
        the one value that it may have, or with ``None`` if no value changes a result.

    Raises
    ------
    InvalidArgumentError
        When the function is called with an argument that it does not have.
    UnsupportedError
        When a former argument has a value that would change the result.
    """
    names, dropped = dict(renamed or {}), dict(ignored or {})

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        known = frozenset(p.name for p in parameters if p.kind in kinds) - {"self"}

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs.keys() <= known:
                return function(*args, **kwargs)
            understood: dict[str, Any] = {}
            for name, value in kwargs.items():
                if name in dropped:
                    if dropped[name] is not None and value != dropped[name]:
                        message = f"{name}={value!r} is not offered; slafdb has it"
                        raise from_kind("unsupported-feature", message)
                    former(f"{name}= is not needed any more, and is ignored")
                    continue
                present = names.get(name, name)
                if present not in known:
                    raise invalid(_unknown(_called(function, args), name, known))
                if present != name:
                    former(f"{name}= is now {present}=")
                if present in understood or (present != name and present in kwargs):
                    raise invalid(f"{present}= is given twice")
                understood[present] = value
            return function(*args, **understood)

        return called

    return decorate


def _called(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    if function.__name__ == "__init__" and args:
        return type(args[0]).__name__
    return function.__name__


def _unknown(what: str, name: str, known: frozenset[str]) -> str:
    close = get_close_matches(name, sorted(known), n=3)
    hint = f"did you mean {', '.join(f'{c}=' for c in close)}?" if close else ""
    return f"{what} has no argument {name}=; " + (hint or f"there are {', '.join(sorted(known))}")
