"""The record of what a queue is: format, patterns, its journal. `.watcher/queue.json`. PURE.

    {"version": 1, "format": "raw", "match": ["*.csv"], "ignore": ["*.part"], "ignore_case": false,
     "legacy": false, "hard_links": false, "marker": "", "companions": [],
     "journal_dir": "", "journal_keep": ""}

The first daemon or sweep writes it, and every other command reads it, so that none needs the flags
again. A key that is not known is left out: a later program of the same version may have written it.
Guarantees: what `decode` returns is within the bounds that the configuration has.
Fails: `decode` raises Damaged, and Newer if the version is not known.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from watcher.rules.companions import (
    LONGEST,
    MOST_COMPANIONS,
    wrong_for_ending,
    wrong_marker,
    wrong_template,
)
from watcher.rules.journal_keep import parse
from watcher.rules.patterns import MOST, never_taken, plain_ending, wrong_pattern

VERSION = 1  # of the layout of the spool, docs/spool-format.md
LARGEST = 1 << 18  # bytes: two lists of the most and longest patterns, written with escapes
_LONGEST_PATH = 4_096  # bytes
_DEEPEST = 200  # brackets: more than any record has


class Damaged(ValueError):
    """The file is no record; the text says why."""


class Newer(ValueError):
    """The record has a version that this program does not know."""


class QueueRecord(NamedTuple):
    """What a queue is. A Mailman queue has no patterns."""

    format: str = "mailman"
    match: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    ignore_case: bool = False
    legacy: bool = False
    hard_links: bool = False
    marker: str = ""
    companions: tuple[str, ...] = ()
    journal_dir: str = ""  # "": in `.watcher`
    journal_keep: str = ""  # "": the default

    def names(self) -> QueueRecord:
        """Return what the record says of names alone."""
        return self._replace(journal_dir="", journal_keep="")

    def __str__(self) -> str:
        """Return the record as the options that make it, without the ignored names."""
        words = [f"format={self.format}"]
        words += [f"match={' '.join(self.match)}"] if self.match else []
        words += [f"marker={self.marker}"] if self.marker else []
        words += [f"companions={' '.join(self.companions)}"] if self.companions else []
        flags = ("ignore_case", "legacy", "hard_links")
        return ", ".join([*words, *(flag for flag in flags if getattr(self, flag))])


def encode(record: QueueRecord) -> bytes:
    """Return the contents of the file."""
    import json

    fields = {"version": VERSION, **record._asdict()}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items()]
    return "{{\n{}\n}}\n".format(",\n".join(lines)).encode()


def decode(data: bytes) -> QueueRecord:
    """Return the record in the contents of a file; raises Damaged or Newer."""
    import json

    if len(data) > LARGEST:
        raise Damaged(f"larger than {LARGEST} bytes")
    if data.count(b"[") + data.count(b"{") > _DEEPEST:
        raise Damaged("too many brackets")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Damaged("not JSON" if data else "empty") from None
    if not isinstance(found, dict):
        raise Damaged("not a JSON object")
    version = found.get("version")
    if type(version) is not int or version < 1:
        raise Damaged("no version")
    if version > VERSION:
        raise Newer(f"version {version}; this program knows versions up to {VERSION}")
    return _checked(found)


def differences(there: QueueRecord, here: QueueRecord) -> str:
    """Say in which options two records differ; "" if in none."""
    return "; ".join(
        f"{key} {_shown(one)}, not {_shown(other)}"
        for key, one, other in zip(QueueRecord._fields, there, here, strict=True)
        if one != other
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value) or "nothing"


def _checked(found: Mapping[str, object]) -> QueueRecord:
    style = found.get("format")
    if not isinstance(style, str) or style not in ("mailman", "raw"):
        raise Damaged('format: expected "mailman" or "raw"')
    flags = {}
    for key in ("ignore_case", "legacy", "hard_links"):
        value = found.get(key, False)
        if not isinstance(value, bool):
            raise Damaged(f"{key}: expected true or false")
        flags[key] = value
    match, ignore = (_patterns(key, found.get(key, [])) for key in ("match", "ignore"))
    if style == "raw" and (not match or any(map(never_taken, match)) or flags["legacy"]):
        raise Damaged("match: no pattern of an entry" if not flags["legacy"] else "legacy and raw")
    marker, companions = _templates(found, match, any_case=flags["ignore_case"])
    beside = match or ignore or marker or companions
    if style == "mailman" and (beside or flags["ignore_case"]):
        raise Damaged("patterns, marker and companions go with the raw format")
    return QueueRecord(
        style,
        match,
        ignore,
        **flags,
        marker=marker,
        companions=companions,
        journal_dir=_journal_dir(found.get("journal_dir", "")),
        journal_keep=_journal_keep(found.get("journal_keep", "")),
    )


def _journal_dir(value: object) -> str:
    is_path = isinstance(value, str) and (not value or value[:1] == "/") and "\0" not in value
    try:
        if is_path and len(os.fsencode(str(value))) <= _LONGEST_PATH:
            return str(value)
    except UnicodeEncodeError:
        pass
    raise Damaged("journal_dir: expected an absolute path")


def _journal_keep(value: object) -> str:
    try:
        if isinstance(value, str) and (not value or parse(value)):
            return value
    except (ValueError, OverflowError):
        pass
    raise Damaged("journal_keep: no time and no size")


def _templates(
    found: Mapping[str, object], match: tuple[str, ...], *, any_case: bool
) -> tuple[str, tuple[str, ...]]:
    marker, given = found.get("marker", ""), found.get("companions", [])
    if not isinstance(marker, str) or not isinstance(given, list) or len(given) > MOST_COMPANIONS:
        raise Damaged("marker, companions: expected a template, and a list of templates")
    companions = tuple(each for each in given if isinstance(each, str))
    ending = "" if any_case or not match else plain_ending(match) or ""
    try:
        wrong = any(map(wrong_template, companions)) or len(companions) != len(given)
        if marker:
            of_entry = wrong_for_ending(marker, os.fsencode(ending))
            wrong = wrong or wrong_marker(marker) is not None or of_entry is not None
        wrong = wrong or any(len(os.fsencode(each)) > LONGEST for each in (marker, *companions))
    except UnicodeEncodeError:
        wrong = True
    if wrong:
        raise Damaged("marker, companions: no template of a name beside an entry")
    return marker, companions


def _patterns(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST:
        raise Damaged(f"{key}: expected a list of at most {MOST} patterns")
    for each in value:
        try:
            wrong = not isinstance(each, str) or wrong_pattern(each) is not None
        except UnicodeEncodeError:
            wrong = True
        if wrong:
            raise Damaged(f"{key}: {str(each)[:50]!r} is no pattern")
    return tuple(value)
