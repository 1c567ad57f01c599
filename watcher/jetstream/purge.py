"""Removes from a stream what is handled and older than the duplicate window.

Each `watcher work` does this for its stream: from any of them a purge is the same, so they need not
agree on one. The rule is `rules.handled_messages`.

    a look    the stream, its consumer, and the age of the first message: three requests
    a purge   a search for the last message that is old enough, one request for each halving; the
              stream and its consumer once more; the purge

Guarantees: only messages below the consumer's floor go, and only if no other consumer is there.
Ages are told by the server's clock. After the last handled message is removed, nothing is asked
until another one is handled; looks are never closer than `pace`.
Fails: never; `on_trouble` is told what is wrong, and it is tried again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import nats.errors
from nats.js.errors import APIError, NotFoundError

from watcher.errors import BadConfiguration, one_line
from watcher.jetstream.api_errors import said
from watcher.jetstream.connection import Connect, Unreachable
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import CONSUMER
from watcher.rules.handled_messages import (
    KEY,
    MOST,
    REMOVE,
    Keeping,
    Search,
    kept_for,
    next_look,
    pace,
    why_not,
)

ANSWER = 10.0  # seconds for one answer
_NO_MESSAGE = 10037  # JSNoMessageFoundErr


class _Looked(NamedTuple):
    keeping: Keeping
    now: float  # of the server, in seconds since the epoch
    made: str  # when the stream was made


class Purger:
    """Purges one stream. `ended` is set when a message was handled; all is in the loop's thread."""

    def __init__(
        self, stream: str, ended: asyncio.Event, on_trouble: Callable[[str | None], None]
    ) -> None:
        self._stream = stream
        self._ended = ended
        self._on_trouble = on_trouble

    async def run(self, connect: Connect) -> None:
        """Purge until it is cancelled; `connect` returns the open connection."""
        while True:
            self._ended.clear()
            wait: float | None = MOST
            try:
                wait, least = await self.look(await connect())
                self._on_trouble(None)
            except (Unreachable, BadConfiguration, NotFoundError):
                least = MOST  # the puller says so
            except APIError as error:
                least = MOST
                self._on_trouble(f"{self._stream}: handled messages stay: {said(error)}")
            except (OSError, ValueError, KeyError, TypeError, nats.errors.Error) as error:
                least = MOST
                why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                self._on_trouble(f"{self._stream}: handled messages stay: {one_line(why)}")
            if wait is None:
                await self._ended.wait()
                wait = 0.0
            await asyncio.sleep(max(wait, least))

    async def look(self, client: OpenClient) -> tuple[float | None, float]:
        """Remove what is old enough; return when to look again, and the least time until then.

        None: nothing that is handled is left to remove.
        """
        keeping, now, made = await self._looked(client)
        least = pace(keeping.window)
        if why_not(keeping) or keeping.first > keeping.floor:
            return None, least
        first, born = await self._message(client, keeping.first)
        if (wait := next_look(keeping._replace(first=first), now - born)) is None or wait > 0:
            return wait, least
        search = Search(first, keeping.floor)
        while (asked := search.middle()) is not None:
            number, born = await self._message(client, asked)
            search.learn(asked, number, is_old=now - born >= kept_for(keeping.window))
        again = await self._looked(client)  # the stream may have been made anew meanwhile
        if again.made == made and not why_not(again.keeping):
            last = min(search.found, again.keeping.floor)
            await self._ask(client, f"STREAM.PURGE.{self._stream}", {"seq": last + 1})
        return (None if search.found >= keeping.floor else 0.0), least

    async def _looked(self, client: OpenClient) -> _Looked:
        stream = await self._ask(client, f"STREAM.INFO.{self._stream}")
        consumer = await self._ask(client, f"CONSUMER.INFO.{self._stream}.{CONSUMER}")
        config, state, own = stream["config"], stream["state"], consumer["config"]
        keeping = Keeping(
            removes=(config.get("metadata") or {}).get(KEY) == REMOVE,
            consumers=state["consumer_count"],
            every_message=(
                own["ack_policy"] == "explicit"
                and own["deliver_policy"] == "all"
                and own.get("max_deliver", -1) <= 0
                and not (own.get("filter_subject") or own.get("filter_subjects"))
            ),
            window=config["duplicate_window"] / 1e9,
            first=state["first_seq"],
            floor=consumer["ack_floor"]["stream_seq"],
        )
        return _Looked(keeping, _seconds(stream["ts"]), stream["created"])

    async def _message(self, client: OpenClient, number: int) -> tuple[int, float]:
        """Return the first message from a number on: its number, and when it was stored.

        Where none is left, it is one that comes after all others.
        """
        request = {"seq": number, "next_by_subj": ">"}
        try:
            found = await self._ask(client, f"STREAM.MSG.GET.{self._stream}", request)
        except NotFoundError as error:
            if error.err_code != _NO_MESSAGE:
                raise
            return 1 << 63, float("inf")
        return found["message"]["seq"], _seconds(found["message"]["time"])

    async def _ask(
        self, client: OpenClient, what: str, request: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Ask the server; return its answer, or raise APIError."""
        body = b"" if request is None else json.dumps(request).encode()
        async with asyncio.timeout(ANSWER):
            answer = await (await client.replies.send(f"$JS.API.{what}", body))
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise APIError.from_error(found["error"])
        return found


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
