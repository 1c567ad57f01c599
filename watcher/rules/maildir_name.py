"""The name of a message in a Maildir, and where an earlier attempt may have left it. PURE.

    SECONDS.MmicrosecondsKkey.HOST,S=SIZE        in tmp/ and new/
    SECONDS.MmicrosecondsKkey.HOST,S=SIZE:2,FLAGS   in cur/ or new/, after a reader has seen it

SECONDS and microseconds are the mtime of the entry's file, `key` the first 32 hex digits of the
entry's key: every attempt at an entry gives the same name, and two entries never have one name.
SIZE, in bytes, spares Dovecot a look at the file.
"""

from __future__ import annotations

from watcher.rules.age import SECOND

_KEY = 32  # hex digits
_HOST = 64  # bytes
_CODED = {b"\\": b"\\134", b"/": b"\\057", b":": b"\\072", b",": b"\\054"}  # as maildir(5) says
# A clock of another machine, of a file server, may be this late; the kernel's is 10 ms late.
SLACK = 10 * SECOND


def unique_name(mtime_ns: int, key: str, host: bytes, size: int) -> bytes:
    """Return the name of a message in tmp/ and new/."""
    seconds, rest = divmod(max(0, mtime_ns), SECOND)
    for plain, coded in _CODED.items():
        host = host.replace(plain, coded)
    head = b"%d.M%dK%s." % (seconds, rest // 1000, key[:_KEY].encode())
    return head + (host[:_HOST] or b"localhost") + b",S=%d" % size


def without_flags(name: bytes) -> bytes:
    """Return the unique name of a message that may have flags."""
    return name.partition(b":")[0]


def may_be_second(attempt: int, crashes: int, born_ns: int | None, began_ns: int) -> bool:
    """Whether an earlier attempt at an entry may have delivered its message.

    This process's first attempt was made after `began_ns`. `born_ns` is when the entry's file was
    made, None if that is not known: one that was made later has had no attempt by a process before.
    """
    return attempt > 1 or crashes > 0 or born_ns is None or born_ns <= began_ns + SLACK


def may_be_in(changed_ns: int, born_ns: int | None) -> bool:
    """Whether a reader may have given an earlier attempt's message its flags in a directory.

    The directory was changed at `changed_ns`: the reader did that after the entry was made.
    """
    return born_ns is None or changed_ns >= born_ns - SLACK
