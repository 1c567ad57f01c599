"""What the settings of a handler are: the base class of the Structs in `watcher.handle.kinds`.

Costs no import of the handler itself: a command that runs no handler does not load one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import msgspec

from watcher import durations
from watcher.rules.finding import OK, Check
from watcher.rules.option import Option, duration, period

if TYPE_CHECKING:
    from watcher.handle.handler import Handler

MOST_IN_BATCH = 1000


def batch_size(value: object) -> int:
    """Read a number of entries in one call; raise ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= MOST_IN_BATCH:  # noqa: PLR2004 - one entry is no batch
        return value
    raise ValueError


TIMEOUT = Option(
    period, durations.EXPECTED, "none", "time for one entry: then TERM, and KILL 5 s later"
)
BATCH = Option(
    batch_size,
    f"a number from 2 to {MOST_IN_BATCH}",
    "none",
    "so many entries at most in one call; none: one entry in each",
)
BATCH_WAIT = Option(
    duration, durations.EXPECTED, "0s", "how long a worker waits for a batch to become full"
)
HANGS = "a handler that hangs holds its worker for ever"


class HandlerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of one handler. A subclass has a field of the kind's own name, as its first.

    OPTIONS: how those fields are read that TOML does not hold as they are (durations, sizes)
    EXAMPLE: what to write, for messages and documents
    COST: what one entry costs, in one sentence, for documents
    SETTLES: whether watcher removes, defers or rejects an entry by the handler's word; False:
        another program takes the entries of the queue (`trigger`)
    """

    OPTIONS: ClassVar[Mapping[str, Option]] = {}
    EXAMPLE: ClassVar[str] = ""
    COST: ClassVar[str] = ""
    SETTLES: ClassVar[bool] = True

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        return None

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration if it cannot be loaded."""
        raise NotImplementedError

    def moves_to(self) -> str | None:
        """Return the directory that the settlement moves done entries to; None: it moves none."""
        return None

    def endless(self) -> str:
        """Return what to do if an attempt may last without end; "" if it cannot."""
        if getattr(self, "timeout", None) is not None:
            return ""
        return f"{HANGS}: set a timeout (--timeout)"

    def try_target(self) -> Iterator[Check]:
        """Yield what a look at the handler's target finds, without an entry; changes nothing.

        `watcher check` calls it after `load`, and shows each finding. It waits for a server a few
        seconds at most. An exception is a finding too.
        """
        yield Check(OK, "handler", "is there")


def lone_wait(batch: int | None, wait: float) -> tuple[str, str] | None:
    """Return what is wrong with a `batch_wait` without `batch`; None if nothing is."""
    if wait and batch is None:
        return "batch_wait", "batch beside it: how many entries are in one call"
    return None
