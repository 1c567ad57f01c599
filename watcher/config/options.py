"""The table of options: how each value is read, its bounds, its default, and a line of help. PURE.

One table serves the file, the environment and the flags. `docs/configuration.md` shows it, and a
test compares the two.
Fails: BadConfiguration naming the place, what was expected, and what was there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from watcher import durations
from watcher.rules import journal_keep
from watcher.rules.archived_names import archive_path
from watcher.rules.breaker import MOST as MOST_ALIKE
from watcher.rules.companions import (
    LONGEST as LONGEST_TEMPLATE,
    MOST_COMPANIONS,
    wrong_marker,
    wrong_template,
)
from watcher.rules.names import wrong_suffix
from watcher.rules.option import (
    Option,
    WrongValue,
    count_to,
    duration,
    flag,
    number,
    one_of,
    period,
    read_by,
    size,
)
from watcher.rules.patterns import DEFAULT_IGNORE, MOST, never_taken, wrong_pattern

MOST_WORKERS = 256
STEEPEST = 1000.0  # a delay's growth from one attempt to the next
MOST_ATTEMPTS = 1_000_000
MOST_CRASHES = 1000
LONGEST_SUFFIX = 64  # bytes
_COUNTS = {"concurrency": MOST_WORKERS, "breaker": MOST_ALIKE}


def from_text(key: str, text: str) -> object:
    """Return what an environment variable's text stands for, as TOML would have written it."""
    read = OPTIONS[key].read
    if read in (_match, _ignore, _companions):
        return text.split()
    if read is flag:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower(), text
        )
    if key in _COUNTS and text.isdecimal() and len(text) <= len(str(_COUNTS[key])):
        return int(text)
    return text


def _suffix(value: object) -> str:
    if not isinstance(value, str):
        raise WrongValue
    if (wrong := wrong_suffix(value)) is not None:
        raise WrongValue(wrong)
    if len(os.fsencode(value)) > LONGEST_SUFFIX:  # UnicodeEncodeError is a ValueError
        raise ValueError
    return value


