"""Claim an entry: open and lock it, check its name, gather the evidence and decide.

Guarantees: those of a `Claim` (`spool.claimed`), and that the evidence table says TAKE or ORPHAN.
Fails: never raises, whatever the files are; an entry that is not claimed is a `NotClaimed`, which
says why and when to look again.
"""

from __future__ import annotations

from watcher import mailman
from watcher.claim.claim import add_part
from watcher.claim.linked import not_yet, weigh_link
from watcher.claim.take_by_files import take_by_files
from watcher.errors import Undecodable
from watcher.rules.evidence import (
    Action,
    Finish,
    Proof,
    Shape,
    Writer,
    at_any_age,
    finish_of,
    rule,
)
from watcher.rules.form import Form
from watcher.rules.kinds import Kind
from watcher.rules.names import display
from watcher.rules.pair_names import message_names, metadata_name
from watcher.rules.results import NotClaimed, Reason, Renamed
from watcher.spool.birth import birth_ns
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.part import read_part
from watcher.spool.spool import Spool


def take(
    spool: Spool,
    name: bytes,
    proof: Proof,
    terms: ClaimOptions,
    event_time_ns: int = 0,
    renamed: Renamed | None = None,
) -> Claim | NotClaimed:
    """Claim the entry whose message's file is `name` (or the lone `.db` of that name).

    `name` is in the queue, or in `deferred/` with that in front (`take_deferred.take_deferred`).
    `event_time_ns` is when the event of its rename was read (nanoseconds since the epoch; 0: not
    known). A file that changed later may be another one, written in place under a name that came
    free. The rename proves nothing about that file, unless an earlier look found the same file
    (`renamed`). Checked only where leases work, because there ctime is this machine's.
    """
    layout = spool.layout
    if layout.marker or layout.companions or proof is Proof.LINKED:
        early = _before_claim(spool, name, proof, terms)
        if early is not None:
            return early
    seen = proof is Proof.RENAMED and not layout.legacy
    # The writer is done with a unique name that it has renamed: no lease is needed.
    hot = seen and layout.is_unique_name(name)
    claim = Claim(spool, name, layout.stem(name), terms, asks=not hot)
    try:
        refused = add_part(claim, name)
        if refused is None:
            changed_later = 0 < event_time_ns < claim.parts[0].ctime_ns
            # Of a linked file the other name goes later; its events tell of all the rest.
            changed_later = changed_later and proof is not Proof.LINKED
            if changed_later and spool.leases and not _is(claim, renamed):
                if hot:
                    claim.release()
                    return take(spool, name, Proof.NO_WRITER, terms)
                seen, proof = False, min(proof, Proof.NO_WRITER)
            if seen and claim.writer is not Writer.SOME:
                return claim  # the hot path: its rename is all the evidence there need be
            refused = _judge(claim, proof)
    except OSError as error:
        refused = NotClaimed(Reason.ERROR, f"{display(name)}: cannot be read: {error.strerror}")
    except BaseException:
        claim.release()
        raise
    if refused is not None:
        claim.release()
        return refused
    return claim


def _before_claim(
    spool: Spool, name: bytes, proof: Proof, terms: ClaimOptions
) -> Claim | NotClaimed | None:
    """Decide by what is known before the file is locked; None if the claim decides."""
    found = take_by_files(spool, name, proof, terms)
    if found is None and proof is Proof.LINKED:
        return not_yet(spool, name)
    return found


def _judge(claim: Claim, proof: Proof) -> NotClaimed | None:
    """Decide by the evidence, also for a file of which IN_CREATE told; None if the claim stands."""
    if proof is not Proof.LINKED:
        return _weigh(claim, proof)
    found = weigh_link(claim)
    return found if isinstance(found, NotClaimed) else _weigh(claim, found)


def _is(claim: Claim, renamed: Renamed | None) -> bool:
    """Whether what was claimed is the file of which a rename was seen."""
    if renamed is None or claim.parts[0].ino != renamed.ino:
        return False
    return birth_ns(claim.parts[0].fd) == renamed.birth_ns


