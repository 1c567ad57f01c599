"""The messages between the daemon and a worker process: one JSON object a packet. PURE.

    to the worker     Init: where to import from, what, and within how much memory       once
    from the worker   Started: ready, or why the function cannot be imported             once
    to the worker     Request: an entry; its files' descriptors go with the packet, in order, and
                      one for standard error
    from the worker   Response: the handler's result
    to the worker     end: the daemon waits no longer; a TERM follows

Bytes are base64, and text may hold lone surrogates: `json` writes these, msgspec alone does not.
A worker runs the user's code, so what comes from it is checked and cut.
Fails: ValueError for a packet that is not what is expected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from watcher.durations import LONGEST
from watcher.handle.entry import Entry
from watcher.rules.form import Form
from watcher.rules.results import HandlerResult
from watcher.spool.part import Part

LARGEST = 1 << 20  # bytes of a packet, at most; a socket holds 208 KiB unless set otherwise
LONGEST_TEXT = 4096  # characters
END = b"end"
Message = TypeVar("Message", bound=msgspec.Struct)


class Init(msgspec.Struct):
    """Where to import from, what, and within how much memory (bytes of address space)."""

    path: list[str]
    spec: str
    memory: int | None
    in_list: bool = False  # the function is called with a list of one entry


class Started(msgspec.Struct):
    """The reply to `Init`: `broken` says why the function cannot be imported, None if it can."""

    broken: str | None


class Described(msgspec.Struct):
    """What the file of an entry does not say, because it is a copy of a message."""

    key: str
    metadata: dict[str, object]
    remembered: dict[str, object]


class Request(msgspec.Struct):
    """An entry. The fields are those of `Entry`; a part's descriptors have no meaning there."""

    queue: str
    name: bytes
    directory: bytes
    parts: tuple[Part, ...]
    form: Form
    attempt: int
    crashes: int
    limit: int
    is_unique_name: bool
    identity: int
    key_name: bytes
    cpu: float | None  # seconds of processor time that the handler may take
    described: Described | None = None

    def entry(self, fds: Sequence[int]) -> Entry:
        """Return the entry, to be read through the descriptors that came with the packet."""
        together = zip(self.parts, fds, strict=True)
        parts = tuple(part._replace(fd=fd, directory=None) for part, fd in together)
        facts = msgspec.structs.asdict(self) | {"parts": parts}
        del facts["cpu"], facts["described"]
        entry = Entry(**facts)
        entry.lent = True  # by the daemon, which knows what it claimed
        if (said := self.described) is not None:
            entry.describe(
                queue=self.queue,
                key=said.key,
                metadata=said.metadata,
                attempt=self.attempt,
                crashes=self.crashes,
                remembered=said.remembered,
            )
        return entry


class Response(msgspec.Struct):
    """The handler's result, and what else the worker says."""

    result: HandlerResult
    damage: str | None = None  # why the entry could not be decoded, if it could not
    last: bool = False  # the worker ends now: the next entry needs another one


def request(entry: Entry, cpu: float | None) -> bytes:
    """Return the packet for an entry; its parts' descriptors are to go with it."""
    return pack(
        Request(
            queue=entry.queue,
            name=os.fsencode(entry.name),
            directory=os.path.dirname(os.fsencode(entry.path)),
            parts=entry.parts,
            form=entry.form,
            attempt=entry.attempt,
            crashes=entry.crashes,
            limit=entry.limit,
            is_unique_name=entry.is_unique_name,
            identity=entry.identity,
            key_name=entry.key_name,
            cpu=cpu,
            described=Described(entry.key, entry.metadata, entry.remembered)
            if entry.is_described
            else None,
        )
    )


def response(reply: Response) -> bytes:
    """Return the packet for a response, its texts cut."""
    return pack(_cut(reply))


def read_response(data: bytes) -> Response:
    """Read a response, of which only what a handler may say is taken; raise ValueError."""
    reply = _cut(read(data, Response))
    result = reply.result
    if result.after is not None and not 0 <= result.after <= LONGEST:
        raise ValueError("an `after` that is no number of seconds")
    said = HandlerResult(result.verdict, result.reason, result.after, result.stderr)
    return Response(said, reply.damage, reply.last)


def _cut(reply: Response) -> Response:
    result = replace(
        reply.result,
        reason=reply.result.reason[:LONGEST_TEXT],
        stderr=reply.result.stderr[-LONGEST_TEXT:],
    )
    return Response(result, reply.damage and reply.damage[:LONGEST_TEXT], reply.last)


def pack(message: msgspec.Struct) -> bytes:
    """Return the packet for a message."""
    return json.dumps(msgspec.to_builtins(message)).encode("ascii")


def read(data: bytes, kind: type[Message]) -> Message:
    """Read a packet that must be a message of one kind; raise ValueError."""
    try:
        return msgspec.convert(json.loads(data), kind)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
