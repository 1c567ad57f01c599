"""The streams of one name on a server, as `watcher nats init` makes them.

    NAME            the entries; Limits, so that the server knows a message by its id for the window
    NAME-DEAD       dead letters: what no attempt can or will succeed with, without an age limit
    NAME-STATE      one small message for each entry that was tried and is not done yet
    consumer `watcher` of NAME   which entries are handled; shared by all workers

Guarantees: nothing that exists is changed unless that is asked for, and then no message is removed,
and no subject is taken from a stream. A setting that was not asked for, and that breaks no promise,
is left as its operator chose it.
Fails: what `Connection.call` raises; APIError of nats-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from watcher.durations import show
from watcher.jetstream.api_errors import said
from watcher.jetstream.open_client import OpenClient
from watcher.rules import handled_messages
from watcher.rules.stream_rules import covers

CONSUMER = "watcher"
DEAD, STATE = "-DEAD", "-STATE"
ACK_WAIT = 30.0  # seconds; workers renew it while a handler runs
MOST_ON_THE_WAY = 10_000  # max_ack_pending
WINDOW = 7200.0  # seconds
MAX_AGE = 30 * 86400.0  # seconds
LEADER, AGAIN = 12.0, 0.2  # seconds for a cluster to elect its leader, and between two looks
NO_LEADER = 10008  # the error code of a cluster without a leader


class Wanted(NamedTuple):
    """The streams that `init` makes; times in seconds, sizes in bytes, 0: no limit.

    `asked`: the settings, by the server's names for them, that the operator named; of the others an
    existing stream may have its own.
    """

    name: str
    subjects: tuple[str, ...]
    replicas: int = 1
    window: float = WINDOW
    max_age: float = MAX_AGE
    max_bytes: int = 0
    max_message: int = 0
    on_the_way: int = MOST_ON_THE_WAY
    handled: str = handled_messages.REMOVE  # or KEEP
    asked: frozenset[str] = frozenset()


class Difference(NamedTuple):
    """One setting of an existing stream or consumer that is not as wanted."""

    where: str
    what: str
    now: object
    wanted: object
    why: str = ""  # why it cannot be changed


def configurations(wanted: Wanted) -> list[api.StreamConfig]:
    """Return the streams as they are to be."""
    common: dict[str, Any] = {
        "retention": api.RetentionPolicy.LIMITS,
        "storage": api.StorageType.FILE,
        "num_replicas": wanted.replicas,
        "discard": api.DiscardPolicy.NEW,
        "max_msgs": -1,
        "max_msg_size": wanted.max_message or -1,
        "allow_direct": True,
    }
    return [
        api.StreamConfig(
            name=wanted.name,
            subjects=list(wanted.subjects),
            max_age=wanted.max_age,
            max_bytes=wanted.max_bytes or -1,
            duplicate_window=wanted.window,
            description="entries handed over by watcher",
            metadata={handled_messages.KEY: wanted.handled},
            **common,
        ),
        api.StreamConfig(
            name=wanted.name + DEAD,
            subjects=[f"{wanted.name}{DEAD}.>"],
            duplicate_window=wanted.window,
            description="dead letters of watcher work",
            **common,
        ),
        api.StreamConfig(
            name=wanted.name + STATE,
            subjects=[f"{wanted.name}{STATE}.>"],
            max_age=wanted.max_age,
            max_msgs_per_subject=1,
            description="attempts of watcher work at entries that are not done",
            **common | {"max_msg_size": -1},
        ),
    ]


def consumer_configuration(on_the_way: int = MOST_ON_THE_WAY) -> api.ConsumerConfig:
    """Return the consumer as it is to be."""
    return api.ConsumerConfig(
        durable_name=CONSUMER,
        ack_policy=api.AckPolicy.EXPLICIT,
        deliver_policy=api.DeliverPolicy.ALL,
        ack_wait=ACK_WAIT,
        max_deliver=-1,
        max_ack_pending=on_the_way,
    )


class Made(NamedTuple):
    """What `init` did, or would do: names that it made, left and changed, and what differs."""

    made: list[str]
    there: list[str]
    changed: list[str]
    differences: list[Difference]


class Orders(NamedTuple):
    """Whether what differs is changed, and whether this only says what it would do."""

    update: bool = False
    dry_run: bool = False


LEAVE = Orders()


async def make(client: OpenClient, wanted: Wanted, orders: Orders = LEAVE) -> Made:
    """Make what is missing, and change what differs if that is asked for."""
    result = Made([], [], [], [])
    for config in configurations(wanted):
        await _make_stream(client, config, wanted.asked, orders, result)
    await _make_consumer(client, wanted, orders, result)
    return result


async def _stream_info(client: OpenClient, name: str) -> api.StreamInfo:
    """Return what a stream is now; raise NotFoundError, and what the request raises.

    Servers of a cluster that have just started have no leader yet, and do not answer, or say so.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LEADER
    while True:
        try:
            return await client.context.stream_info(name)
        except (nats.errors.TimeoutError, ServiceUnavailableError) as error:
            final = isinstance(error, APIError) and error.err_code != NO_LEADER
            if final or loop.time() > deadline:
                raise
            await asyncio.sleep(AGAIN)


