"""Name the entries that a restored backup brought back after they had been handled or deleted.

In a copy of a queue whose journal goes on elsewhere, an entry may be here again though the journal
says that it ended. Its file is then older than that line. It will be handled again, which is no
loss, so it is a warning.
Guarantees: files are only looked at. Only a queue that was copied or moved is asked about.
Fails: never; a file that is gone meanwhile is left out.
"""

from __future__ import annotations

from typing import NamedTuple

from watcher.inspect.audit_rules import Audit
from watcher.inspect.files_there import Disk, File
from watcher.rules.names import is_metadata
from watcher.spool.journal_line import Line


class Restored(NamedTuple):
    """A file of an entry that had ended, and the line by which it ended."""

    file: File
    line: Line


def restored(audit: Audit, disk: Disk) -> list[Restored]:
    """Return the entries that are here and had ended before, by place and name."""
    if not audit.ended_here:
        return []
    found = []
    for file in disk.by_inode.values():
        line = audit.ended_here.get(audit.stem(file.name))
        if line is None or is_metadata(file.name, audit.layout):
            continue
        written = file.written()
        if written is not None and written <= line.time:
            found.append(Restored(file, line))
    return sorted(found, key=lambda each: (each.file.place, each.file.name))
