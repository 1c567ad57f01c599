"""The traceback of a fatal signal, written by Python's faulthandler as the process dies.

If a handler crashes this process (a segfault in an extension module, an abort), Python writes the
traceback into a file beside the ledger. The process that counts the death reads it. A SIGKILL
leaves nothing.
Guarantees: one file a process, linked into the process directory of each queue if the file system
allows it. One thread at a time arms, so the file's descriptor is closed once.
Fails: never; without the file only the explanation is missing.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading

from watcher.spool import state_files

FAULT = b".fault"
KEPT = 4096  # bytes
_LOCK = threading.Lock()  # for `_armed`
_armed: list[int] = []  # the descriptor of the file, once there is one: faulthandler writes to it
_forgone: list[bool] = []  # not empty: a program that embeds a queue uses faulthandler itself


def forgo() -> None:
    """Arm nothing if the program that embeds a queue uses faulthandler for itself."""
    import faulthandler

    if faulthandler.is_enabled() and not _armed:
        _forgone.append(True)


def arm(directory: int) -> None:
    """Make Python write the traceback of a fatal signal into a process directory."""
    import faulthandler

    if _forgone:
        return
    with _LOCK, contextlib.suppress(OSError):
        if _armed and _link(_armed[0], directory):
            return
        # Root's file is linked into directories of several owners, so all may read it.
        mode = 0o644 if os.geteuid() == 0 else 0o600
        fd = state_files.create_anew(FAULT, directory, os.O_WRONLY | os.O_APPEND, mode, mine=True)
        if mode != 0o600:  # noqa: PLR2004 - whatever the umask is
            os.fchmod(fd, mode)
        faulthandler.enable(fd)
        for old in _armed:
            os.close(old)
        _armed[:] = [fd]


def _link(fd: int, directory: int) -> bool:
    """Link the file into one more directory; return whether that worked."""
    with contextlib.suppress(OSError):
        os.link(f"/proc/self/fd/{fd}", FAULT, dst_dir_fd=directory, follow_symlinks=True)
        return True
    return False


def read(directory: int) -> tuple[str, str]:
    """Return the cause of a process's death ("" if not known), and the text of the file."""
    try:  # its beginning: the cause, then the most recent call first
        text = state_files.read(FAULT, directory, KEPT, names=None)
    except OSError:
        return "", ""
    said = text.decode("utf-8", "backslashreplace")
    fatal = re.search(r"^Fatal Python error: (.{1,200})$", said, re.MULTILINE)
    return (fatal[1] if fatal else ""), said