async def _make_stream(
    client: OpenClient,
    config: api.StreamConfig,
    asked: frozenset[str],
    orders: Orders,
    result: Made,
) -> None:
    name = str(config.name)
    try:
        info = await _stream_info(client, name)
    except NotFoundError:
        if not orders.dry_run:
            await client.context.add_stream(config)
        result.made.append(name)
        return
    differing = []
    for one in _differences(info.config, config, asked):
        why = await _obstacle(client, info, one) if orders.update else ""
        differing.append(one._replace(why=why))
    changes = {one.what: getattr(config, one.what) for one in differing if not one.why}
    if not changes or not orders.update:
        result.there.append(name)
        result.differences.extend(differing)
        return
    if "subjects" in changes:
        changes["subjects"] = _joined(info.config.subjects or [], changes["subjects"])
    if "metadata" in changes:
        changes["metadata"] = (info.config.metadata or {}) | changes["metadata"]
    result.differences.extend(one for one in differing if one.why)
    try:
        if not orders.dry_run:
            await client.context.update_stream(info.config.evolve(**changes))
    except APIError as error:
        refused = (one._replace(why=said(error)) for one in differing if not one.why)
        result.differences.extend(refused)
        result.there.append(name)
    else:
        result.changed.append(name)


async def _make_consumer(client: OpenClient, wanted: Wanted, orders: Orders, result: Made) -> None:
    where = f"{wanted.name}, consumer {CONSUMER}"
    config = consumer_configuration(wanted.on_the_way)
    try:
        now = (await client.context.consumer_info(wanted.name, CONSUMER)).config
    except NotFoundError:
        if not orders.dry_run:
            await client.context.add_consumer(wanted.name, config)
        result.made.append(where)
        return
    differing = [
        Difference(where, key, plain(getattr(now, key)), plain(getattr(config, key)))
        for key in ("ack_policy", "max_deliver", "max_ack_pending")
        if key != "max_ack_pending" or key in wanted.asked
        if plain(getattr(now, key)) != plain(getattr(config, key))
    ]
    if not differing or not orders.update:
        result.there.append(where)
        result.differences.extend(differing)
        return
    changes = {one.what: getattr(config, one.what) for one in differing}
    try:
        if not orders.dry_run:
            await client.context.add_consumer(wanted.name, now.evolve(**changes))
    except APIError as error:
        result.there.append(where)
        result.differences.extend(one._replace(why=said(error)) for one in differing)
    else:
        result.changed.append(where)


_SIZES = ("max_bytes", "max_msg_size")
_COMPARED = ("retention", "storage", "num_replicas", "discard", "max_age", *_SIZES)
_IF_ASKED = frozenset({"num_replicas", "max_age", *_SIZES})


def _differences(
    now: api.StreamConfig, wanted: api.StreamConfig, asked: frozenset[str]
) -> Iterator[Difference]:
    name = str(wanted.name)
    there = tuple(now.subjects or ())
    missing = [one for one in wanted.subjects or () if not any(covers(has, one) for has in there)]
    if missing:
        yield Difference(name, "subjects", there, tuple(missing))
    for key in _COMPARED:
        is_now, is_wanted = plain(getattr(now, key)), plain(getattr(wanted, key))
        without_age = key == "max_age" and is_wanted is None  # dead letters stay
        if key in _IF_ASKED - asked and not without_age:
            continue
        if is_now != is_wanted and not (key in _SIZES and is_wanted is None):
            yield Difference(name, key, is_now, is_wanted)
    if plain(now.max_msgs_per_subject) and not plain(wanted.max_msgs_per_subject):
        yield Difference(name, "max_msgs_per_subject", now.max_msgs_per_subject, None)
    key = handled_messages.KEY
    is_now, is_wanted = (now.metadata or {}).get(key), (wanted.metadata or {}).get(key)
    if "metadata" in asked and is_now != is_wanted and is_wanted is not None:
        yield Difference(name, "metadata", f"{key}={is_now}", f"{key}={is_wanted}")
    window, least = now.duplicate_window or 0.0, wanted.duplicate_window or 0.0
    if window < least or (window > least > 0 and "duplicate_window" in asked):
        yield Difference(name, "duplicate_window", window, least)


async def _obstacle(client: OpenClient, info: api.StreamInfo, one: Difference) -> str:
    """Return why a setting of a stream cannot be changed without a loss, or at all."""
    if one.what == "storage" or (one.what == "retention" and one.now == "workqueue"):
        return "no server changes that: make a stream of another name, and let this one run dry"
    if one.what == "max_age" and isinstance(one.wanted, float):
        oldest = await age_of(client, str(info.config.name), info.state.first_seq)
        if oldest is not None and oldest >= one.wanted:
            return f"that would remove messages: the oldest is {show(round(oldest))} old"
    if one.what == "max_bytes" and isinstance(one.wanted, int) and info.state.bytes > one.wanted:
        return f"it has {info.state.bytes} bytes already"
    return ""


def _joined(now: list[str], more: list[str]) -> list[str]:
    """Return the subjects of now with more of them; one that another one covers is left out."""
    return [one for one in now if not any(covers(each, one) for each in more)] + [
        one for one in more if not any(covers(each, one) for each in now)
    ]


async def age_of(client: OpenClient, stream: str, number: int) -> float | None:
    """Return how old the first message from a number on is, in seconds; None if there is none."""
    with contextlib.suppress(NotFoundError):
        message = await client.context.get_msg(stream, seq=number, next=True, subject=">")
        if message.time is not None:
            return max(0.0, time.time() - message.time.timestamp())
    return None


def plain(value: Any) -> Any:
    """Return a setting as it is compared: none and no limit are alike."""
    if isinstance(value, list):
        return tuple(value)
    value = getattr(value, "value", value)
    return None if value in (None, -1, 0) else value
