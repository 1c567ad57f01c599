"""What the daemon tells the service manager that started it, as the text of sd_notify(3).

Guarantees: one line for each variable, whatever a queue's name or a trouble's text holds.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from watcher.errors import counted

LONGEST = 300  # characters of the status line
EXTENSION = 30.0  # seconds for which one message keeps a stop from being late
SETTLING = 15.0  # seconds after a handler's timeout: TERM, KILL, the journal, the last move


class QueueState(NamedTuple):
    """One queue: how many entries are ready and in hand, and its troubles by subject."""

    name: str
    ready: int
    in_hand: int
    troubles: Mapping[str, str]


class InHand(NamedTuple):
    """One running attempt: for how long it has run, and its handler's timeout; seconds."""

    lasted: float
    timeout: float | None


def status_line(queues: Iterable[QueueState]) -> str:
    """Return the daemon in one line: what waits, what is in hand, and the first trouble."""
    found = list(queues)  # a queue twice: its worker of the settings before still has entries
    ready, in_hand = sum(one.ready for one in found), sum(one.in_hand for one in found)
    count = counted(len({one.name for one in found}), "queue", "queues")
    words = f"{count}: {ready} ready, {in_hand} in hand"
    troubled = [one for one in found if one.troubles]
    if not troubled:
        return words
    first = troubled[0]
    text = next(iter(first.troubles.values()), "")
    return _one_line(f"{words}; {len(troubled)} in trouble: {first.name}: {text}")


def message(**variables: str) -> bytes:
    """Return the datagram that sets these variables."""
    lines = (f"{name}={_one_line(value)}" for name, value in variables.items())
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def extends(attempts: Iterable[InHand]) -> bool:
    """Whether a stop may take longer: a handler runs whose timeout will end it.

    A handler without a timeout gets no more than the unit's TimeoutStopSec.
    """
    return any(one.timeout is not None and one.lasted < one.timeout + SETTLING for one in attempts)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
