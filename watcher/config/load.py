"""Reads the configuration once, by the table of options, into frozen records.

Flags beat `WATCHER_*` in the environment, which beats the TOML file, which beats the defaults.
Guarantees: an unknown key, a wrong type or a value out of bounds is a BadConfiguration that names
the file (or variable, or flag), the key, and what was expected, in one line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from watcher import durations
from watcher.config.consistency import checked, matches_itself
from watcher.config.daemon_settings import check_table
from watcher.config.options import OPTIONS, RETRY, from_environment, read_option
from watcher.config.queue_settings import Queue
from watcher.config.toml import read_toml
from watcher.errors import BadConfiguration, Usage
from watcher.handle.handler_kinds import read_handler
from watcher.handle.kinds.run_command import Exec
from watcher.rules.option import read_by
from watcher.rules.path_pattern import (
    PathPattern,
    absolute,
    has_pattern,
    unescaped,
    wrong_pattern,
)
from watcher.rules.retry import Policy


def load(file: str, environment: Mapping[str, str]) -> dict[str, Queue]:
    """Read a TOML file of queues; raises BadConfiguration."""
    tree = read_toml(file)
    check_table(tree.pop("daemon", {}), file)
    work = tree.pop("work", None)  # those of `watcher work`
    queues = tree.pop("queues", None)
    if tree:
        raise BadConfiguration(
            f"{file}: {next(iter(tree))}: unknown key;"
            " expected [queues.NAME], [work.NAME] or [daemon]"
        )
    if not isinstance(queues, dict) or not queues:
        more = "; [work.NAME] is for `watcher work`" if work else ""
        raise BadConfiguration(
            f"{file}: queues: expected a table [queues.NAME] for each queue{more}"
        )
    loaded: dict[str, Queue] = {}
    places: dict[str, Queue] = {}
    states: dict[str, dict[str, Queue]] = {"state_dir": {}, "journal_dir": {}}
    for name, table in queues.items():
        where = f"{file}: queues.{name}"
        if not name or not name.isprintable():
            raise BadConfiguration(f"{where}: expected a name that can be shown")
        if not isinstance(table, dict):
            raise BadConfiguration(f"{where}: expected a table")
        loaded[name] = _from_table(name, table, where, os.path.dirname(file), environment)
        place = loaded[name].path if loaded[name].many else os.path.realpath(loaded[name].path)
        if (other := places.setdefault(place, loaded[name])) is not loaded[name]:
            raise BadConfiguration(
                f"{where}.path: expected a directory of its own;"
                f" queues.{other.name} has {other.path} too"
            )
        for key, owners in states.items():
            path = getattr(loaded[name], key)
            if path and (other := owners.setdefault(path, loaded[name])) is not loaded[name]:
                raise BadConfiguration(
                    f"{where}.{key}: expected a directory of its own;"
                    f" queues.{other.name} has {path} too"
                )
    return loaded


def queue(
    path: str,
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    argv: Sequence[str] | None = None,
    base: Queue | None = None,
    recorded: Mapping[str, object] | None = None,
) -> Queue:
    """Return the settings of one directory given on the command line, over `base` if configured.

    `recorded` is what the queue itself says of its names, in place of what `base` says.
    """
    values: dict[str, Any] = {}
    if base is None:
        values = {
            "name": os.path.basename(os.path.abspath(path)) or "/",
            "path": os.path.abspath(path),
            **(recorded or {}),
        }
        given = from_environment(environment)
        values = _over(values, given, "environment")
    else:
        given = {"suffix": base.suffix}
        values = msgspec.structs.asdict(base) | dict(recorded or {})
    try:
        read = {
            key: read_option(key, value, f"--{key.replace('_', '-')}")
            for key, value in flags.items()
        }
        values = _over(values, read, "command line")
        if argv:
            values |= {"handler": Exec(tuple(argv)), "origin": "command line: "}
        said = {*flags, *(given.keys() & values.keys()), *((recorded or {}).keys() & values.keys())}
        return checked(Queue(**values), said, "command line")
    except BadConfiguration as error:
        if not flags:
            raise
        raise Usage(str(error)) from None


def _over(values: dict[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values with those that beat them; `suffix` and `match` stand for each other."""
    if "match" in given and "suffix" in given:
        raise BadConfiguration(
            f"{where}: suffix: it is short for one pattern of match: write one of the two"
        )
    other = {"match": "suffix", "suffix": "match"}
    beaten = {other[key] for key in given if key in other}
    return {key: value for key, value in values.items() if key not in beaten} | dict(given)


