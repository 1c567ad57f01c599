"""The entries of a queue by state, as they are found. Memory for one at a time.

Guarantees: nothing is opened for writing, locked or moved. The order is the directory's: a census
of a million entries must not hold them all to sort them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from watcher.claim import lease
from watcher.claim.holders import holders
from watcher.evidence import Writer
from watcher.lifecycle import State
from watcher.spool.disk import DIRECTORY, DISK, LOOK
from watcher.spool.layout import OURS, STATE_DIRECTORIES, Kind, stored
from watcher.spool.spool import Spool, is_regular

MAX_NOTE = 1 << 20  # bytes


class Listed(NamedTuple):
    """One entry: its state, its files, and what is known of it."""

    state: State
    name: bytes  # NAME, without the suffix of its file
    files: tuple[bytes, ...]
    size: int  # bytes, of all its files
    age: float  # seconds since the youngest of them changed
    why: str = ""


def census(spool: Spool, wanted: State | None) -> Iterator[Listed]:
    """Yield the entries of one state, or of all."""
    if wanted in (None, State.ARRIVING, State.READY, State.CLAIMED):
        for listed in _queue(spool):
            if wanted in (None, listed.state):
                yield listed
    for state in STATE_DIRECTORIES:
        if wanted in (None, state):
            yield from _put_away(spool, state)


def _queue(spool: Spool) -> Iterator[Listed]:
    held, layout = holders(), spool.layout
    for name, status in _files(spool.fd):
        kind = layout.kind(name)
        if name == OURS or not is_regular(status):
            continue
        files: tuple[bytes, ...] = (name,)
        size, changed = status.st_size, status.st_ctime
        if kind is Kind.TEMPORARY:
            yield Listed(State.ARRIVING, name, files, size, _age(changed), "being written")
            continue
        if kind is Kind.METADATA_HALF:
            if any(spool.stat(message) for message in layout.message_halves(name)):
                continue  # listed under its message
        elif kind in (Kind.ENTRY, Kind.MESSAGE_HALF):
            other = spool.stat(layout.metadata_half(name)) if layout.legacy else None
            if other is not None:
                files = (name, layout.metadata_half(name))
                size, changed = size + other.st_size, max(changed, other.st_ctime)
        else:
            continue
        state, why = _state(spool, kind, files, held.get((status.st_dev, status.st_ino)))
        yield Listed(state, layout.stem(name), files, size, _age(changed), why)


def _state(
    spool: Spool, kind: Kind, files: tuple[bytes, ...], holder: int | None
) -> tuple[State, str]:
    if holder is not None:
        return State.CLAIMED, f"by process {holder}"
    if any(writer_of(spool, file) is Writer.SOME for file in files):
        return State.ARRIVING, "a process has it open for writing"
    if kind is not Kind.ENTRY and len(files) == 1:
        return State.ARRIVING, "half of a pair"
    return State.READY, ""


def writer_of(spool: Spool, name: bytes) -> Writer:
    """Ask whether a file of the queue is open for writing; touches nothing else."""
    if not spool.leases:
        return Writer.UNKNOWN
    try:
        fd = DISK.open(name, spool.fd)
    except OSError:
        return Writer.UNKNOWN
    try:
        return lease.writer(fd)
    finally:
        os.close(fd)


def _put_away(spool: Spool, state: State) -> Iterator[Listed]:
    try:
        directory = os.open(
            os.path.join(OURS, STATE_DIRECTORIES[state]), DIRECTORY | os.O_NOFOLLOW, dir_fd=spool.fd
        )
    except OSError:
        return
    try:
        for name, status in _files(directory):
            if name.endswith(b".json") or name[:1] == b"." or not is_regular(status):
                continue
            stem = spool.layout.stem(name)
            if name.endswith(b".db"):
                stem = name.removesuffix(b".db")
                if any(_there(stem + suffix, directory) for suffix in (b".msg", b".pck")):
                    continue  # listed under its message
            elif name.endswith(b".msg"):
                stem = name.removesuffix(b".msg")
            metadata = stem + b".db"
            files = (
                (name, metadata) if metadata != name and _there(metadata, directory) else (name,)
            )
            why = str(read_note(directory, stem).get("why", "no note beside it"))
            yield Listed(state, stem, files, status.st_size, _age(status.st_ctime), why)
    finally:
        os.close(directory)


def read_note(directory: int, stem: bytes) -> dict[str, object]:
    """Return what the note beside an entry says; {} when there is none that can be read."""
    try:
        fd = os.open(stored(stem, b".json", 0), LOOK, dir_fd=directory)
    except OSError:
        return {}
    with open(fd, "rb") as file:
        try:
            note = json.loads(file.read(MAX_NOTE))
        except (ValueError, OSError, RecursionError):
            return {}
    return note if isinstance(note, dict) else {}


def _files(directory: int) -> Iterator[tuple[bytes, os.stat_result]]:
    fd = os.open(b".", DIRECTORY, dir_fd=directory)
    try:
        with os.scandir(fd) as items:
            for item in items:
                try:
                    yield os.fsencode(item.name), item.stat(follow_symlinks=False)
                except OSError:
                    continue
    finally:
        os.close(fd)


def _there(name: bytes, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _age(changed: float) -> float:
    return max(0.0, time.time() - changed)
