"""Look for an entry's marker and companions in the queue directory.

Guarantees: nothing is opened or changed. Only a regular file counts as a marker: a directory could
not be removed with its entry. Anything counts as a companion, because it says "not yet".
Fails: OSError if the directory cannot be searched.
"""

from __future__ import annotations

import os
import stat

from watcher.rules.names import Layout, display
from watcher.spool.dirs import exists, stat_or_none


def marker_status(layout: Layout, directory: int, entry: bytes) -> os.stat_result | None:
    """Return the status of an entry's marker; None if there is none."""
    status = stat_or_none(layout.marker_of(entry), directory)
    return status if status is not None and stat.S_ISREG(status.st_mode) else None


def waits_for(layout: Layout, directory: int, entry: bytes) -> str:
    """Say for which file's coming or going an entry waits; "" if for none."""
    if not (layout.marker or layout.companions):
        return ""
    for name in layout.companions_of(entry):
        if exists(name, directory):
            return f"waits until its companion {display(name)} is gone"
    if layout.marker and marker_status(layout, directory, entry) is None:
        return f"waits for its marker {display(layout.marker_of(entry))}"
    return ""


def beside(layout: Layout, directory: int, name: bytes) -> list[tuple[str, str]]:
    """Say what is known of an entry's marker and companions, or of the entry that one is beside."""
    entry = layout.entry_beside(name)
    if entry is not None:
        return [("entry", _there(entry, directory))]
    told = [("companion", _there(each, directory)) for each in layout.companions_of(name)]
    if layout.marker:
        told.append(("marker", _there(layout.marker_of(name), directory)))
    return told


def _there(name: bytes, directory: int) -> str:
    status = stat_or_none(name, directory)
    if status is None:
        return f"{display(name)}, not there"
    odd = "" if stat.S_ISREG(status.st_mode) else ", and no regular file"
    return f"{display(name)}, there{odd}"