def _renamed(claim: Claim) -> Renamed | None:
    """Return what tells the claimed file from all others; None where no birth time is kept."""
    birth = birth_ns(claim.parts[0].fd)
    return None if birth is None else Renamed(claim.parts[0].ino, birth)


def _weigh(claim: Claim, proof: Proof) -> NotClaimed | None:
    """Gather the rest of the evidence and decide; None if the claim stands."""
    shape = Shape.WHOLE
    if claim.spool.layout.legacy:
        found = _shape(claim)
        if isinstance(found, NotClaimed):
            return found
        shape = found
    if shape is Shape.PAIR and proof is Proof.RENAMED:
        proof = Proof.NONE  # one rename says nothing of the other half; CLOSED comes from both
    writer = claim.writer
    if writer is Writer.UNKNOWN and claim.touched():  # the evidence above is out of date
        return NotClaimed(Reason.WRITER, "its writer closed it just now", 0.0, shape)
    finish = _finish(claim, proof)
    ruling = at_any_age(shape, proof, writer, finish) or rule(
        shape, proof, writer, claim.age(), claim.terms.limits, finish
    )
    claim.action, claim.why = ruling.action, ruling.why
    if ruling.action is Action.WAIT:
        # By then its times may tell more; but a mode that is set in mid-upload must not.
        at_once = finish is Finish.AT_ONCE and writer is Writer.NONE
        closed = proof is Proof.CLOSED and shape is Shape.WHOLE
        again = proof if at_once or closed else Proof.NONE
        return NotClaimed(Reason.YOUNG, ruling.why, ruling.wait, shape, again)
    if ruling.action is Action.LEAVE:
        if proof is Proof.RENAMED and shape is Shape.WHOLE:
            return NotClaimed(Reason.WRITER, ruling.why, 0.0, shape, proof, _renamed(claim))
        again = proof if claim.terms.renames and proof is Proof.NO_WRITER else Proof.NONE
        return NotClaimed(Reason.WRITER, ruling.why, 0.0, shape, again)
    return None


def _finish(claim: Claim, proof: Proof) -> Finish:
    """Return what is known of the last step of the writer of a file that a scan found.

    The birth time costs a call of its own: it is asked for only where it matters.
    """
    if proof is not Proof.NO_WRITER or claim.terms.renames or not claim.spool.layout.raw:
        return Finish.COMMITTED
    part = claim.parts[0]
    if claim.terms.settle:
        return Finish.OVER_TIME
    finish = finish_of(part.ctime_ns, part.mtime_ns, part.ctime_ns)
    if finish is Finish.AT_ONCE and claim.writer is Writer.NONE:
        finish = finish_of(birth_ns(part.fd), part.mtime_ns, part.ctime_ns)
    return finish


def _shape(claim: Claim) -> Shape | NotClaimed:
    """Find out what there is of a legacy entry, and claim its `.db` too where one belongs."""
    layout = claim.spool.layout
    kind = layout.kind(claim.name)
    if kind is Kind.METADATA_HALF:
        if any(claim.spool.stat(name) for name in message_names(claim.name)):
            return NotClaimed(Reason.GONE, "its message is there and stands for both")
        claim.form = Form.HALF
        return Shape.HALF
    if kind is Kind.ENTRY and not _wants_metadata(claim):
        return Shape.WHOLE
    refused = add_part(claim, metadata_name(claim.name))
    if refused is None:
        claim.form = Form.PAIR if kind is Kind.MESSAGE_HALF else Form.PCK_DB
        return Shape.PAIR
    if refused.refusal is Reason.GONE:
        claim.form = Form.HALF
        return Shape.HALF
    return refused


def _wants_metadata(claim: Claim) -> bool:
    """Whether a `.pck` holds one pickle only, so that its metadata is in a `.db`.

    A damaged one does not: decoding it will say what is wrong with it.
    """
    try:
        return mailman.pickles(read_part(claim.parts[0], claim.terms.max_size)) == 1
    except Undecodable:
        return False
