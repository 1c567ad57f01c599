"""What the daemon and its worker processes say to each other: one JSON object a packet. PURE.

    to the worker     {"path": [...], "spec": "module:function", "memory": 536870912}    once
    from the worker   {"ready": true}  or  {"broken": "why it cannot be imported"}       once
    to the worker     an entry; its files' descriptors come with the packet
    from the worker   an outcome
    to the worker     end                       instead of waiting any longer, before a TERM

Bytes are written as the characters U+0000 to U+00FF. A worker runs the user's code, so what comes
from it is read as from a stranger, and bounded.
Fails: ValueError for a packet that is none of these.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from watcher.durations import LONGEST
from watcher.entry import Entry, Part
from watcher.handle.outcome import Outcome, Verdict

LARGEST = 1 << 20  # bytes of a packet, at most; a socket holds 208 KiB unless told otherwise
LONGEST_TEXT = 4096  # characters
END = b"end"


class Answer(NamedTuple):
    """An outcome, and what else a worker says."""

    outcome: Outcome
    damage: str | None = None  # why the entry could not be decoded, if it could not
    last: bool = False  # the worker ends now: another is to take the next entry


def hello(path: Sequence[object], spec: str, memory: int | None) -> bytes:
    """Say where to import from, what, and within how much memory."""
    return _pack(
        {"path": [part for part in path if isinstance(part, str)], "spec": spec, "memory": memory}
    )


def broken(data: bytes) -> str | None:
    """Read the answer to `hello`: None when the worker is ready, else why it never will be."""
    record = _record(data)
    if "broken" not in record:
        return None
    return str(record["broken"])[:LONGEST_TEXT]


def ready(why_not: str | None = None) -> bytes:
    """Answer `hello`."""
    return _pack({"ready": True} if why_not is None else {"broken": why_not[:LONGEST_TEXT]})


def errand(entry: Entry, cpu: float | None) -> bytes:
    """Hand over an entry; its parts' descriptors go with the packet, in their order."""
    parts = [
        (_text(part.name), part.ino, part.size, part.ctime_ns, part.mtime_ns, _text(part.own))
        for part in entry.parts
    ]
    return _pack(
        {
            "queue": entry.queue,
            "name": _text(os.fsencode(entry.name)),
            "directory": _text(os.path.dirname(os.fsencode(entry.path))),
            "parts": parts,
            "kind": entry.kind,
            "attempt": entry.attempt,
            "crashes": entry.crashes,
            "limit": entry.limit,
            "cpu": cpu,
        }
    )


def entry_of(data: bytes, fds: Sequence[int]) -> tuple[Entry, float | None]:
    """Read an entry, and the processor time that its handler may take."""
    record = _record(data)
    parts = tuple(
        Part(_bytes(name), fd, ino, size, ctime_ns, mtime_ns, own=_bytes(own))
        for fd, (name, ino, size, ctime_ns, mtime_ns, own) in zip(fds, record["parts"], strict=True)
    )
    entry = Entry(
        queue=record["queue"],
        name=_bytes(record["name"]),
        directory=_bytes(record["directory"]),
        parts=parts,
        kind=record["kind"],
        attempt=record["attempt"],
        crashes=record["crashes"],
        limit=record["limit"],
    )
    return entry, record["cpu"]


def answer(told: Answer) -> bytes:
    """Say what became of an entry."""
    outcome = told.outcome
    return _pack(
        {
            "verdict": outcome.verdict.value,
            "reason": outcome.reason[:LONGEST_TEXT],
            "after": outcome.after,
            "stderr": outcome.stderr[-LONGEST_TEXT:],
            "damage": told.damage and told.damage[:LONGEST_TEXT],
            "last": told.last,
        }
    )


def answer_of(data: bytes) -> Answer:
    """Read what became of an entry."""
    record = _record(data)
    after = record.get("after")
    if after is not None and not (type(after) is float and 0 <= after <= LONGEST):
        raise ValueError("an `after` that is no number of seconds")
    texts = [record.get(key) for key in ("reason", "stderr", "damage")]
    if not all(isinstance(text, str) or text is None for text in texts):
        raise ValueError("a text that is none")
    reason, stderr, damage = texts
    outcome = Outcome(
        Verdict(record.get("verdict")),
        (reason or "")[:LONGEST_TEXT],
        after,
        (stderr or "")[-LONGEST_TEXT:],
    )
    if damage is not None:
        damage = damage[:LONGEST_TEXT]
    return Answer(outcome, damage, bool(record.get("last")))


def _pack(record: dict[str, object]) -> bytes:
    return json.dumps(record).encode("ascii")


def _record(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("no object")  # noqa: TRY004 - a ValueError as all that is wrong here
    return record


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
