"""Claim an entry that was deferred, where it lies in `deferred/`.

It was complete when it was deferred. One thing is checked: whether a process that opened it in the
queue still writes to it (not for a unique name). The `.db` of a pair may be missing, if a crash
interrupted the move. It is moved here when it is of age (`settle.interrupted`), so the message
waits; a message whose `.db` does not come is an orphan when it is of age itself.
Fails: as `take`.
"""

from __future__ import annotations

import os

from watcher.claim.claim import add_part
from watcher.errors import WatcherError
from watcher.rules.evidence import Action, Proof, Shape, Writer
from watcher.rules.form import Form
from watcher.rules.lifecycle import State
from watcher.rules.names import NAME_MAX, Location, display
from watcher.rules.pair_names import message_names, metadata_name
from watcher.rules.results import NotClaimed, Reason
from watcher.rules.stamp import parse
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.namesakes import namesakes
from watcher.spool.notes import read_note
from watcher.spool.spool import Spool

FOLLOWS = 60.0  # seconds between looks for the missing file of a pair
_NEARLY = NAME_MAX - 80  # bytes: a shorter name has not been cut


def take_deferred(spool: Spool, name: bytes, terms: ClaimOptions) -> Claim | NotClaimed:
    """Claim `name`: deferred/STAMP-NAME.pck, or the message's file of a pair."""
    file = Location.parse(name).name
    found = parse(file)
    try:
        directory = spool.state_dir(State.DEFERRED)
    except (OSError, WatcherError) as error:
        return NotClaimed(Reason.ERROR, f"{display(name)}: deferred/ cannot be read: {error}")
    if found is None or directory is None:
        return NotClaimed(Reason.GONE, "no longer there")
    schedule, own = found
    if len(file) >= _NEARLY:
        own = _whole(spool, directory, file, own)
    stem = spool.layout.in_state_dir().stem(own)
    claim = Claim(spool, name, stem, terms, asks=not spool.layout.is_unique_name(own))
    claim.schedule = schedule
    claim.why = f"due again after {schedule.attempts} attempts"
    try:
        refused = add_part(claim, file, directory, own)
        if refused is None and claim.writer is Writer.SOME:
            why = "a process has had it open for writing since it lay in the queue"
            refused = NotClaimed(Reason.WRITER, why, proof=Proof.NO_WRITER)
        elif refused is None and not spool.layout.raw:
            rule = _alone if own.endswith(b".db") else _metadata
            refused = rule(claim, directory, file, own)
    except OSError as error:
        refused = NotClaimed(Reason.ERROR, f"{display(name)}: cannot be read: {error.strerror}")
    except BaseException:
        claim.release()
        raise
    if refused is not None:
        claim.release()
        return refused
    return claim


def _metadata(claim: Claim, directory: int, file: bytes, own: bytes) -> NotClaimed | None:
    """Claim the `.db` beside the message, if the message has one."""
    metadata, own_metadata = metadata_name(file), metadata_name(own)
    refused = add_part(claim, metadata, directory, own_metadata)
    if refused is not None and refused.refusal is Reason.GONE and claim.spool.layout.legacy:
        if claim.spool.stat(own_metadata) is not None:
            why = "its .db is in the queue, and follows"
            return NotClaimed(Reason.YOUNG, why, FOLLOWS, Shape.HALF)
        # Another thread or process may have moved it here since the first look.
        refused = add_part(claim, metadata, directory, own_metadata)
    if refused is None:
        claim.form = Form.PAIR if own.endswith(b".msg") else Form.PCK_DB
        return None
    if refused.refusal is not Reason.GONE:
        return refused
    if not own.endswith(b".msg"):
        return None  # a .pck with everything in it
    claim.form = Form.HALF
    if claim.age() >= claim.terms.grace:
        claim.action, claim.why = Action.ORPHAN, "its .db has not come after it"
        return None
    return NotClaimed(Reason.YOUNG, "its .db has not come after it yet", FOLLOWS, Shape.HALF)


def _alone(claim: Claim, directory: int, file: bytes, own: bytes) -> NotClaimed | None:
    """Decide on a `.db`: it is claimed with its message; without one it is an orphan."""
    claim.form = Form.HALF
    spool = claim.spool
    if any(spool.stat(message, directory) for message in message_names(file)):
        return NotClaimed(Reason.GONE, "its message is there and stands for both")
    wanted = message_names(own)
    named = [parse(name) for each in wanted for name in namesakes(spool, directory, each)]
    if any(map(spool.stat, wanted)) or any(found and found[1] in wanted for found in named):
        return NotClaimed(Reason.YOUNG, "its message will have it follow", FOLLOWS, Shape.HALF)
    if claim.age() >= claim.terms.grace:
        claim.action, claim.why = Action.ORPHAN, "its message is gone: the end of one that was done"
        return None
    return NotClaimed(Reason.YOUNG, "half of a pair", claim.terms.grace - claim.age(), Shape.HALF)


def _whole(spool: Spool, directory: int, file: bytes, own: bytes) -> bytes:
    """Return the entry's whole name from the note, if the stamp left no room for all of it."""
    names = read_note(directory, file, spool.layout).get("own")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        return own
    try:
        whole = os.fsencode(names[0])
    except UnicodeEncodeError:
        return own
    stem, _ = spool.layout.in_state_dir().split(own)
    return whole if whole.startswith(stem) and b"/" not in whole and b"\0" not in whole else own
