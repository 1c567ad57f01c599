"""Claim an entry by the files beside it: its marker and its companions.

An entry that waits for one of them is not even opened: its writer may be at work. A marker is
looked for again after the entry is locked: a process that finishes an entry removes the marker
under that lock, so a marker that is there now was not removed with an earlier file of the name.
Fails: never raises.
"""

from __future__ import annotations

from watcher.claim.claim import add_part
from watcher.rules import companions
from watcher.rules.companions import Times
from watcher.rules.evidence import Action, Proof, Shape
from watcher.rules.names import display
from watcher.rules.results import NotClaimed, Reason, Renamed
from watcher.spool.birth import birth_of
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.marker_files import marker_status, waits_for
from watcher.spool.spool import Spool

_PROVES = (Proof.RENAMED, Proof.LINKED)


def take_by_files(
    spool: Spool, name: bytes, proof: Proof, terms: ClaimOptions
) -> Claim | NotClaimed | None:
    """Claim or refuse an entry by its marker; refuse one with a companion.

    None: neither says anything, and the other evidence decides.
    """
    if terms.complete or not (spool.layout.marker or spool.layout.companions):
        return None
    try:
        if why := waits_for(spool.layout, spool.fd, name):
            return _waits(spool, name, proof, why)
    except OSError as error:
        return _unreadable(name, error)
    return _take_marked(spool, name, terms) if spool.layout.marker else None


def _waits(spool: Spool, name: bytes, proof: Proof, why: str) -> NotClaimed:
    """Refuse an entry for now. What its event proved must not be forgotten meanwhile."""
    there = spool.stat(name)
    if there is None:
        return NotClaimed(Reason.GONE, "no longer there")
    if spool.layout.marker or proof not in _PROVES:
        return NotClaimed(Reason.UNPROVEN, why)
    birth = birth_of(name, spool.fd)
    renamed = None if birth is None else Renamed(there.st_ino, birth)
    return NotClaimed(Reason.UNPROVEN, why, 0.0, Shape.WHOLE, proof, renamed)


def _take_marked(spool: Spool, name: bytes, terms: ClaimOptions) -> Claim | NotClaimed:
    claim = Claim(spool, name, spool.layout.stem(name), terms, asks=True)
    try:
        refused = add_part(claim, name) or _judge_by_marker(claim)
    except OSError as error:
        refused = _unreadable(name, error)
    except BaseException:
        claim.release()
        raise
    if refused is None:
        return claim
    claim.release()
    return refused


def _judge_by_marker(claim: Claim) -> NotClaimed | None:
    """Decide on a locked entry; None if the claim stands."""
    spool, part = claim.spool, claim.parts[0]
    marker = marker_status(spool.layout, spool.fd, claim.name)
    if marker is None:
        return NotClaimed(Reason.UNPROVEN, waits_for(spool.layout, spool.fd, claim.name))
    if spool.sticky and marker.st_uid != spool.euid:
        name = display(spool.layout.marker_of(claim.name))
        why = "cannot be removed: the directory is sticky and another user's, and so is the marker"
        return NotClaimed(Reason.PINNED, f"{name}: {why}")
    times = Times(part.mtime_ns, part.ctime_ns)
    decision = companions.rule_marked(
        times, marker.st_ctime_ns, claim.writer, claim.age(), claim.terms.grace
    )
    claim.action, claim.why = decision.action, decision.why
    if decision.action is Action.TAKE:
        return None
    if decision.action is Action.WAIT:
        return NotClaimed(Reason.YOUNG, decision.why, decision.wait)
    # Looked at again soon: nothing but the writer is in the way.
    return NotClaimed(Reason.WRITER, decision.why, 0.0, Shape.WHOLE, Proof.NO_WRITER)


def _unreadable(name: bytes, error: OSError) -> NotClaimed:
    return NotClaimed(Reason.ERROR, f"{display(name)}: cannot be read: {error.strerror}")
