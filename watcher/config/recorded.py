"""Which settings count: those of the flags and the configuration, or those that the queue records.

A queue records what it is in `.watcher/queue.json`. Each command has a role:

    role      nothing said of the names    something else is said than the queue records
    -------   -------------------------    ------------------------------------------------------
    SERVE     as recorded                  what is said counts, and is recorded instead, with a line
    TRY       as recorded                  what is said counts, with a line; nothing is recorded
    INSPECT   as recorded                  flags: refused; variables, configuration: as recorded,
                                           with a line
    COMMIT    as recorded                  refused: the queue's daemon would not take the entry

SERVE and TRY take flags and configuration as the whole truth: `--format raw` alone: every file.
The other roles take a flag as one fact, which may agree: `--format raw` where raw is recorded.
Fails: Usage for a flag, BadConfiguration for a variable or a configuration that is refused.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from watcher.config.load import queue
from watcher.config.options import from_text, read_option
from watcher.config.queue_settings import EVERY_NAME, Queue
from watcher.errors import BadConfiguration, Usage
from watcher.rules.journal_keep import DEFAULT_SIZE
from watcher.rules.patterns import DEFAULT_IGNORE
from watcher.rules.queue_record import QueueRecord, differences
from watcher.spool.state_home import Outside

KEYS = (
    *("format", "suffix", "match", "ignore", "ignore_case", "legacy", "hard_links"),
    *("marker", "companions"),
)
_OTHER = {"raw": "mailman", "mailman": "raw"}
_VARIABLES = tuple(f"WATCHER_{key.upper()}" for key in KEYS)


class Role(enum.Enum):
    """What a command does with a queue, as far as the record matters."""

    SERVE = "serve"
    TRY = "try"
    INSPECT = "inspect"
    COMMIT = "commit"


class Said(NamedTuple):
    """What the command line, the environment and the configuration say of one queue."""

    path: str
    flags: Mapping[str, object]
    environment: Mapping[str, str]
    argv: Sequence[str] | None = None
    base: Queue | None = None  # as configured

    def settings(self) -> Queue:
        """Return the settings without any record."""
        return queue(self.path, self.flags, self.environment, self.argv, self.base)

    def outside(self) -> Outside | None:
        """Return where the state directory lies, and with it the record; None: in the queue."""
        flags = {key: value for key, value in self.flags.items() if key == "state_dir"}
        variables = {
            key: value for key, value in self.environment.items() if key == "WATCHER_STATE_DIR"
        }
        if not flags and self.base is not None:
            return self.base.outside
        if not flags and not variables:
            return None
        return queue(self.path, flags, variables, None, self.base).outside

    def of_names(self) -> str:
        """Return what says how names are read: flags, then the rest; "" if nothing does."""
        flags = [f"--{key.replace('_', '-')}" for key in KEYS if key in self.flags]
        if flags:
            return ", ".join(flags)
        if self.base is not None:
            return "the configuration"
        return ", ".join(name for name in _VARIABLES if name in self.environment)


def record_of(settings: Queue) -> QueueRecord:
    """Return the record that says of a queue what its settings say."""
    raw = settings.format == "raw"
    match = () if not raw else settings.match
    if raw and match == EVERY_NAME:
        match = (f"*{settings.suffix}",)
    return QueueRecord(
        settings.format,
        match,
        settings.ignored if raw else (),
        settings.ignore_case,
        settings.legacy,
        settings.hard_links,
        settings.marker,
        settings.companions,
        _path(settings.journal_outside),
        "" if settings.journal_keep == DEFAULT_SIZE else settings.journal_keep,
    )


def _path(outside: Outside | None) -> str:
    return "" if outside is None else os.fsdecode(outside.path)


def chosen(said: Said, record: QueueRecord | None, role: Role) -> tuple[Queue, str]:
    """Return the settings that count, and a line about a contradiction; "" if there is none."""
    if record is None:
        return said.settings(), ""
    settings, words = _by_names(said, record.names(), role)
    return _with_journal(settings, said, record, role), words


def _with_journal(settings: Queue, said: Said, record: QueueRecord, role: Role) -> Queue:
    """Return the settings with what the queue records of its journal, where nothing else is said.

    A configuration says all of it to a daemon; other commands need no flags.
    """
    if settings.template or (said.base is not None and role in {Role.SERVE, Role.TRY}):
        return settings
    usual = {"journal_dir": "", "journal_keep": DEFAULT_SIZE}
    for key, default in usual.items():
        said_here = key in said.flags or f"WATCHER_{key.upper()}" in said.environment
        if (value := getattr(record, key)) and not said_here and getattr(settings, key) == default:
            settings = msgspec.structs.replace(settings, **{key: value})
    return settings


def _by_names(said: Said, record: QueueRecord, role: Role) -> tuple[Queue, str]:
    """Return the settings that count, by what is said of names alone."""
    by = said.of_names()
    if role in {Role.SERVE, Role.TRY}:
        if not by:
            return _with(said, record), ""
        own = said.settings()
        differ = differences(record, record_of(own).names())
        words = _line(said.path, differ, by, "; what is said here counts") if differ else ""
        return own, words if role is Role.TRY else ""
    recorded = _with(said._replace(flags=_without_names(said.flags)), record)
    if not by:
        return recorded, ""
    differ = _contradiction(said, record)
    if not differ:
        return recorded, ""
    if by.startswith("--"):
        raise Usage(_line(said.path, differ, by, f": leave {by} out{_CHANGE}"))
    if role is Role.COMMIT:
        raise BadConfiguration(_line(said.path, differ, by, f": nothing was put here{_CHANGE}"))
    return recorded, _line(said.path, differ, by, "; what the queue records counts" + _CHANGE)


_CHANGE = "; to change the queue, start or reload its daemon with the other"


def _contradiction(said: Said, record: QueueRecord) -> str:
    """Return in what the queue's record and what is said differ; "" if they agree."""
    if said.base is not None and not _names_in(said.flags):
        return differences(record, record_of(said.base).names())
    for key, value in _names_in(said.flags).items():
        try:
            read_option(key, value, f"--{key.replace('_', '-')}")
        except BadConfiguration as error:
            raise Usage(str(error)) from None
    flags = _names_in(said.flags) or _names_in_variables(said.environment)
    try:
        over = queue(said.path, flags, {}, None, _with(said._replace(flags={}), record))
    except (Usage, BadConfiguration):  # patterns for a Mailman queue, legacy mode for a raw one
        return differences(record, record._replace(format=_OTHER[record.format]))
    return differences(record, record_of(over).names())


def _with(said: Said, record: QueueRecord) -> Queue:
    """Return the settings with the record's in place of those about names."""
    raw = record.format == "raw"
    values: dict[str, Any] = {
        "format": record.format,
        "legacy": record.legacy,
        "hard_links": record.hard_links,
        "suffix": "" if raw else ".pck",
        "match": record.match if raw else EVERY_NAME,
        "ignore": record.ignore if raw else DEFAULT_IGNORE,
        "ignore_case": record.ignore_case,
        "marker": record.marker,
        "companions": record.companions,
    } | ({} if raw else {"writers": "any"})
    environment = {key: value for key, value in said.environment.items() if key not in _VARIABLES}
    return queue(said.path, said.flags, environment, said.argv, said.base, values)


def _names_in(flags: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in flags.items() if key in KEYS}


def _without_names(flags: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in flags.items() if key not in KEYS}


def _names_in_variables(environment: Mapping[str, str]) -> dict[str, object]:
    pairs = zip(KEYS, _VARIABLES, strict=True)
    return {key: from_text(key, environment[name]) for key, name in pairs if name in environment}


def _line(path: str, differ: str, by: str, then: str) -> str:
    return f"{path}: its .watcher/queue.json says {differ} as {by} would have it{then}"
