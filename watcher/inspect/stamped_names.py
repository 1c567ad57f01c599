"""Find entries of deferred/ and held/ by their names without the stamp.

Guarantees: one pass over the names of the directory for all wanted names; nothing is opened but the
directory, and nothing is changed.
Fails: OSError if the directory cannot be read.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from watcher.inspect.notes_view import is_file, stamp_of, with_metadata
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout, is_note
from watcher.rules.pair_names import SUFFIXES, message_names
from watcher.rules.stamp import Schedule, stamped
from watcher.spool.dirs import names_in

_DASHES = 5  # before NAME in STAMP-NAME, without the optional identity
_IDENTITY = len("k") + 16
_CUT = 150  # bytes: a longer NAME may have been cut to make room for a stamp


def entries_stamped(
    directory: int, layout: Layout, state: State, names: list[tuple[int, bytes]]
) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield the stamped entries that have one of the names, soonest due first."""
    suffixes = () if layout.raw else SUFFIXES
    wanted: dict[bytes, set[int]] = {}  # by the name of a file
    cut: dict[bytes, list[tuple[int, bytes]]] = {}  # by the beginning of a NAME
    for index, name in names:
        for own in (name, *(name + suffix for suffix in suffixes)):
            wanted.setdefault(own, set()).add(index)
        if len(name) > _CUT:
            cut.setdefault(name[:_CUT], []).append((index, name))
    if not wanted:
        return
    for file in sorted(_candidates(directory, wanted, cut)):
        schedule, own = stamp_of(file, state)
        if schedule is None or is_note(file, layout):
            continue
        if file.endswith(b".db") and not layout.raw and _has_message(directory, file):
            continue
        files = with_metadata(directory, file, layout)
        found = set(wanted.get(own, ()))
        for index, name in cut.get(own[:_CUT], ()):
            if file in _stamped_names(schedule, name, layout):
                found.add(index)
        yield from ((index, files) for index in found)


def _stamped_names(schedule: Schedule, name: bytes, layout: Layout) -> list[bytes]:
    """Return the names that a deferred file of the entry `name` may have, also a cut one."""
    if layout.raw:
        return [stamped(schedule, *layout.split(name))]
    return [stamped(schedule, name, suffix) for suffix in SUFFIXES]


def _candidates(directory: int, wanted: Container[bytes], cut: Container[bytes]) -> Iterator[bytes]:
    """Yield the names that may be STAMP-OWN with OWN wanted; does not parse the stamp."""
    for file in names_in(directory):
        own = file.split(b"-", _DASHES)[-1]
        identity, dash, rest = own.partition(b"-")
        named = (own, rest) if dash and len(identity) == _IDENTITY else (own,)
        if any(name in wanted or name[:_CUT] in cut for name in named):
            yield file


def _has_message(directory: int, metadata: bytes) -> bool:
    return any(is_file(directory, message) for message in message_names(metadata))
