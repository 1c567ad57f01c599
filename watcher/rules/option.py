"""One option of the configuration: how its value is read. PURE.

The tables of options (`config.options`, and one in each kind of handler) are made of these.
Fails: a reader raises ValueError, KeyError or OverflowError; `read_by` raises BadConfiguration
that names the place, what was expected, and what was there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from watcher import durations
from watcher.errors import BadConfiguration

SHORTEST = 0.01  # seconds between sweeps, or before a retry
LONGEST_SHOWN = 100  # characters of a wrong value, in a message


class Option(NamedTuple):
    """One row of a table: how a value is read, and what the messages and the page say of it."""

    read: Callable[[object], Any]
    expected: str
    default: str
    help: str


class WrongValue(ValueError):
    """A wrong value; the text says how to correct it."""


def duration(value: object) -> float:
    """Read a duration, in seconds; raise ValueError."""
    if isinstance(value, str):
        return durations.parse(value)
    raise ValueError


def period(value: object) -> float:
    """Read a duration of at least `SHORTEST`, in seconds; raise ValueError."""
    seconds = duration(value)
    if seconds < SHORTEST:
        raise ValueError
    return seconds


_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size(value: object) -> int:
    """Read a number of bytes above 0; raise ValueError or KeyError."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str):
        number, unit = (value, "") if value[-1:].isdigit() else (value[:-1], value[-1:])
        found = int(number) * _SIZES[unit]
        if found > 0:
            return found
    raise ValueError


def flag(value: object) -> bool:
    """Read true or false; raise ValueError."""
    if isinstance(value, bool):
        return value
    raise ValueError


def count_to(most: int) -> Callable[[object], int]:
    """Return a reader of whole numbers from 1 to `most`."""

    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        raise ValueError

    return read


def number(least: float, most: float) -> Callable[[object], float]:
    """Return a reader of numbers from `least` to `most`."""

    def read(value: object) -> float:
        if type(value) in (int, float) and least <= value <= most:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]
        raise ValueError

    return read


def one_of(*words: str) -> Callable[[object], str]:
    """Return a reader of one of some words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError

    return read


def read_by(option: Option, value: object, place: str) -> Any:
    """Read the value of an option found at `place`; raise BadConfiguration."""
    try:
        return option.read(value)
    except (ValueError, KeyError, OverflowError) as error:
        correction = f" ({error})" if isinstance(error, WrongValue) and str(error) else ""
        raise BadConfiguration(
            f"{place}: expected {option.expected}; got {shown(value)}{correction}"
        ) from None


def shown(value: object) -> str:
    """Return a wrong value as a message shows it."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
