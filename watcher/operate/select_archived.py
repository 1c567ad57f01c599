"""Select entries of an archive: all, or those of the given names.

    archived/NAME              the file's name in the archive, or its name in the queue
    archived/2026-11-27/NAME   the same in the folder of one day

As `find_entry` does: a file of exactly that name comes before an entry of that name, and that
before an entry whose name begins so.
Guarantees: nothing is locked, moved or written; the archive is listed once for all names.
Fails: Usage if there is no archive, or several entries have a name; NoSuch, NotPermitted or
Unavailable if the archive cannot be listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from watcher import mailman
from watcher.errors import NoSuch, Usage, WatcherError
from watcher.inspect.find_entry import TYPED, metadata, open_files_in
from watcher.inspect.list_archive import list_archive, open_folder
from watcher.inspect.list_entries import EntryInfo
from watcher.inspect.notes_view import stem_of
from watcher.rules.archived_names import ArchiveOptions, queue_name
from watcher.rules.lifecycle import State, state_word
from watcher.rules.names import display
from watcher.spool.spool import Spool

PLACE = state_word(State.DONE).encode() + b"/"
_SHOWN = 10  # names in an error
_FILE, _ENTRY, _BEGINS = range(3)  # how a name fits, the best first


def all_archived(spool: Spool) -> list[EntryInfo]:
    """Return every entry of the archive."""
    return list(list_archive(spool, archive_of(spool)))


def named_archived(
    spool: Spool, names: Sequence[bytes]
) -> tuple[list[EntryInfo], list[WatcherError]]:
    """Return the archived entries of these names, and an error for each name that none has."""
    options = archive_of(spool)
    found: list[list[EntryInfo]] = [[] for _ in names]
    ranks = [_BEGINS] * len(names)
    exactly = {name: index for index, name in enumerate(names)}
    for entry in list_archive(spool, options):
        for index, rank in _fits(spool, entry, names, exactly):
            if rank < ranks[index]:
                ranks[index], found[index] = rank, []
            if rank == ranks[index] and len(found[index]) <= _SHOWN:
                found[index].append(entry)
    entries: dict[tuple[bytes, bytes], EntryInfo] = {}
    missing: list[WatcherError] = []
    for name, these in zip(names, found, strict=True):
        if len(these) > 1:
            raise _several(name, these)
        if these:
            entries[these[0].day, these[0].files[0]] = these[0]
        else:
            where = f"{options.option} = {display(options.directory)}"
            missing.append(NoSuch(f"{display(name)}: no such entry in {where}"))
    return list(entries.values()), missing


def metadata_of(spool: Spool, entry: EntryInfo, limit: int = mailman.MAX_SIZE) -> dict[str, object]:
    """Decode the metadata of an archived entry; raises WatcherError, Undecodable or OSError."""
    folder = open_folder(spool, archive_of(spool), entry.day)
    found = open_files_in(folder, spool.layout, entry.files, limit)
    try:
        return metadata(found, limit)
    finally:
        found.close()


def archive_of(spool: Spool) -> ArchiveOptions:
    """Return the options of the queue's archive; raise Usage if it has none."""
    if spool.archive is None:
        raise Usage(
            f"{display(spool.path)}: no archive is configured: say --archive DIR or --config"
        )
    return spool.archive.options


def _fits(
    spool: Spool, entry: EntryInfo, names: Sequence[bytes], exactly: dict[bytes, int]
) -> Iterator[tuple[int, int]]:
    """Yield the names that an entry has, by index, each with how it fits."""
    own = [queue_name(file) or file for file in entry.files]
    called = {stem_of(name, spool.layout) for name in own}
    for words, rank in (({*entry.files}, _FILE), ({*own, *called}, _ENTRY)):
        for word in words:
            for name in (word, entry.day + b"/" + word):
                if name in exactly:
                    yield exactly[name], rank
    if len(names) <= TYPED:  # a script gives more, and whole ones
        for index, name in enumerate(names):
            day, _, begin = name.rpartition(b"/")
            if own[0].startswith(begin) and day in (b"", entry.day):
                yield index, _BEGINS


def _several(name: bytes, found: Sequence[EntryInfo]) -> Usage:
    """Return the error for a name that several entries have, with a name for each of them."""
    places = [PLACE + (each.day + b"/" if each.day else b"") + each.files[0] for each in found]
    more = ", ..." if len(places) > _SHOWN else ""
    say = ", ".join(map(display, places[:_SHOWN]))
    return Usage(f"{display(name)}: several archived entries go by this name: say {say}{more}")
