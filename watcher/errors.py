"""Every error that watcher raises on purpose: one root, one exit code for each.

Guarantees: the text of an error is one line that an operator can act on (what, where, what to do).
The exit code is a sysexits(3) number (docs/design.md, "Exit codes"). A lost race (another process
took the entry, or the file is already gone) is not an error: the function returns a normal answer.
"""

from __future__ import annotations

import os


def one_line(text: str) -> str:
    """Return text as one line that is safe for a terminal: unprintable characters as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, one: str, more: str) -> str:
    """Return a number with its noun: 1 entry, 2 entries."""
    return f"{number} {one if number == 1 else more}"


class WatcherError(Exception):
    """The root of all errors: the text says what, where and what to do."""

    exit_code = os.EX_SOFTWARE

    def __init__(self, text: str = "") -> None:
        super().__init__(one_line(text))


class Usage(WatcherError):
    """The command line or an argument is wrong (the caller's fault)."""

    exit_code = os.EX_USAGE


class NoSuch(WatcherError):
    """The named directory or entry does not exist (the caller's fault)."""

    exit_code = os.EX_NOINPUT


class Unavailable(WatcherError):
    """Something that is needed is not available now (the machine's fault)."""

    exit_code = os.EX_UNAVAILABLE


class CannotCreate(WatcherError):
    """watcher could not make a file or directory (the machine's fault)."""

    exit_code = os.EX_CANTCREAT


class NoSpace(CannotCreate):
    """The disk or a quota is full, so watcher could not make a file (the machine's fault)."""


class EntryEnded(WatcherError):
    """A handler read an entry after it had returned (the handler's fault)."""


class TryAgain(WatcherError):
    """Full, locked or busy: the same call may succeed later (no fault)."""

    exit_code = os.EX_TEMPFAIL


class NotPermitted(WatcherError):
    """The file system refuses access (the operator's fault: owner or mode)."""

    exit_code = os.EX_NOPERM


class BadConfiguration(WatcherError):
    """The configuration is wrong; the text names the file, the key and what was expected."""

    exit_code = os.EX_CONFIG


class Undecodable(WatcherError):
    """The contents of an entry are not what their format allows (the writer's fault).

    The text becomes the reason in the note beside the entry in dead/.
    """

    exit_code = os.EX_DATAERR


class IllegalMove(WatcherError):
    """The life cycle's table does not allow this move (a bug in watcher)."""


class WatchFailed(WatcherError):
    """A directory cannot be watched or polled; the text says which limit or error."""

    exit_code = os.EX_UNAVAILABLE
