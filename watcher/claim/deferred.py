"""Claim an entry that was deferred, where it lies in `deferred/`.

It was complete when it was deferred, so no evidence is asked for. The one thing that may be missing
is the metadata of a pair whose move a crash cut in two: it follows when it is of age (`settle`), so
it is waited for; a message whose other half never comes is an orphan once it is of age itself.
Fails: as `take`.
"""

from __future__ import annotations

import json
import os

from watcher.claim.take import Claim, Refusal, Refused, Terms
from watcher.errors import WatcherError
from watcher.evidence import Action, Shape
from watcher.lifecycle import State
from watcher.spool.disk import DIRECTORY, LOOK
from watcher.spool.layout import DEFERRED, NAME_MAX, display, note_of
from watcher.spool.schedule import parse
from watcher.spool.spool import Spool

FOLLOWS = 60.0  # seconds between looks at whether the other half has come
_NEARLY = NAME_MAX - 80  # bytes: a shorter name has not been cut


def take_deferred(spool: Spool, name: bytes, terms: Terms) -> Claim | Refused:
    """Claim `name`: deferred/STAMP-NAME.pck, or the message's file of a pair."""
    file = name.removeprefix(DEFERRED)
    found = parse(file)
    try:
        directory = spool.peek(State.DEFERRED)
    except (OSError, WatcherError) as error:
        return Refused(Refusal.ERROR, f"{display(name)}: deferred/ cannot be read: {error}")
    if found is None or directory is None:
        return Refused(Refusal.GONE, "no longer there")
    schedule, own = found
    if len(file) >= _NEARLY:
        own = _whole(spool, directory, file, own)
    claim = Claim(spool, name, terms)
    claim.schedule = schedule
    claim.why = f"due again after {schedule.attempts} attempts"
    try:
        refused = claim.add(file, directory, own)
        if refused is None and not spool.layout.raw:
            rule = _alone if own.endswith(b".db") else _metadata
            refused = rule(claim, directory, file, own)
    except OSError as error:
        refused = Refused(Refusal.ERROR, f"{display(name)}: cannot be read: {error.strerror}")
    except BaseException:
        claim.release()
        raise
    if refused is not None:
        claim.release()
        return refused
    return claim


def _metadata(claim: Claim, directory: int, file: bytes, own: bytes) -> Refused | None:
    """Claim the `.db` beside the message, where one belongs."""
    stem, _, suffix = own.rpartition(b".")
    refused = claim.add(file.rpartition(b".")[0] + b".db", directory, stem + b".db")
    if refused is None:
        claim.kind = "pair" if suffix == b"msg" else "pck+db"
        return None
    if refused.refusal is not Refusal.GONE:
        return refused
    if suffix != b"msg":
        return None  # a .pck with everything in it
    claim.kind = "half"
    if claim.age() >= claim.terms.grace:
        claim.action, claim.why = Action.ORPHAN, "its .db has not come after it"
        return None
    return Refused(Refusal.YOUNG, "its .db has not come after it yet", FOLLOWS, Shape.HALF)


def _alone(claim: Claim, directory: int, file: bytes, own: bytes) -> Refused | None:
    """Rule on a `.db`: it goes with its message; where there is none any more, to orphans/."""
    claim.kind = "half"
    spool, stem = claim.spool, file.removesuffix(b".db")
    if any(spool.stat(stem + suffix, directory) for suffix in (b".msg", b".pck")):
        return Refused(Refusal.GONE, "its message is there and stands for both")
    wanted = spool.layout.as_put_away().message_halves(own)
    listed = os.open(b".", DIRECTORY, dir_fd=directory)  # an offset of its own
    try:
        named = [parse(os.fsencode(name)) for name in os.listdir(listed)]
    finally:
        os.close(listed)
    if any(map(spool.stat, wanted)) or any(found and found[1] in wanted for found in named):
        return Refused(Refusal.YOUNG, "its message will have it follow", FOLLOWS, Shape.HALF)
    if claim.age() >= claim.terms.grace:
        claim.action, claim.why = Action.ORPHAN, "its message is gone: the end of one that was done"
        return None
    return Refused(Refusal.YOUNG, "half of a pair", claim.terms.grace - claim.age(), Shape.HALF)


def _whole(spool: Spool, directory: int, file: bytes, own: bytes) -> bytes:
    """Return the entry's own name from the note, where the stamp left no room for all of it."""
    try:
        fd = os.open(note_of(file, spool.layout), LOOK, dir_fd=directory)
    except OSError:
        return own
    try:
        note = json.loads(os.read(fd, 1 << 20))
        whole = os.fsencode(note["own"][0]) if isinstance(note, dict) else own
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return own
    finally:
        os.close(fd)
    stem = spool.layout.as_put_away().stem(own)
    return whole if whole.startswith(stem) and b"/" not in whole else own
