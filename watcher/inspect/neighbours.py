"""Recognise directories that no watcher should serve: another program's queue, a Mailman tree.

Guarantees: nothing is changed; the first bytes of at most a hundred files are read.
Fails: never; a file that cannot be read is not recognised.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from watcher.errors import WatcherError
from watcher.inspect.notes_view import look
from watcher.rules.kinds import ENTRY_KINDS
from watcher.rules.names import Layout, display
from watcher.spool.dirs import DIRECTORY, names_in
from watcher.spool.disk import LOOK
from watcher.spool.spool import Spool

_LOOKS = 100  # files, and names of each kind
_KNOWN = {
    b"/var/spool/postfix": "Postfix",
    b"/var/spool/exim": "Exim",
    b"/var/spool/exim4": "Exim",
    b"/var/spool/mqueue": "Sendmail",
    b"/var/spool/mqueue-client": "Sendmail",
    b"/var/spool/clientmqueue": "Sendmail",
    b"/var/qmail/queue": "qmail",
    b"/var/spool/nullmailer": "nullmailer",
    b"/var/spool/cups": "CUPS",
    b"/var/spool/cron": "cron",
    b"/var/spool/at": "at",
}
_POSTFIX = frozenset((b"active", b"incoming", b"deferred", b"maildrop", b"hold", b"corrupt"))
_POSTFIX_NEEDED = 3  # of these side by side
_QUEUE_ID = re.compile(rb"[0-9A-F]{6,20}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,20}")
_SIZE_RECORD = re.compile(rb"C[\x10-\x7f] *[0-9]+ ")  # with which each of Postfix's files begins
_EXIM = re.compile(rb"[0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4}-[HDJ]")
_SENDMAIL = re.compile(rb"[qdx]f[0-9A-Za-z]{8,20}")
# Mailman's runners of 2.1 and 3; one directory each, below one parent.
_MAILMAN = frozenset(
    b"archive bad bounces command commands digest in nntp news out outgoing pipeline retry"
    b" shunt virgin".split()
)
_SERVED = frozenset(_MAILMAN - {b"bad", b"shunt"})  # no runner takes entries from those two
_MAILMAN_NEEDED = 2


def another_programs(spool: Spool) -> str:
    """Return the name of the program whose own queue this is; "" if none is recognised."""
    path = os.path.realpath(spool.path)
    for root, name in _KNOWN.items():
        if path == root or path.startswith(root + b"/"):
            return name
    parent = os.path.dirname(path)
    beside = [name for name in _POSTFIX if _is_directory(os.path.join(parent, name))]
    if os.path.basename(path) in _POSTFIX and len(beside) >= _POSTFIX_NEEDED:
        return "Postfix"
    return _by_its_files(spool)


def _by_its_files(spool: Spool) -> str:
    try:
        names = [name for name, _ in zip(names_in(spool.fd), range(_LOOKS), strict=False)]
    except OSError:
        return ""
    for name in names:
        if _EXIM.fullmatch(name):
            return "Exim"
        if _SENDMAIL.fullmatch(name) and b"df" + name[2:] in names and b"qf" + name[2:] in names:
            return "Sendmail"
        if _QUEUE_ID.fullmatch(name) and _SIZE_RECORD.match(_first_bytes(spool, name)):
            return "Postfix"
    return ""


def _first_bytes(spool: Spool, name: bytes) -> bytes:
    try:
        fd = os.open(name, LOOK, dir_fd=spool.fd)
    except OSError:
        return b""
    try:
        return os.pread(fd, 64, 0) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def mailman_queues(spool: Spool) -> list[bytes]:
    """Return the queue directories of a Mailman tree, those with entries first."""
    there = [name for name in sorted(_MAILMAN) if _is_directory(name, spool.fd)]
    if len(there) < _MAILMAN_NEEDED or not _SERVED.intersection(there):
        return []
    return sorted(there, key=lambda name: (not _has_entries(spool, name), name))


def tree(spool: Spool) -> str:
    """Say which directories of a Mailman tree to serve instead of its root; "" if it is none."""
    queues = mailman_queues(spool)
    serve = [name for name in queues if name in _SERVED]
    if not serve:
        return ""
    shown = ", ".join(f"{display(name)}/" for name in queues)
    first = display(os.path.join(spool.path, serve[0]))
    return (
        f"this looks like Mailman's tree of queues, and its entries lie in {shown}: serve one of"
        f" these, e.g. {first}, and only one that no Mailman runner serves"
    )


def warning_for(path: bytes, layout: Layout) -> str:
    """Return a warning for the daemon of a directory; "" if there is none."""
    try:
        spool = Spool(path, layout)
        if program := another_programs(spool):
            return f"this is {program}'s own queue: do not serve it"
        words = tree(spool)
        if words and not any(layout.kind(name) in ENTRY_KINDS for name in names_in(spool.fd)):
            return f"there is no entry in {display(spool.path)}: {words}"
    except (OSError, WatcherError):
        pass  # the daemon reports what is wrong with its directory
    return ""


def mailman_runners() -> Iterator[str]:
    """Yield the processes that look like Mailman's runners, as far as /proc shows them."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as words:
                line = words.read().replace(b"\0", b" ").strip()
        except OSError:
            continue
        if re.search(rb"(?:qrunner|/runner) .*--runner=", line):
            yield pid


def _has_entries(spool: Spool, name: bytes) -> bool:
    try:
        fd = os.open(name, DIRECTORY, dir_fd=spool.fd)
    except OSError:
        return False
    try:
        some = zip(names_in(fd), range(_LOOKS), strict=False)
        return any(each.endswith((b".pck", b".db", b".msg")) for each, _ in some)
    except OSError:
        return False
    finally:
        os.close(fd)


def _is_directory(path: bytes, directory: int | None = None) -> bool:
    if directory is not None:
        status = look(directory, path)
        return status is not None and stat.S_ISDIR(status.st_mode)
    return os.path.isdir(path) and not os.path.islink(path)
