"""The request line of a worker command (docs/worker-protocol.md): one JSON object an entry.

Guarantees: one line of ASCII whose fields come in one order, `version`, `file` and `key` first,
without a space between them and without an escape in them, so that a program without a JSON reader
finds them. The line with the metadata that is written in it fits into a pipe.
Fails: as `Entry.message` and `Entry.metadata`; OSError if no file can be made.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os

from watcher import mailman
from watcher.handle.entry import Entry
from watcher.handle.message_file import message_file, sealed
from watcher.rules.names import display

VERSION = 1
INLINE = 32 << 10  # bytes of metadata in the line; a pipe holds 64 KiB


def request(entry: Entry, opened: contextlib.ExitStack) -> bytes:
    """Return the line; the files that it names are there until `opened` is closed."""
    key = entry.key
    fields: dict[str, object] = {
        "version": VERSION,
        "file": _path_of(message_file(entry, opened)),
        "key": key,
        "attempt": entry.attempt,
        "queue": entry.queue,
    }
    for field, value in (("entry", entry.name), ("path", entry.path)):
        exact = os.fsencode(value)
        fields[field] = display(exact)
        if display(exact).encode() != exact:
            fields[f"{field}_base64"] = base64.b64encode(exact).decode()
    metadata = mailman.to_json(entry.metadata)
    if len(metadata) > INLINE:
        fields["metadata_file"] = _path_of(sealed("metadata", metadata.encode(), opened))
        return b"%s\n" % _json(fields)
    return b'%s,"metadata":%s}\n' % (_json(fields)[:-1], metadata.encode())


def _json(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _path_of(fd: int) -> str:
    """Return a path by which another process of this user opens a file of this process."""
    return f"/proc/{os.getpid()}/fd/{fd}"
