"""Metrics as text, for `status --metrics` and `sweep --metrics-file`.

Guarantees: a file is replaced as a whole, so a collector that reads it meanwhile sees the one
before or the new one; a link or another file of that name is replaced, and not followed.
Fails: Unavailable without the package prometheus-client; NoSuch or CannotCreate for a file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from watcher.errors import CannotCreate, NoSuch, Unavailable, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.inspect.queue_status import QueueStatus
    from watcher.web.series import Family

_MODE = 0o644  # the collector is another user's process


def text_of(statuses: Sequence[QueueStatus], unreadable: Sequence[str]) -> bytes:
    """Return the metrics of queues; `unreadable` are the names of others."""
    from watcher.web.metrics import families

    return encoded(families(statuses, unreadable))


def encoded(known: Iterable[Family]) -> bytes:
    """Return metrics as text."""
    try:
        from watcher.web.exposition import encoded as encode
    except ImportError:
        raise Unavailable(
            "metrics need the package prometheus-client: pip install 'spool-watcher[metrics]'"
        ) from None
    return encode(known)[0]


def check(path: str) -> None:
    """Raise an error if metrics cannot be written to this path: say so before the work."""
    encoded(())
    if not path.endswith(".prom"):
        raise Usage(f"--metrics-file: {path!r} does not end in .prom, so no collector reads it")
    if not os.path.isdir(directory := os.path.dirname(path) or "."):
        raise NoSuch(f"--metrics-file: the directory {directory!r} does not exist")


def write(path: str, known: Iterable[Family]) -> None:
    """Replace a file by these metrics."""
    data = encoded(known)
    scratch = f"{path}.{secrets.token_hex(8)}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(scratch, flags, _MODE), "wb") as file:
            os.fchmod(file.fileno(), _MODE)  # whatever the umask is
            file.write(data)
        os.rename(scratch, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise CannotCreate(f"--metrics-file: {path!r}: {error.strerror}") from None
