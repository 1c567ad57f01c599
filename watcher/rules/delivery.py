"""What is known of a message's earlier deliveries, and what another one means. PURE.

The server counts deliveries, and not what came of them. So a worker records what became of one
before it gives the message back. A first delivery, which is nearly always the last one, has no
record. From the second one on the worker also records that its attempt begins:

    an earlier delivery                    counts as
    -------------------------------------  -------------------------------------------------
    failed                                 an attempt
    the process died, and the worker       an attempt and a crash (an isolated function)
    lived on
    given back                             nothing: no attempt was made, or it was not due yet
    begun, and no record of its end        an attempt and a crash: its worker died, or lost the
                                           server for longer than the acknowledgement time
    no record at all                       an attempt; one of these is a crash too, once a later
                                           one was a crash

The last row is why a worker that dies makes no poison of the messages that waited beside the one
that killed it: nothing tells whether such a message was begun, until it is begun once more. Of what
ends a worker one delivery alone has no record, the first. If more have none, the server lost
acknowledgements, or workers died that had not begun it.

A stream that is made anew, or that a power failure cut short, gives a number a second time. So a
record names the moment at which its message was stored, and is none of another message's.

A message that waits for its next attempt may come early, because a server that restarts forgets the
delay of a -NAK: then it is given back for the rest of the time. If the rest is longer than the
whole delay was, a clock was set, or the clocks of two machines differ: then the attempt is due.

Fails: `Record.read` never raises: of what is no record nothing is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

MOST = 1 << 60  # a count or a time is less: what is read may be anything


class Record(NamedTuple):
    """What workers recorded of one message; moments in milliseconds since the epoch."""

    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    begun: int = 0  # which delivery was the last one whose attempt began; 0: none that is recorded
    doubtful: int = 0  # attempts of which it is not known whether they began
    first_ms: int = 0  # when the first attempt ended; 0: none has
    due_ms: int = 0  # when the next attempt may begin
    delay_ms: int = 0  # how long that was ahead when it was recorded
    stored_us: int = 0  # when the server stored the message, in microseconds since the epoch
    remembered: Mapping[str, object] = {}

    @classmethod
    def read(cls, data: bytes, stored_us: int) -> Record:
        """Read a record as `format` wrote it, if it is that of a message stored at this moment."""
        found = cls._read(data)
        return found if found.stored_us == stored_us else cls(stored_us=stored_us)

    @classmethod
    def _read(cls, data: bytes) -> Record:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(found, dict):
            return cls()
        remembered = found.get("remembered")
        counts = {key: _count(found.get(key)) for key in cls._fields[:-1]}
        return cls(**counts, remembered=remembered if isinstance(remembered, dict) else {})

    def format(self) -> bytes:
        """Return the record as it is stored."""
        return json.dumps({key: value for key, value in self._asdict().items() if value}).encode()

    def waited(self, now_ms: int) -> float:
        """Return the seconds since the first attempt ended."""
        return max(0.0, (now_ms - self.first_ms) / 1000) if self.first_ms else 0.0


def _count(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < MOST else 0


def arrived(record: Record, number: int) -> Record:
    """Return the record of a message whose delivery `number` came, with what happened before."""
    lost = number - 1 - record.attempts - record.releases
    if lost <= 0:
        return record
    certain = record.begun == number - 1
    doubtful = record.doubtful + lost - certain
    crashes = record.crashes
    if certain:  # then the first one, which has no record, was a crash, too
        crashes, doubtful = crashes + 1 + min(doubtful, 1), 0
    return record._replace(attempts=record.attempts + lost, crashes=crashes, doubtful=doubtful)


def begins(record: Record, number: int) -> Record:
    """Return the record that is stored before the attempt of delivery `number` begins."""
    return record._replace(begun=number)


def early(record: Record, now_ms: int) -> float:
    """Return for how many seconds a message that was delivered has to wait; 0: none."""
    left = record.due_ms - now_ms
    return left / 1000 if 0 < left <= record.delay_ms else 0.0


def failed(record: Record, now_ms: int, due_ms: int, *, crashed: bool) -> Record:
    """Return the record after an attempt that failed; the next one is due at a moment."""
    return record._replace(
        attempts=record.attempts + 1,
        crashes=record.crashes + crashed,
        first_ms=record.first_ms or now_ms,
        due_ms=due_ms,
        delay_ms=max(0, due_ms - now_ms),
    )


def released(record: Record) -> Record:
    """Return the record of a message that goes back without an attempt."""
    return record._replace(releases=record.releases + 1, begun=0)
