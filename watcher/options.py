"""The table of options: how each value is read, its bounds, its default, and a line of help. PURE.

One table serves the file, the environment and the flags; `docs/configuration.md` is made from it.
Fails: BadConfiguration naming the place, what was expected, and what was there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from watcher import durations
from watcher.errors import BadConfiguration

SHORTEST = 0.01  # seconds between sweeps, or before a retry
MOST_WORKERS = 256
STEEPEST = 1000.0  # a delay's growth from one attempt to the next
MOST_ATTEMPTS = 1_000_000
MOST_CRASHES = 1000
LEAST_MEMORY = 64 << 20  # bytes of address space in which Python can start at all
LEAST_CPU = 1.0  # seconds: the kernel counts them whole
LONGEST_SUFFIX = 64  # bytes
LONGEST_SHOWN = 100  # characters of a wrong value, in a message


class Option(NamedTuple):
    """One row of the table: how a value is read, and what people are told of it."""

    read: Callable[[object], Any]
    expected: str
    default: str
    help: str


def _duration(value: object) -> float:
    if isinstance(value, str):
        return durations.parse(value)
    raise ValueError


def period(value: object) -> float:
    """Read a duration that is not next to nothing; raise ValueError."""
    seconds = _duration(value)
    if seconds < SHORTEST:
        raise ValueError
    return seconds


_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str):
        number, unit = (value, "") if value[-1:].isdigit() else (value[:-1], value[-1:])
        size = int(number) * _SIZES[unit]
        if size > 0:
            return size
    raise ValueError


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _count_to(most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        raise ValueError

    return read


def _number(least: float, most: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if type(value) in (int, float) and least <= value <= most:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]
        raise ValueError

    return read


def _memory(value: object) -> int:
    size = _size(value)
    if size < LEAST_MEMORY:
        raise ValueError
    return size


def _cpu(value: object) -> float:
    seconds = _duration(value)
    if seconds < LEAST_CPU:
        raise ValueError
    return seconds


def from_text(key: str, text: str) -> object:
    """Return what an environment variable's text stands for, as TOML would have written it."""
    if key in ("legacy", "journal"):
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower(), text
        )
    if key == "concurrency" and text.isdecimal() and len(text) <= len(str(MOST_WORKERS)):
        return int(text)
    return text


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError

    return read


def _suffix(value: object) -> str:
    if not isinstance(value, str) or "/" in value or "\0" in value or value.endswith(".tmp"):
        raise ValueError
    if len(os.fsencode(value)) > LONGEST_SUFFIX:  # UnicodeEncodeError is a ValueError
        raise ValueError
    return value


OPTIONS: dict[str, Option] = {
    "legacy": Option(_flag, "true or false", "false", "also serve `.db`/`.msg` pairs"),
    "format": Option(
        _one_of("mailman", "raw"), '"mailman" or "raw"', "mailman", "what an entry's file holds"
    ),
    "suffix": Option(
        _suffix, 'an ending like ".csv", not ".tmp"', ".pck", "raw only: which files are entries"
    ),
    "grace_age": Option(
        _duration, durations.EXPECTED, "5m", "how old a file must be before a sweep judges it"
    ),
    "sweep_every": Option(period, durations.EXPECTED, "60s", "time between sweeps"),
    "concurrency": Option(
        _count_to(MOST_WORKERS), "a number from 1 to 256", "1", "entries handled at once"
    ),
    "source": Option(
        _one_of("auto", "inotify", "polling"),
        '"auto", "inotify" or "polling"',
        "auto",
        "where hints come from; auto asks the file system",
    ),
    "max_size": Option(
        _size, 'bytes, or a size like "256M"', "256M", "a larger entry goes to dead/ unread"
    ),
    "journal": Option(
        _flag, "true or false", "true", "keep the books that `watcher audit` balances"
    ),
}

RETRY: dict[str, Option] = {
    "initial": Option(period, durations.EXPECTED, "30s", "delay after the first failure"),
    "max": Option(period, durations.EXPECTED, "1h", "the longest delay, jitter not counted"),
    "multiplier": Option(
        _number(1.0, STEEPEST),
        "a number from 1 to 1000",
        "2",
        "how many times as long each delay is as the one before",
    ),
    "jitter": Option(
        _number(0.0, 1.0),
        "a number from 0 to 1",
        "0.1",
        "the part of a delay that chance may add to it",
    ),
    "give_up_after": Option(
        period, durations.EXPECTED, "5d", "age since the first failure of the last attempt"
    ),
    "max_attempts": Option(
        _count_to(MOST_ATTEMPTS),
        "a number from 1 to 1000000",
        "1000",
        "attempts in all; 1 for no retry",
    ),
    "max_crashes": Option(
        _count_to(MOST_CRASHES),
        "a number from 1 to 1000",
        "3",
        "deaths of the process that has it in hand until an entry is poison",
    ),
}

PYTHON: dict[str, Option] = {
    "isolate": Option(_flag, "true or false", "false", "run the function in a worker process"),
    "timeout": Option(
        period, durations.EXPECTED, "none", "time for one entry: then TERM, and KILL 5 s later"
    ),
    "memory": Option(
        _memory,
        'bytes, or a size like "512M", at least "64M"',
        "none",
        "address space of the worker process",
    ),
    "cpu": Option(
        _cpu, f"{durations.EXPECTED}, at least 1s", "none", "processor time for one entry"
    ),
}


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that `WATCHER_*` variables set; raise BadConfiguration."""
    values = {}
    for key in OPTIONS:
        variable = f"WATCHER_{key.upper()}"
        if variable in environment:
            values[key] = read_option(key, from_text(key, environment[variable]), variable)
    return values


def read_option(key: str, value: object, place: str) -> Any:
    """Read the value of one option found at `place`; raise BadConfiguration."""
    option = OPTIONS[key]
    return read_by(option.read, value, place, option.expected)


def read_by(read: Callable[[object], Any], value: object, place: str, expected: str) -> Any:
    """Read a value by any reader; what it raises becomes a BadConfiguration."""
    try:
        return read(value)
    except (ValueError, KeyError, OverflowError):
        shown = repr(value)
        shown = shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + "..."
        raise BadConfiguration(f"{place}: expected {expected}; got {shown}") from None
