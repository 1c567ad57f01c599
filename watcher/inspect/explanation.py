"""Why is this file ready, or not? Each piece of evidence, and the verdict on them.

Guarantees: the verdict is that of a sweep's own preview (`attempt.preview`, which asks
`evidence.rule`), on the same evidence; nothing is locked, moved or written, and of what is not a
regular file nothing is opened. For any file, in or out of a queue.
Fails: NoSuch, NotPermitted.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from watcher.attempt import preview
from watcher.claim.holders import holders
from watcher.claim.take import Claim, Terms, take
from watcher.durations import show
from watcher.errors import NoSuch, NotPermitted
from watcher.evidence import Action, How, Shape
from watcher.inspect import ours
from watcher.inspect.advice import WHAT, advice
from watcher.inspect.census import Held, by_process
from watcher.inspect.facts import Fact, ages, file_type, holds, looked_at, moment, opened
from watcher.inspect.notes import is_file, look, open_place
from watcher.lifecycle import State
from watcher.report import Report, Result
from watcher.spool import mounts
from watcher.spool.disk import DIRECTORY
from watcher.spool.layout import Kind, Layout, display, is_note
from watcher.spool.spool import Spool

_HALVES = (Kind.MESSAGE_HALF, Kind.METADATA_HALF)
_LEFT = {
    Kind.TEMPORARY: "being written, or left by a writer",
    Kind.LEFTOVER: "a Mailman runner's, not an entry",
    Kind.FOREIGN: "not an entry",
}


class Explanation(NamedTuple):
    """The verdict on a file, the evidence, and the note beside a file put away."""

    verdict: str
    facts: list[Fact]
    note: dict[str, object]


def explain(path: bytes, layout: Layout, terms: Terms) -> Explanation:
    """Explain one file; raise NoSuch when there is none of this name."""
    path = os.path.abspath(path)
    try:
        status = os.lstat(path)
    except PermissionError as error:
        raise NotPermitted(f"{display(path)}: {error.strerror}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise NoSuch(f"{display(path)}: {reason}") from None
    facts = looked_at(status)
    queue = ours.queue_of(path)
    if queue is not None:
        place = ours.place(path, layout)
        facts.append(Fact("queue", display(queue)))
        facts += _inside(path, status, layout, terms)
        facts += [Fact("advice", place.advice)] if place.advice else []
        return Explanation(place.verdict, facts, place.note)
    return _in_queue(path, status, layout, terms, facts)


def _in_queue(
    path: bytes, status: os.stat_result, layout: Layout, terms: Terms, facts: list[Fact]
) -> Explanation:
    directory, name = os.path.split(path)
    spool, kind, held = Spool(directory or b"/", layout), layout.kind(name), holders()
    facts += [
        Fact("name", WHAT[kind]),
        Fact("queue", display(directory)),
        Fact("file system", spool.filesystem or "unknown"),
        Fact("inotify", "blind" if spool.filesystem in mounts.EVENTS_BLIND else "sees renames"),
        Fact("leases", "to be had" if spool.leases else "not to be trusted here"),
        *ages(name, status, terms),
    ]
    if not stat.S_ISREG(status.st_mode):
        what = file_type(status)
        named = " with an entry's name" if kind in (Kind.ENTRY, *_HALVES) else ""
        return Explanation(f"left alone: {what.partition(',')[0]}{named}", facts, {})
    facts += opened(spool, name, status, terms, held)
    words = advice(name, kind)
    facts += [Fact("advice", words)] if words else []
    if kind in _LEFT:
        return Explanation(f"left alone: {_LEFT[kind]}", facts, {})
    if layout.legacy:
        facts.append(Fact("other half", _partners(spool, name, terms, held)))
    return Explanation(_verdict(spool, name, kind, terms, held), facts, {})


def _verdict(spool: Spool, name: bytes, kind: Kind, terms: Terms, held: Held) -> str:
    """Rule as a sweep would, now."""
    message = name
    if kind is Kind.METADATA_HALF:
        halves = spool.layout.message_halves(name)
        message = next((half for half in halves if is_file(spool.fd, half)), name)
    for half in {name, message}:
        status = look(spool.fd, half)
        if status is not None and (status.st_dev, status.st_ino) in held:
            return f"claimed: {by_process(held[status.st_dev, status.st_ino])}"
    whole = f"with {display(message)}, " if message != name else ""
    return _told(spool, message, preview(spool, message, terms, held), terms, whole)


def _told(spool: Spool, name: bytes, report: Report, terms: Terms, whole: str) -> str:
    if report.shape is Shape.HALF and (other := _in_orphans(spool, name)):
        return f"to be reunited: its other half {display(other)} lies in orphans/"
    if report.result is Result.DONE:
        return f"ready: {whole}{report.why}"
    if report.result is Result.REJECTED:
        return f"ready: {whole}but a daemon puts it in dead/ unless it is still young: {report.why}"
    if report.result is Result.ORPHANED:
        return f"to orphans/: {report.why}"
    words = f"left: {whole}{report.why}"
    if report.result is Result.YOUNG and report.wait:
        words += f", of age in {show(report.wait)}{moment(report.wait)}"
        if _at_start(spool, name, terms):
            words += "; a daemon that sees its rename, or starts now, takes it at once"
        elif report.shape is Shape.WHOLE:
            words += "; a daemon that sees its rename takes it at once"
    return words


def _at_start(spool: Spool, name: bytes, terms: Terms) -> bool:
    """Whether the scan with which a daemon starts would take it."""
    claim = take(spool, name, How.CATCH_UP, terms._replace(lock=False))
    if not isinstance(claim, Claim):
        return False
    claim.release()
    return claim.action is Action.TAKE


def _in_orphans(spool: Spool, half: bytes) -> bytes | None:
    orphans = open_place(spool, State.ORPHAN)
    if orphans is None:
        return None
    try:
        return next(
            (name for name in _other_halves(half, spool.layout) if is_file(orphans, name)), None
        )
    finally:
        os.close(orphans)


def _other_halves(name: bytes, layout: Layout) -> tuple[bytes, ...]:
    return layout.message_halves(name) if name.endswith(b".db") else (layout.metadata_half(name),)


def _partners(spool: Spool, name: bytes, terms: Terms, held: Held) -> str:
    """Give the other half's evidence, as far as it counts for this one."""
    found = []
    for other in _other_halves(name, spool.layout):
        status = look(spool.fd, other)
        if status is None:
            continue
        words = f"{display(other)}, {file_type(status)}"
        if stat.S_ISREG(status.st_mode):
            age = show(terms.ages.age(other, status.st_ctime_ns))
            facts = {fact.about: fact.what for fact in opened(spool, other, status, terms, held)}
            writer, claimed = facts.get("writer", "unknown"), facts.get("claimed", "unknown")
            words += f", {status.st_size} bytes, age {age}, writer: {writer}, claimed: {claimed}"
        found.append(words)
    return "; ".join(found) or "not there"


def _inside(path: bytes, status: os.stat_result, layout: Layout, terms: Terms) -> list[Fact]:
    """Tell what there is of a file in a directory of ours."""
    directory, name = os.path.split(path)
    facts = ages(name, status, terms)[:1]
    if stat.S_ISREG(status.st_mode) and not is_note(name, layout):
        fd = os.open(directory, DIRECTORY)
        try:
            facts.append(Fact("contents", holds(fd, name, layout, terms.max_size)))
        finally:
            os.close(fd)
    return facts
