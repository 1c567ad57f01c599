"""What the settings of a handler are: the base class of the Structs in `watcher.handle.kinds`.

Costs no import of the handler itself: a command that runs no handler does not load one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import msgspec

from watcher import durations
from watcher.rules.finding import OK, Check
from watcher.rules.option import Option, period

if TYPE_CHECKING:
    from watcher.handle.handler import Handler

TIMEOUT = Option(
    period, durations.EXPECTED, "none", "time for one entry: then TERM, and KILL 5 s later"
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