def find(queues: Mapping[str, Queue], path: str) -> Queue | None:
    """Return the configured queue of a directory, None if there is none.

    A plain path comes before a pattern, an earlier pattern before a later one.
    """
    real, there = os.path.realpath(path), os.path.abspath(path)
    for settings in queues.values():
        if not settings.many and os.path.realpath(settings.path) == real:
            return settings
    for settings in filter(lambda settings: settings.many, queues.values()):
        pattern = PathPattern.parse(settings.path)
        for place in dict.fromkeys((real, there)):
            if (below := pattern.below(place)) is not None:
                return settings.of_directory(place, below)
    return None


def _from_table(
    name: str, table: dict[str, Any], where: str, folder: str, environment: Mapping[str, str]
) -> Queue:
    values: dict[str, Any] = {"name": name, "origin": f"{where}."}
    for key, value in table.items():
        place = f"{where}.{key}"
        if key == "path":
            if not isinstance(value, str) or not value or "\0" in value:
                raise BadConfiguration(f"{place}: expected a directory; got {value!r}")
            values |= _path(folder, value, place)
        elif key == "handler":
            values["handler"] = read_handler(value, place)
        elif key == "retry":
            values["retry"] = read_retry(value, place)
        elif key in OPTIONS:
            values[key] = read_option(key, value, place)
        else:
            known = ", ".join(["path", "handler", "retry", *OPTIONS])
            raise BadConfiguration(f"{place}: unknown key; expected one of {known}")
    for required in ("path", "handler"):
        if required not in values:
            raise BadConfiguration(f"{where}.{required}: missing; every queue needs one")
    _over({}, table, where)
    given = from_environment(environment)
    values = _over(values, given, "environment")
    settings = checked(Queue(**values), {*table, *given} & values.keys(), where)
    _check_own_directories(settings, where)
    return settings


def _check_own_directories(settings: Queue, where: str) -> None:
    for key in ("state_dir", "journal_dir"):
        if settings.many and matches_itself(settings, getattr(settings, key)):
            raise BadConfiguration(
                f"{where}: {key}: expected a directory that `path` does not match, or it would be"
                f" a queue; got {getattr(settings, key)}"
            )


def _path(folder: str, value: str, place: str) -> dict[str, object]:
    if not has_pattern(value):
        return {"path": os.path.abspath(os.path.join(folder, unescaped(value)))}
    if (wrong := wrong_pattern(value)) is not None:
        raise BadConfiguration(f"{place}: {wrong}; got {value!r}")
    return {"path": absolute(folder, value), "many": True}


def read_retry(value: object, place: str) -> Policy:
    """Read a table of the retry policy, found at `place`; raise BadConfiguration."""
    if not isinstance(value, dict):
        raise BadConfiguration(
            f'{place}: expected a table like {{ initial = "30s", give_up_after = "5d" }}'
        )
    values: dict[str, Any] = {}
    for key, given in value.items():
        if key not in RETRY:
            known = ", ".join(RETRY)
            raise BadConfiguration(f"{place}.{key}: unknown key; expected one of {known}")
        values[key] = read_by(RETRY[key], given, f"{place}.{key}")
    policy = Policy(**values)
    if policy.initial > policy.max:
        wrong, other = ("max", "initial") if "max" in values else ("initial", "max")
        bound = "at least" if wrong == "max" else "at most"
        raise BadConfiguration(
            f"{place}.{wrong}: expected {bound} what `{other}` is,"
            f" {durations.show(getattr(policy, other))};"
            f" got {durations.show(getattr(policy, wrong))}"
        )
    return policy
