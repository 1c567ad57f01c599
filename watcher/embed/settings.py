"""The settings of a queue that a program embeds: its arguments, over what the queue records.

The options, their values and their bounds are those of a configuration (`config.options`). Neither
a configuration file nor the environment counts: a program says what it wants.
Fails: BadConfiguration that names the option and what was expected; NotBelieved if what the queue
records of its names cannot be believed, and the program does not say it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import msgspec

from watcher.config.load import read_retry
from watcher.config.options import OPTIONS, read_option
from watcher.config.queue_settings import Queue
from watcher.config.recorded import KEYS, Role, Said, chosen
from watcher.errors import BadConfiguration, NoSuch, Usage
from watcher.rules.retry import Policy
from watcher.spool import queue_file

PLACE = "watcher.entries"


class Retries(TypedDict, total=False):
    """How failed entries are tried again; durations as in "30s"."""

    initial: str
    max: str
    multiplier: float
    jitter: float
    give_up_after: str
    max_attempts: int
    max_crashes: int


class Options(TypedDict, total=False):
    """The options of a queue, as docs/configuration.md describes them."""

    legacy: bool
    format: Literal["mailman", "raw"]
    suffix: str
    match: Sequence[str]
    ignore: Sequence[str]
    ignore_case: bool
    marker: str
    companions: Sequence[str]
    grace_age: str
    settle: str
    sweep_every: str
    canary: str
    concurrency: int
    exclusive: bool
    warn_after: str
    breaker: int
    source: Literal["auto", "inotify", "polling"]
    writers: Literal["any", "rename"]
    hard_links: bool
    max_size: str | int
    archive: str
    archive_dated: bool
    archive_for: str
    state_dir: str
    journal: bool
    journal_dir: str
    journal_keep: str
    retry: Retries


def embedded_settings(path: str | bytes | os.PathLike[str], options: Mapping[str, Any]) -> Queue:
    """Return the settings of one directory; raise NoSuch, BadConfiguration or NotBelieved."""
    directory = os.path.abspath(os.fsdecode(path))
    if not os.path.isdir(directory):
        raise NoSuch(f"{directory}: the queue directory does not exist; make it first: mkdir -p")
    given = dict(options)
    retry = given.pop("retry", None)
    for key, value in given.items():
        if key not in OPTIONS:
            known = ", ".join([*OPTIONS, "retry"])
            raise BadConfiguration(f"{PLACE}: {key}: no such option; expected one of {known}")
        read_option(key, value, f"{PLACE}: {key}")
    policy = Policy() if retry is None else read_retry(retry, f"{PLACE}: retry")
    said = Said(directory, given, {})
    try:
        recorded = queue_file.read(os.fsencode(directory), said.outside())
    except queue_file.NotBelieved:
        if not any(key in KEYS for key in given):
            raise
        recorded = None
    try:
        settings, _words = chosen(said, recorded, Role.SERVE)
    except Usage as error:
        text = str(error).removeprefix("command line: ")
        raise BadConfiguration(f"{PLACE}: {text}") from None
    return msgspec.structs.replace(settings, retry=policy)
