"""Claim an entry for an operator, in any state, and find out its name in the queue.

Guarantees: as `claim.claim`: no worker and no other command has the entry meanwhile. The name that
a note gives is used only if, cut and numbered, it is the name that the file has.
Fails: NotPermitted or Unavailable if a state directory cannot be opened; else never: an entry that
is not claimed is a `NotClaimed`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from watcher.claim.claim import add_part
from watcher.claim.take import take
from watcher.inspect.list_entries import IN_QUEUE, EntryInfo
from watcher.inspect.notes_view import split, stamp_of, stem_of
from watcher.rules.evidence import Proof, Shape
from watcher.rules.form import Form
from watcher.rules.lifecycle import State
from watcher.rules.names import NAME_MAX, Layout, display, numbered_name
from watcher.rules.pair_names import other_half_names
from watcher.rules.results import NotClaimed, Reason
from watcher.rules.stamp import Schedule, stamped
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.notes import read_note
from watcher.spool.spool import Spool

_NUMBER = re.compile(rb"~([0-9]{1,9})\Z")
_MAY_BE_CUT = NAME_MAX - 10  # bytes, of a file's name


class OperatorClaim(NamedTuple):
    """An entry that an operator has claimed."""

    claim: Claim
    state: State
    directory: int  # of its files
    file: bytes  # the name of its message's file there
    own: tuple[bytes, ...]  # the names of its files in the queue
    number: int  # of NAME~NUMBER in its directory; 0: none
    schedule: Schedule | None  # if it was deferred
    note: Mapping[str, object]  # empty if it was not needed

    @property
    def half(self) -> bool:
        """Whether it is half of a pair."""
        return self.claim.form is Form.HALF


def take_for_operator(
    spool: Spool, entry: EntryInfo, terms: ClaimOptions
) -> OperatorClaim | NotClaimed:
    """Claim a listed entry; the grace age does not count for an operator."""
    if entry.lies_in in IN_QUEUE:
        return _from_queue(spool, entry.files[0], terms._replace(grace=0.0))
    directory = spool.state_dir(entry.lies_in)
    if directory is None:
        return NotClaimed(Reason.GONE, "no longer there")
    file, note = entry.files[0], entry.note
    schedule, _ = stamp_of(file, entry.lies_in)
    if not note and _may_be_another(file, spool.layout):
        note = read_note(directory, file, spool.layout)
    own, number = true_names(entry, schedule, note, spool.layout)
    claim = Claim(spool, file, stem_of(own[0], spool.layout), terms)
    if half_of_pair(own, spool.layout):
        claim.form = Form.HALF
        if (refused := not_alone(spool, directory, file)) is not None:
            return refused
    for each, name in zip(entry.files, own, strict=True):
        try:
            refused = add_part(claim, each, directory, name)
        except OSError as error:
            refused = NotClaimed(Reason.ERROR, f"{display(each)}: {error.strerror}")
        if refused is not None:
            claim.release()
            return refused
    return OperatorClaim(claim, entry.lies_in, directory, file, own, number, schedule, note)


def half_of_pair(own: tuple[bytes, ...], layout: Layout) -> bool:
    """Whether the files of an entry are one file of a pair."""
    return not layout.raw and len(own) == 1 and own[0].endswith((b".msg", b".db"))


def not_alone(spool: Spool, directory: int, half: bytes) -> NotClaimed | None:
    """Refuse a half if its other half has come since the entries were listed."""
    try:
        beside = any(spool.stat(other, directory) for other in other_half_names(half))
    except OSError as error:
        return NotClaimed(Reason.ERROR, f"{display(half)}: {error.strerror}")
    why = "its other half is beside it: they are one entry"
    return NotClaimed(Reason.BUSY, why) if beside else None


def _from_queue(spool: Spool, name: bytes, terms: ClaimOptions) -> OperatorClaim | NotClaimed:
    claim = take(spool, name, Proof.NO_WRITER, terms)
    if isinstance(claim, NotClaimed):
        return claim
    if claim.form is Form.HALF:
        claim.release()
        return NotClaimed(Reason.YOUNG, "half of a pair: the other may yet come", 0.0, Shape.HALF)
    own = tuple(part.name for part in claim.parts)
    return OperatorClaim(claim, State.READY, spool.fd, name, own, 0, None, {})


def _may_be_another(file: bytes, layout: Layout) -> bool:
    """Whether a file's name may be numbered or cut, and so not its name in the queue."""
    return len(file) >= _MAY_BE_CUT or _NUMBER.search(split(file, layout)[0]) is not None


def true_names(
    entry: EntryInfo, schedule: Schedule | None, note: Mapping[str, object], layout: Layout
) -> tuple[tuple[bytes, ...], int]:
    """Return the names of an entry's files in the queue, and the number of NAME~NUMBER."""
    file = entry.files[0]
    here = tuple(stamp_of(each, entry.lies_in)[1] for each in entry.files)
    stem, _ = split(here[0], layout)
    suffixes = [name[len(stem) :] for name in here]
    found = _NUMBER.search(stem) if schedule is None else None
    if found is None and len(file) < _MAY_BE_CUT:
        return here, 0
    whole_stem = _stem_in(note, suffixes[0])
    number = int(found[1]) if found is not None else 0
    if whole_stem is not None:
        if schedule is None:
            expected = numbered_name(whole_stem, suffixes[0], number)
        else:
            expected = stamped(schedule, whole_stem, suffixes[0])
        if expected == file:
            return tuple(whole_stem + suffix for suffix in suffixes), number
    return here, 0


def _stem_in(note: Mapping[str, object], suffix: bytes) -> bytes | None:
    """Return the stem of the entry's name in the queue from its note."""
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
