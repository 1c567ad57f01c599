"""Explain why a file is ready or not: the evidence and the verdict.

Guarantees: works for any file, in or out of a queue. The verdict comes from `attempt.preview`, as
that of a dry sweep. Nothing is locked, moved or written; only regular files are opened.
Fails: NoSuch, NotPermitted, Unavailable; OSError if a directory in .watcher/ cannot be opened.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from watcher.attempt import preview
from watcher.claim.holders import holders
from watcher.claim.take import take
from watcher.durations import show
from watcher.errors import NoSuch, NotPermitted
from watcher.inspect import state_paths
from watcher.inspect.file_facts import (
    Fact,
    ages,
    file_type,
    holds,
    looked_at,
    moment,
    opened,
)
from watcher.inspect.list_entries import LockHolders, by_process
from watcher.inspect.notes_view import is_file, look, open_state_dir
from watcher.rules.evidence import Action, Proof, Shape
from watcher.rules.kinds import KIND_INFO, Kind
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout, display, is_note
from watcher.rules.pair_names import message_names, other_half_names
from watcher.rules.results import AttemptEnd, AttemptResult, Reason
from watcher.spool import mounts
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.dirs import DIRECTORY
from watcher.spool.marker_files import beside
from watcher.spool.spool import Spool


class Explanation(NamedTuple):
    """The verdict on a file, the evidence, and the note of a file in a state's directory."""

    verdict: str
    facts: list[Fact]
    note: dict[str, object]


def explain(path: bytes, layout: Layout, terms: ClaimOptions) -> Explanation:
    """Explain one file; raise NoSuch if there is no file of this name."""
    path = os.path.abspath(path)
    status = status_of(path)
    facts = looked_at(status)
    queue = state_paths.queue_of(path)
    if queue is not None:
        place = state_paths.place(path, layout)
        facts.append(Fact("queue", display(queue)))
        facts += _inside(path, status, layout, terms)
        facts += [Fact("advice", place.advice)] if place.advice else []
        return Explanation(place.verdict, facts, place.note)
    return _in_queue(path, status, layout, terms, facts)


def status_of(path: bytes) -> os.stat_result:
    """Look at a path; raise NoSuch or NotPermitted."""
    try:
        return os.lstat(path)
    except PermissionError as error:
        raise NotPermitted(f"{display(path)}: {error.strerror}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise NoSuch(f"{display(path)}: {reason}") from None


def _in_queue(
    path: bytes, status: os.stat_result, layout: Layout, terms: ClaimOptions, facts: list[Fact]
) -> Explanation:
    directory, name = os.path.split(path)
    spool, kind, held = Spool(directory or b"/", layout), layout.kind(name), holders()
    info = KIND_INFO[kind]
    rules = f" for {layout.describe()}" if info.by_layout else ""
    label = f"{info.label}{rules}: not touched by a daemon with these" if rules else info.label
    facts += [
        Fact("name", label),
        Fact("queue", display(directory)),
        Fact("file system", spool.filesystem or "unknown"),
        Fact(
            "inotify",
            "sees no other machine" if spool.filesystem in mounts.EVENTS_BLIND else "sees renames",
        ),
        Fact("leases", _leases(spool)),
        *ages(name, status, terms),
    ]
    if not stat.S_ISREG(status.st_mode):
        type_of = file_type(status)
        named = " with an entry's name" if info.entry else ""
        return Explanation(f"left alone: {type_of.partition(',')[0]}{named}", facts, {})
    facts += opened(spool, name, status, terms, held)
    if kind is Kind.IGNORED and layout.ignore is not None:
        facts.append(Fact("ignored by", layout.ignore.which(name)))
    facts += [Fact(*told) for told in beside(layout, spool.fd, name)]
    words = info.advice_for(name)
    facts += [Fact("advice", words)] if words else []
    if not info.entry:
        return Explanation(f"left alone: {info.left_alone}{rules}", facts, {})
    if layout.legacy:
        facts.append(Fact("other half", _partners(spool, name, terms, held)))
    return Explanation(_verdict(spool, name, kind, terms, held), facts, {})


def _leases(spool: Spool) -> str:
    if spool.leases:
        return "available"
    return "show only writers of this machine" if spool.asks else "cannot be trusted here"


def _verdict(spool: Spool, name: bytes, kind: Kind, terms: ClaimOptions, held: LockHolders) -> str:
    """Return what a sweep would decide now."""
    message = name
    if kind is Kind.METADATA_HALF:
        halves = message_names(name)
        message = next((half for half in halves if is_file(spool.fd, half)), name)
    for half in {name, message}:
        status = look(spool.fd, half)
        if status is not None and (status.st_dev, status.st_ino) in held:
            return f"claimed: {by_process(held[status.st_dev, status.st_ino])}"
    whole = f"with {display(message)}, " if message != name else ""
    return _told(spool, message, preview(spool, message, terms, held), terms, whole)


def _told(spool: Spool, name: bytes, report: AttemptResult, terms: ClaimOptions, whole: str) -> str:
    if report.shape is Shape.HALF and (other := _in_orphans(spool, name)):
        return f"to be reunited: its other half {display(other)} lies in orphans/"
    if report.result is AttemptEnd.DONE:
        return f"ready: {whole}{report.why}"
    if report.result is AttemptEnd.REJECTED:
        return f"ready: {whole}but a daemon puts it in dead/ unless it is still young: {report.why}"
    if report.result is AttemptEnd.ORPHANED:
        return f"to orphans/: {report.why}"
    words = f"left: {whole}{report.why}"
    if report.result is AttemptEnd.YOUNG and report.wait:
        words += f", of age in {show(report.wait)}{moment(report.wait)}"
        started = _at_start(spool, name, terms)
        if started == 0:
            words += "; a daemon that sees its rename, or starts now, takes it at once"
        elif report.shape is Shape.WHOLE:
            words += "; a daemon that sees its rename takes it at once"
            if started is not None and started < report.wait - 1:
                words += f", one that starts now in {show(round(started, 1))}"
    return words


def _at_start(spool: Spool, name: bytes, terms: ClaimOptions) -> float | None:
    """Return after how many seconds the first scan of a new daemon takes it; None: not known."""
    claim = take(spool, name, Proof.NO_WRITER, terms._replace(lock=False))
    if isinstance(claim, Claim):
        claim.release()
        return 0.0 if claim.action is Action.TAKE else None
    return claim.wait if claim.refusal is Reason.YOUNG else None


def _in_orphans(spool: Spool, half: bytes) -> bytes | None:
    orphans = open_state_dir(spool, State.ORPHAN)
    if orphans is None:
        return None
    try:
        return next((name for name in other_half_names(half) if is_file(orphans, name)), None)
    finally:
        os.close(orphans)


def _partners(spool: Spool, name: bytes, terms: ClaimOptions, held: LockHolders) -> str:
    """Return the evidence of the other half that counts for this one."""
    found = []
    for other in other_half_names(name):
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


def _inside(path: bytes, status: os.stat_result, layout: Layout, terms: ClaimOptions) -> list[Fact]:
    """Return the evidence about a file inside .watcher/."""
    directory, name = os.path.split(path)
    facts = ages(name, status, terms)[:1]
    if stat.S_ISREG(status.st_mode) and not is_note(name, layout):
        fd = os.open(directory, DIRECTORY)
        try:
            facts.append(Fact("contents", holds(fd, name, layout, terms.max_size)))
        finally:
            os.close(fd)
    return facts
