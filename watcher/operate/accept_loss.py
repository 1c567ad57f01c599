"""Accept the loss of entries that the audit misses, so that later audits name them as accepted.

Guarantees: only an entry that is missing can be accepted. The journal's line `accept` names one
loss, by inode number, name and time of the entry's last line: if an entry of the same name is lost
later, it is missing. No line is removed or changed.
Fails: NoSuch for a name that is not missing, and Unavailable if the journal cannot be written.
"""

from __future__ import annotations

from collections.abc import Sequence

from watcher.errors import NoSuch, Unavailable, one_line
from watcher.inspect.balance import Missing
from watcher.operate.operator import Operator
from watcher.rules.lifecycle import State
from watcher.rules.names import display
from watcher.spool.journal_line import ACCEPT, accept_detail
from watcher.spool.spool import Spool

ALL = "ALL"


def chosen(missing: Sequence[Missing], names: Sequence[str]) -> list[Missing]:
    """Return the missing entries of these NAMEs, as the audit shows them; raises NoSuch."""
    if ALL in names:
        return list(missing)
    shown = {display(each.name) for each in missing}
    for name in names:
        if name not in shown:
            raise NoSuch(f"{one_line(name)}: not missing, so its loss cannot be accepted")
    return [each for each in missing if display(each.name) in names]


def accept(spool: Spool, losses: Sequence[Missing], by: Operator, why: str) -> None:
    """Write a line for each loss."""
    for lost in losses:
        line = lost.last
        detail = accept_detail(line, str(by), why)
        spool.journal.record(State.READY, ACCEPT, line.inode, line.name, detail, line.birth)
    spool.journal.flush()
    if spool.journal.trouble:
        raise Unavailable(f"{display(spool.path)}: {spool.journal.trouble}")
