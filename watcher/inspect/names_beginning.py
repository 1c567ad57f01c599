"""Find the entries of one directory whose names begin with a text.

Guarantees: nothing is opened but the directory, and nothing is changed; one pass over its names.
Fails: OSError if the directory cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from watcher.inspect.notes_view import is_file, stamp_of, with_metadata
from watcher.rules.beginnings import begins
from watcher.rules.kinds import ENTRY_KINDS
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, Layout, is_note
from watcher.rules.pair_names import message_names
from watcher.spool.dirs import names_in


def entries_beginning(
    directory: int, layout: Layout, state: State, wanted: bytes
) -> Iterator[tuple[bytes, ...]]:
    """Yield the files of each entry whose name in the queue begins with `wanted`."""
    inside = state in STATE_DIRECTORIES
    rules = layout.in_state_dir() if inside else layout
    for file in names_in(directory):
        if wanted not in file:  # most names end here
            continue
        own = stamp_of(file, state)[1]
        if not begins(wanted, own, rules) or (inside and is_note(file, layout)):
            continue
        if rules.kind(own) not in ENTRY_KINDS or not is_file(directory, file):
            continue
        pair = file.endswith(b".db") and not layout.raw
        if pair and any(is_file(directory, message) for message in message_names(file)):
            continue  # found with its message
        yield with_metadata(directory, file, layout)
