"""A claimed entry for a handler, without a queue at work: a fixture of several folders."""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import pickle

import pytest

from watcher.handle.entry import Entry
from watcher.rules.form import Form
from watcher.spool.part import Part


@pytest.fixture
def claimed_entry(queue):
    """Make a claimed entry of some form: its files are in the queue, open and locked."""
    opened = []

    def part(name, data):
        path = os.path.join(os.fsencode(queue), name)
        with open(path, "wb") as file:
            file.write(data)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened.append(fd)
        status = os.fstat(fd)
        times = (status.st_ctime_ns, status.st_mtime_ns)
        return Part(name, fd, status.st_ino, status.st_size, *times)

    def make(message=b"message", metadata=None, *, form="pck", stem=None, **more):
        form, metadata = Form(form), metadata or {}
        stem = b"%d.0+ab" % (len(opened) + 1) if stem is None else stem
        db = marshal.dumps({key.encode(): value for key, value in metadata.items()}, 0)
        parts = {
            Form.PCK: {b".pck": pickle.dumps(message, 2) + pickle.dumps(metadata, 2)},
            Form.PAIR: {b".msg": message, b".db": db},
            Form.PCK_DB: {b".pck": pickle.dumps(message, 2), b".db": db},
            Form.RAW: {b".csv": message},
        }[form]
        return Entry(
            queue="q",
            name=stem,
            directory=os.fsencode(queue),
            parts=tuple(part(stem + suffix, data) for suffix, data in parts.items()),
            form=form,
            **more,
        )

    yield make
    for fd in opened:
        with contextlib.suppress(OSError):
            os.close(fd)
