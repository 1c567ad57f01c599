"""A file of which IN_CREATE told: look at it before it is claimed, and after.

Such a file may have been linked in, or a writer may be about to write it in place. The first look
takes no lock: a writer that locks its own file must not be refused because of it.
Guarantees: a file counts as linked in only if no process has it open for writing, it has contents,
and the events that the kernel had queued by then tell of no close under its name. A file that
a watcher process put back, because it was written to, counts as one that a scan found.
Fails: never raises OSError, except for a lease that may be had later.
"""

from __future__ import annotations

import os
import stat

from watcher.rules.evidence import Proof, Writer, came_by_link
from watcher.rules.names import other_names
from watcher.rules.results import NotClaimed, Reason
from watcher.spool import lease
from watcher.spool.claimed import Claim
from watcher.spool.spool import Spool

_WRITER = NotClaimed(Reason.WRITER, "a process has it open for writing", proof=Proof.LINKED)
_UNPROVEN = NotClaimed(Reason.UNPROVEN, "nothing proves that it is complete")


def not_yet(spool: Spool, name: bytes) -> NotClaimed | None:
    """Return why the file cannot be claimed as a linked one now; None if it may be.

    While it has a writer or another name it is worth another look. Whatever else it is, the claim
    finds out.
    """
    try:
        fd = spool.disk.open(name, spool.fd)
    except OSError:
        return None
    try:
        writer = lease.writer(fd) if spool.asks else Writer.UNKNOWN
        status = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink == 0:
        return None
    if writer is Writer.SOME:
        return _WRITER
    if not spool.layout.may_be_entry(status):
        return NotClaimed(Reason.FOREIGN, other_names(status), proof=Proof.LINKED)
    proved = writer is Writer.NONE and spool.leases and status.st_size > 0
    return None if proved else _UNPROVEN


def weigh_link(claim: Claim) -> Proof | NotClaimed:
    """Return what is proved of a claimed file of which IN_CREATE told."""
    if claim.writer is Writer.SOME:
        return _WRITER
    if claim.writer is Writer.UNKNOWN:
        return _UNPROVEN
    if claim.parts[0].mtime_ns > claim.parts[0].ctime_ns:
        return Proof.NONE  # a watcher process made the link: it put a file back (settle.put_back)
    proof = came_by_link(claim.parts[0].size, claim.terms.closed(claim.name))
    return _UNPROVEN if proof is Proof.NONE else proof
