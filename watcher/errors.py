"""Every error watcher raises on purpose: one root, one exit code each.

Guarantees: the text of an error is one line an operator can act on (what, where, what to do), and
the exit code is the sysexits(3) number of design section 8. Losing a race (another process took
the entry, the file is already gone) is a normal answer of the function that lost it, never an
error.
"""

from __future__ import annotations

import os


def one_line(text: str) -> str:
    """Return text as one line that does nothing to a terminal: what is no print as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, one: str, more: str) -> str:
    """Return a number with its noun: 1 entry, 2 entries."""
    return f"{number} {one if number == 1 else more}"


class WatcherError(Exception):
    """The root: something an operator must know; the text says what, where and what to do."""

    exit_code = os.EX_SOFTWARE

    def __init__(self, text: str = "") -> None:
        super().__init__(one_line(text))


class Usage(WatcherError):
    """The command line cannot be understood (the caller's fault)."""

    exit_code = os.EX_USAGE


class NoSuch(WatcherError):
    """The directory or the entry named does not exist (the caller's fault)."""

    exit_code = os.EX_NOINPUT


class Unavailable(WatcherError):
    """Something needed is not reachable now (the machine's fault)."""

    exit_code = os.EX_UNAVAILABLE


class CannotCreate(WatcherError):
    """A file or directory of ours could not be made (the machine's fault)."""

    exit_code = os.EX_CANTCREAT


class NoSpace(CannotCreate):
    """A file or directory of ours found no room: the disk is full, or a quota is (the same)."""


class TryAgain(WatcherError):
    """Full, locked or busy: the same call may go through later (nobody's fault)."""

    exit_code = os.EX_TEMPFAIL


class NotPermitted(WatcherError):
    """The file system refuses us (the operator's fault: owner or mode)."""

    exit_code = os.EX_NOPERM


class BadConfiguration(WatcherError):
    """The configuration is wrong; the text names the file, the key and what was expected."""

    exit_code = os.EX_CONFIG


class Undecodable(WatcherError):
    """The contents of an entry are not what their format allows (the writer's fault).

    The text is the reason that goes beside the quarantined entry.
    """

    exit_code = os.EX_DATAERR


class IllegalMove(WatcherError):
    """A move that the life cycle's table does not hold was asked for (our fault: a bug)."""


class WatchFailed(WatcherError):
    """The kernel or the poller would not watch a directory; the text says which limit or error."""

    exit_code = os.EX_UNAVAILABLE
