"""Claim an entry for an operator, wherever it lies, and learn its name in the queue.

Guarantees: as `claim.take`: no handler and no other command has it meanwhile. A file's true name is
believed of a note only if it gives, cut and numbered, the name that the file has.
Fails: as `take`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from watcher.claim.take import Claim, Refusal, Refused, Terms, take
from watcher.evidence import How, Shape
from watcher.inspect.census import IN_QUEUE, Listed
from watcher.inspect.notes import read_note, stamp_of, stem_of
from watcher.lifecycle import State
from watcher.spool.layout import NAME_MAX, Layout, display, stored
from watcher.spool.schedule import Schedule, stamped
from watcher.spool.spool import Spool

_NUMBER = re.compile(rb"~([0-9]{1,9})\Z")
_MAY_BE_CUT = NAME_MAX - 10  # bytes, of a file's name


class Claimed(NamedTuple):
    """An entry in the hands of an operator."""

    claim: Claim
    state: State
    directory: int  # where it lies
    file: bytes  # the name that its message's file has there
    own: tuple[bytes, ...]  # its files' names in the queue
    number: int  # among its namesakes in the directory of its state; 0: the first
    schedule: Schedule | None  # of one that was deferred
    note: Mapping[str, object]  # as far as it was needed so far

    @property
    def half(self) -> bool:
        """Whether it is half of a pair."""
        return self.claim.kind == "half"


def take_for_operator(spool: Spool, entry: Listed, terms: Terms) -> Claimed | Refused:
    """Claim a listed entry; `terms.grace` does not matter: an operator need not wait."""
    if entry.state in IN_QUEUE:
        return _from_queue(spool, entry.files[0], terms._replace(grace=0.0))
    directory = spool.peek(entry.state)
    if directory is None:
        return Refused(Refusal.GONE, "no longer there")
    file, note = entry.files[0], entry.note
    schedule, _ = stamp_of(file, entry.state)
    if not note and _may_be_another(file, spool.layout):
        note = read_note(directory, file, spool.layout)
    own, number = true_names(entry, schedule, note, spool.layout)
    claim = Claim(spool, file, terms)
    if not spool.layout.raw and len(own) == 1 and own[0].endswith((b".msg", b".db")):
        claim.kind = "half"
        if (refused := _not_alone(spool, directory, file)) is not None:
            return refused
    for each, name in zip(entry.files, own, strict=True):
        try:
            refused = claim.add(each, directory, name)
        except OSError as error:
            refused = Refused(Refusal.ERROR, f"{display(each)}: {error.strerror}")
        if refused is not None:
            claim.release()
            return refused
    return Claimed(claim, entry.state, directory, file, own, number, schedule, note)


def _not_alone(spool: Spool, directory: int, half: bytes) -> Refused | None:
    """Refuse a half whose other half is there after all: a listing could not see it."""
    stem, _, suffix = half.rpartition(b".")
    others = (b".msg", b".pck") if suffix == b"db" else (b".db",)
    try:
        beside = any(spool.stat(stem + other, directory) for other in others)
    except OSError as error:
        return Refused(Refusal.ERROR, f"{display(half)}: {error.strerror}")
    why = "its other half is beside it: they are one entry"
    return Refused(Refusal.BUSY, why) if beside else None


def _from_queue(spool: Spool, name: bytes, terms: Terms) -> Claimed | Refused:
    claim = take(spool, name, How.CATCH_UP, terms)
    if isinstance(claim, Refused):
        return claim
    if claim.kind == "half":
        claim.release()
        return Refused(Refusal.YOUNG, "half of a pair: the other may yet come", 0.0, Shape.HALF)
    own = tuple(part.name for part in claim.parts)
    return Claimed(claim, State.READY, spool.fd, name, own, 0, None, {})


def _may_be_another(file: bytes, layout: Layout) -> bool:
    """Whether the name that a file has may not be its own: numbered or cut."""
    return len(file) >= _MAY_BE_CUT or _NUMBER.search(stem_of(file, layout)) is not None


def true_names(
    entry: Listed, schedule: Schedule | None, note: Mapping[str, object], layout: Layout
) -> tuple[tuple[bytes, ...], int]:
    """Return the names in the queue of an entry's files, and its number among its namesakes."""
    file = entry.files[0]
    here = tuple(stamp_of(each, entry.state)[1] for each in entry.files)
    stem = stem_of(here[0], layout)
    suffixes = [name[len(stem) :] for name in here]
    found = _NUMBER.search(stem) if schedule is None else None
    if found is None and len(file) < _MAY_BE_CUT:
        return here, 0
    told = _stem_in(note, suffixes[0])
    number = int(found[1]) if found is not None else 0
    if told is not None:
        if schedule is None:
            expected = stored(told, suffixes[0], number)
        else:
            expected = stamped(schedule, told, suffixes[0])
        if expected == file:
            return tuple(told + suffix for suffix in suffixes), number
    return here, 0


def _stem_in(note: Mapping[str, object], suffix: bytes) -> bytes | None:
    """Return the stem of the entry's own name as its note has it."""
    names = note.get("own") or note.get("was")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        return None
    try:
        name = os.fsencode(names[0])
    except UnicodeEncodeError:
        return None
    if b"/" in name or b"\0" in name or not name.endswith(suffix) or len(name) > NAME_MAX:
        return None
    return name[: len(name) - len(suffix)]