def _patterns(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise WrongValue(f'it is a list: write ["{value}"]')
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise WrongValue
    if len(value) > MOST:
        raise WrongValue(f"more than {MOST}")
    for each in value:
        if (wrong := wrong_pattern(each)) is not None:
            raise WrongValue(f"{each!r}: {wrong}")
    return tuple(value)


def _match(value: object) -> tuple[str, ...]:
    patterns = _patterns(value)
    if not patterns:
        raise WrongValue('write ["*"] for every name')
    for each in patterns:
        if (wrong := never_taken(each)) is not None:
            raise WrongValue(f"{each!r}: {wrong}")
    return patterns


def _ignore(value: object) -> tuple[str, ...]:
    return () if value in ([""], ("",)) else _patterns(value)  # as a flag can say it


def _archive(value: object) -> str | None:
    if not isinstance(value, str):
        raise WrongValue
    if not value:
        return None
    try:
        return archive_path(value)
    except UnicodeError:
        raise WrongValue from None


def _archive_for(value: object) -> float | None:
    return None if value == "" else period(value)


def _template(value: object, wrong: Callable[[str], str | None]) -> str:
    if not isinstance(value, str):
        raise WrongValue
    if (why := wrong(value)) is not None:
        raise WrongValue(why)
    if len(os.fsencode(value)) > LONGEST_TEMPLATE:  # UnicodeEncodeError is a ValueError
        raise ValueError
    return value


def _marker(value: object) -> str:
    return "" if value == "" else _template(value, wrong_marker)


def _companions(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise WrongValue(f'it is a list: write ["{value}"]')
    if not isinstance(value, list | tuple):
        raise WrongValue
    if len(value) > MOST_COMPANIONS:
        raise WrongValue(f"more than {MOST_COMPANIONS}")
    return tuple(_template(each, wrong_template) for each in value)


def _or_never(value: object) -> float:
    return 0.0 if value in ("0", "0s") else period(value)


def _breaker(value: object) -> int:
    off = isinstance(value, int) and not isinstance(value, bool) and value == 0
    return 0 if off else count_to(MOST_ALIKE)(value)


def _journal_keep(value: object) -> str:
    if not isinstance(value, str):
        raise WrongValue
    journal_keep.parse(value)
    return value


def _state_dir(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise WrongValue
    if value and not os.path.isabs(value):
        raise WrongValue("it is not absolute")
    return os.path.normpath(value) if value else ""


OPTIONS: dict[str, Option] = {
    "legacy": Option(flag, "true or false", "false", "also serve `.db`/`.msg` pairs"),
    "format": Option(
        one_of("mailman", "raw"), '"mailman" or "raw"', "mailman", "what an entry's file holds"
    ),
    "suffix": Option(
        _suffix, 'an ending like ".csv", not ".tmp"', ".pck", "raw only: which files are entries"
    ),
    "match": Option(
        _match,
        'patterns like ["*.csv", "*.CSV"]',
        "*",
        "raw only: which files are entries; `suffix` is short for one pattern",
    ),
    "ignore": Option(
        _ignore,
        'patterns like ["*.part", "~$*"]',
        " ".join(DEFAULT_IGNORE),
        "raw only: files that are never entries, even if `match` fits; [] leaves `.*` and `*.tmp`",
    ),
    "ignore_case": Option(
        flag, "true or false", "false", "raw only: `match` and `ignore` take any case"
    ),
    "marker": Option(
        _marker,
        'a name with {name} or {stem}, like "{name}.done"',
        "",
        "raw only: an entry is complete when the file of this name is beside it",
    ),
    "companions": Option(
        _companions,
        'names with {name} or {stem}, like ["{name}.aria2"]',
        "",
        "raw only: an entry is not complete while one of these files is beside it",
    ),
    "grace_age": Option(
        duration, durations.EXPECTED, "5m", "how old a file must be before a sweep judges it"
    ),
    "settle": Option(
        duration,
        durations.EXPECTED,
        "0s",
        "raw only: a file that is written in place is complete when it was closed and unchanged for"
        " so long; 0s: when it is past its grace age",
    ),
    "sweep_every": Option(period, durations.EXPECTED, "60s", "time between sweeps"),
    "canary": Option(
        _or_never,
        f"{durations.EXPECTED}, or 0",
        "1m",
        "if no event came for so long, the daemon makes one, to see that events arrive; 0: never",
    ),
    "concurrency": Option(
        count_to(MOST_WORKERS), "a number from 1 to 256", "1", "entries handled at once"
    ),
    "exclusive": Option(
        flag, "true or false", "false", "do not serve the queue beside another daemon"
    ),
    "warn_after": Option(
        _or_never,
        f"{durations.EXPECTED}, or 0",
        "10m",
        "an attempt that lasts for longer is logged, and makes the queue unhealthy; 0: never",
    ),
    "breaker": Option(
        _breaker,
        "a number from 0 to 10000",
        "20",
        "entries in a row that fail alike, or are rejected alike, until only one at a time is"
        " tried; 0: never",
    ),
    "source": Option(
        one_of("auto", "inotify", "polling"),
        '"auto", "inotify" or "polling"',
        "auto",
        "where events come from; auto decides by the file system",
    ),
    "writers": Option(
        one_of("any", "rename"),
        '"any" or "rename"',
        "any",
        "raw only: rename if every writer renames its files in; then a scan knows them as complete",
    ),
    "hard_links": Option(
        flag, "true or false", "false", "a file that has other names (hard links) is an entry too"
    ),
    "max_size": Option(
        size,
        'bytes, or a size like "256M"',
        "256M",
        "a larger entry goes to dead/ unread; a raw one only where this is set",
    ),
    "archive": Option(
        _archive,
        'a directory like "archive/" in the queue, or an absolute path',
        "",
        "where a handled entry is moved to, instead of being removed",
    ),
    "archive_dated": Option(
        flag, "true or false", "false", "in a folder for each day (UTC): archive/2026-11-27/"
    ),
    "archive_for": Option(
        _archive_for,
        durations.EXPECTED,
        "",
        "archived files older than this are removed; if not set, none is",
    ),
    "state_dir": Option(
        _state_dir,
        'an absolute path like "/var/lib/watcher/incoming"',
        "",
        "where `.watcher/` lies if not in the queue; on the same file system",
    ),
    "journal": Option(
        flag, "true or false", "true", "write the journal that `watcher audit` reads"
    ),
    "journal_dir": Option(
        _state_dir,
        'an absolute path like "/var/log/watcher/incoming"',
        "",
        "where the journal lies if not in `.watcher/`; may be another disk",
    ),
    "journal_keep": Option(
        _journal_keep,
        journal_keep.EXPECTED,
        journal_keep.DEFAULT_SIZE,
        "how much of the journal is kept, or how long; a file is removed if either allows it",
    ),
}

RETRY: dict[str, Option] = {
    "initial": Option(period, durations.EXPECTED, "30s", "delay after the first failure"),
    "max": Option(period, durations.EXPECTED, "1h", "the longest delay, jitter not counted"),
    "multiplier": Option(
        number(1.0, STEEPEST),
        "a number from 1 to 1000",
        "2",
        "how many times as long each delay is as the one before",
    ),
    "jitter": Option(
        number(0.0, 1.0),
        "a number from 0 to 1",
        "0.1",
        "the part of a delay that chance may add to it",
    ),
    "give_up_after": Option(
        period, durations.EXPECTED, "5d", "age since the first failure of the last attempt"
    ),
    "max_attempts": Option(
        count_to(MOST_ATTEMPTS),
        "a number from 1 to 1000000",
        "1000",
        "attempts in all; 1 for no retry",
    ),
    "max_crashes": Option(
        count_to(MOST_CRASHES),
        "a number from 1 to 1000",
        "3",
        "deaths of the process that has it in hand until an entry is poison",
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
    return read_by(OPTIONS[key], value, place)
