"""Checks of plain values that users give, before they reach Rust's fixed types."""

from __future__ import annotations

import math
import os
from typing import Any, Literal

import numpy as np

from slaf._errors import invalid
from slaf._slaf import LEAST_MEMORY

# More than any run has; products of two of them fit 64 bits.
MANY = 1 << 31
# More cells than there are on earth's disks; what is computed with them fits 64 bits.
CELLS = 1 << 40


def whole(name: str, value: Any, low: int, high: int) -> int:
    """Give a whole number, of Python or numpy, in ``low..high``.

    Raises
    ------
    InvalidArgumentError
        For anything else; the message names the argument.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise invalid(f"{name}={value!r} is no whole number")
    if not low <= value <= high:
        raise invalid(f"{name}={value} is not in {low}..{high}")
    return int(value)


def budget(value: Any) -> int | None:
    """Give a budget of memory in bytes; ``None`` for the default.

    Raises
    ------
    InvalidArgumentError
        For anything else, and for less than is heeded.
    """
    if value is None:
        return None
    number = whole("memory", value, 0, (1 << 63) - 1)
    if number < LEAST_MEMORY:
        raise invalid(f"memory={number} bytes: the least that is heeded is {LEAST_MEMORY} (1 MiB)")
    return number


def text(name: str, value: Any) -> str:
    """Give a text.

    Raises
    ------
    InvalidArgumentError
        For anything else, and for text that is no Unicode; the message names the argument.
    """
    if not isinstance(value, str):
        raise invalid(f"{name}={value!r} is no text")
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise invalid(f"{name}={value!r} is no Unicode text") from e
    return str(value)


def path_text(name: str, value: Any) -> str:
    """Give a path or an address as text.

    Raises
    ------
    InvalidArgumentError
        For anything else, and for names that are no Unicode; the message names the argument.
    """
    try:
        path = os.fsdecode(os.fspath(value))
    except TypeError as e:
        raise invalid(f"{name}={value!r} is neither a path nor an address") from e
    return text(name, path)


def flag(name: str, value: Any) -> bool:
    """Give True or False.

    Raises
    ------
    InvalidArgumentError
        For anything else; the message names the argument.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise invalid(f"{name}={value!r} is neither True nor False")
    return bool(value)


def positive(name: str, value: Any) -> float:
    """Give a finite number above 0.

    Raises
    ------
    InvalidArgumentError
        For anything else; the message names the argument.
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    if isinstance(value, (bool, np.bool_)) or not is_number:
        raise invalid(f"{name}={value!r} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise invalid(f"{name}={value} is not finite and above 0")
    return number


def axis_of(axis: Any) -> Literal["obs", "var"]:
    """Give the frame of an axis.

    Raises
    ------
    InvalidArgumentError
        Unless it is ``"cell"`` or ``"gene"``.
    """
    if axis not in ("cell", "gene"):
        raise invalid(f"axis is 'cell' or 'gene', not {axis!r}")
    return "obs" if axis == "cell" else "var"
