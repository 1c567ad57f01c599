"""The account of a run: what became of each entry, and how often.

Guarantees: `wrong` has each entry that was lost, doubled, mixed up with another one, or put among
the dead letters without a reason of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import nats.errors
from nats.js import api

from beyond_one_machine import handler
from beyond_one_machine.machines import STREAM, Place
from beyond_one_machine.nats_servers import Servers
from watcher.jetstream.open_client import OpenClient

AT_ONCE = 1000
LAST = 5.0  # seconds without a message after which there are no more


class Stored(NamedTuple):
    """One message of a stream."""

    entry: str
    key: str
    time: float  # seconds since the epoch, by the server
    reason: str  # of a dead letter


class Account(NamedTuple):
    """What is found at the end."""

    counts: dict[str, object]
    calls_per_entry: dict[int, int]  # calls of the handler -> entries
    attempts: dict[int, int]  # number of the attempt that had the effect -> entries
    wrong: dict[str, list[str]]


def stored_in(servers: Servers, stream: str) -> list[Stored]:
    """Return what is in a stream, the oldest first; without the contents."""

    async def read(client: OpenClient) -> list[Stored]:
        info = await client.context.stream_info(stream)
        if not info.state.messages:
            return []
        config = api.ConsumerConfig(
            ack_policy=api.AckPolicy.NONE, headers_only=True, inactive_threshold=60
        )
        pulled = await client.context.pull_subscribe(f"{stream}.>", stream=stream, config=config)
        found: list[Stored] = []
        while len(found) < info.state.messages:
            for message in await pulled.fetch(AT_ONCE, timeout=LAST):
                headers = message.headers or {}
                found.append(
                    Stored(
                        headers.get("Watcher-Entry", headers.get("watcher-entry", "?")),
                        headers.get("Watcher-Key", headers.get("watcher-key", "?")),
                        message.metadata.timestamp.timestamp(),
                        headers.get("Watcher-Reason", ""),
                    )
                )
        return found

    with contextlib.suppress(nats.errors.TimeoutError):
        return servers.call(read, 60.0)
    return []


def account_for(
    place: Place, servers: Servers, entries: Mapping[str, str], kills: Mapping[str, int]
) -> Account:
    """Compare what was written (name -> digest) with what is stored, called and done."""
    stored = stored_in(servers, STREAM)
    dead = stored_in(servers, f"{STREAM}-DEAD")
    calls = handler.read(place.calls)
    begun = Counter(call.entry for call in calls if call.end == "begun")
    effects = _effects(place.effects)
    done = Counter(entry for entry, _digest in effects.values())
    innocent = {name for name in entries if not name.startswith(handler.REJECTED)}
    ended = {call.entry: call.attempt for call in calls if call.end == "effect"}
    keys: dict[str, set[str]] = {}
    for name, key in [(one.entry, one.key) for one in stored] + [
        (call.entry, call.key) for call in calls
    ]:
        keys.setdefault(name, set()).add(key)
    times = Counter(one.entry for one in stored)
    buried = Counter(letter.entry for letter in dead)
    wrong = {
        "still in the queue": place.left(),
        "put away by the hand-off": place.put_away(),
        "not in the stream": sorted(set(entries) - set(times)),
        "twice in the stream": sorted(name for name, count in times.items() if count > 1),
        "in the stream, and never written": sorted(set(times) - set(entries)),
        "never handled": sorted(innocent - set(done)),
        "doubled under its key": sorted(name for name, count in done.items() if count > 1),
        "with other contents": sorted(
            name for name, digest in effects.values() if entries.get(name) != digest
        ),
        "under several keys": sorted(name for name, found in keys.items() if len(found) > 1),
        "innocent among the dead letters": sorted(
            f"{letter.entry}: {letter.reason}" for letter in dead if letter.entry in innocent
        ),
        "rejected, and not once among the dead letters": sorted(
            name for name in entries if name not in innocent and buried[name] != 1
        ),
    }
    return Account(
        {
            "entries": len(entries),
            "messages": len(stored),
            "effects": len(effects),
            "calls": sum(begun.values()),
            "dead letters": len(dead),
            **{f"kills of {name}": count for name, count in kills.items()},
        },
        dict(sorted(Counter(begun.values()).items())),
        dict(sorted(Counter(ended.values()).items())),
        {what: found for what, found in wrong.items() if found},
    )


def _effects(directory: str) -> dict[str, tuple[str, str]]:
    """Return the entry and the digest of each effect, by its key."""
    found = {}
    for name in os.listdir(directory):
        if "." in name:  # of a process that died before the link
            continue
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            entry, _, digest = file.read().rpartition(" ")
        found[name] = entry, digest
    return found
