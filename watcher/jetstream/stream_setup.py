"""The streams of one name on a server: made by `init`, looked at by `check`.

    NAME            the entries; Limits, so that the server knows a message by its id for the window
    NAME-DEAD       dead letters: what no attempt can or will succeed with, without an age limit
    NAME-STATE      one small message for each entry that was tried and is not done yet
    consumer `watcher` of NAME   which entries are handled; shared by all workers

Guarantees: nothing that exists is changed unless that is asked for, and no message is removed.
Fails: what `Connection.call` raises; APIError of nats-py in `ApiTrouble`.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from nats.js import api
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from watcher.errors import one_line
from watcher.jetstream.connection import Connection, OpenClient
from watcher.rules.stream_rules import ConsumerFacts, Facts, ServerFacts, StreamFacts

CONSUMER = "watcher"
DEAD, STATE = "-DEAD", "-STATE"
ACK_WAIT = 30.0  # seconds; workers renew it while a handler runs
MOST_ON_THE_WAY = 10_000  # max_ack_pending
LOOK = 5.0  # seconds for a look


class Wanted(NamedTuple):
    """The streams that `init` makes; times in seconds, sizes in bytes, 0: no limit."""

    name: str
    subjects: tuple[str, ...]
    replicas: int = 1
    window: float = 7200.0
    max_age: float = 30 * 86400.0
    max_bytes: int = 0
    max_message: int = 0


class Difference(NamedTuple):
    """One setting of an existing stream or consumer that is not as wanted."""

    where: str
    what: str
    now: object
    wanted: object


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
            **common,
        ),
        api.StreamConfig(
            name=wanted.name + DEAD,
            subjects=[f"{wanted.name}{DEAD}.>"],
            duplicate_window=min(wanted.window, wanted.max_age or wanted.window),
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


def consumer_configuration() -> api.ConsumerConfig:
    """Return the consumer as it is to be."""
    return api.ConsumerConfig(
        durable_name=CONSUMER,
        ack_policy=api.AckPolicy.EXPLICIT,
        deliver_policy=api.DeliverPolicy.ALL,
        ack_wait=ACK_WAIT,
        max_deliver=-1,
        max_ack_pending=MOST_ON_THE_WAY,
    )


class Made(NamedTuple):
    """What `init` did: names that it made, that were there, and what differs there."""

    made: list[str]
    there: list[str]
    changed: list[str]
    differences: list[Difference]


async def make(client: OpenClient, wanted: Wanted, *, update: bool) -> Made:
    """Make what is missing; with `update` change what differs."""
    result = Made([], [], [], [])
    for config in configurations(wanted):
        name = str(config.name)
        try:
            info = await client.context.stream_info(name)
        except NotFoundError:
            await client.context.add_stream(config)
            result.made.append(name)
            continue
        differing = list(_differences(name, info.config, config))
        if differing and update:
            await client.context.update_stream(_merged(info.config, config))
            result.changed.append(name)
        else:
            result.there.append(name)
            result.differences.extend(differing)
    where = f"{wanted.name}, consumer {CONSUMER}"
    try:
        found = await client.context.consumer_info(wanted.name, CONSUMER)
    except NotFoundError:
        await client.context.add_consumer(wanted.name, consumer_configuration())
        result.made.append(where)
    else:
        config_now, consumer = found.config, consumer_configuration()
        differing = [
            Difference(where, key, _plain(getattr(config_now, key)), _plain(getattr(consumer, key)))
            for key in ("ack_policy", "ack_wait", "max_deliver", "max_ack_pending")
            if _plain(getattr(config_now, key)) != _plain(getattr(consumer, key))
        ]
        if differing and update:
            await client.context.add_consumer(wanted.name, consumer)
            result.changed.append(where)
        else:
            result.there.append(where)
            result.differences.extend(differing)
    return result


_COMPARED = (
    *("subjects", "retention", "storage", "num_replicas", "discard", "max_age", "max_bytes"),
    *("max_msgs", "max_msg_size", "max_msgs_per_subject", "duplicate_window", "allow_direct"),
)


def _differences(
    name: str, now: api.StreamConfig, wanted: api.StreamConfig
) -> Iterator[Difference]:
    for key in _COMPARED:
        there, here = _plain(getattr(now, key)), _plain(getattr(wanted, key))
        if key == "duplicate_window" and not here:
            continue  # the server's own
        if there != here:
            yield Difference(name, key, there, here)


def _merged(now: api.StreamConfig, wanted: api.StreamConfig) -> api.StreamConfig:
    """Return the settings of now with those that watcher compares."""
    changes = {key: getattr(wanted, key) for key in _COMPARED if getattr(wanted, key) is not None}
    if not changes["duplicate_window"]:
        del changes["duplicate_window"]
    return now.evolve(**changes)


def _plain(value: Any) -> Any:
    """Return a setting as it is compared: none and no limit are alike."""
    if isinstance(value, list):
        return tuple(value)
    value = getattr(value, "value", value)
    return None if value in (None, -1, 0) else value


# -- a look --------------------------------------------------------------------------------------


async def look(
    client: OpenClient, name: str, *, outage: float, subject: str, largest: int, monitor: str
) -> Facts | None:
    """Return what is known of a stream; None if it does not exist."""
    context = client.context
    try:
        info = await context.stream_info(name)
    except NotFoundError:
        return None
    dead = None
    with contextlib.suppress(NotFoundError):
        dead = stream_facts(await context.stream_info(name + DEAD))
    cluster = info.cluster
    servers = 1 if cluster is None or not cluster.name else len(cluster.replicas or ()) + 1
    version = client.connected_server_version
    if cluster is not None and cluster.name:
        servers = max(servers, len(client.servers))
    return Facts(
        ServerFacts(
            (version.major, version.minor, version.patch),
            client.max_payload,
            servers,
            sync_of(monitor) if monitor else None,
        ),
        stream_facts(info),
        outage,
        subject,
        largest,
        await _consumer_facts(client, name, info),
        dead,
    )


def stream_facts(info: api.StreamInfo) -> StreamFacts:
    """Return a stream as the rules know it."""
    config, state = info.config, info.state
    return StreamFacts(
        str(config.name),
        tuple(config.subjects or ()),
        _plain(config.retention) or "limits",
        _plain(config.storage) or "file",
        config.num_replicas or 1,
        _plain(config.discard) != "new",
        config.max_age or 0.0,
        config.duplicate_window or 0.0,
        max(0, config.max_bytes or 0),
        max(0, config.max_msgs or 0),
        max(0, config.max_msg_size or 0),
        state.bytes,
        state.messages,
        not config.no_ack,
        config.sealed,
        config.mirror.name if config.mirror is not None else "",
    )


async def _consumer_facts(
    client: OpenClient, name: str, info: api.StreamInfo
) -> ConsumerFacts | None:
    try:
        found = await client.context.consumer_info(name, CONSUMER)
    except NotFoundError:
        return None
    floor = found.ack_floor.stream_seq if found.ack_floor is not None else 0
    pending, on_the_way = found.num_pending or 0, found.num_ack_pending or 0
    oldest = None
    if pending or on_the_way:
        first = max(floor + 1, info.state.first_seq)
        with contextlib.suppress(NotFoundError):
            message = await client.context.get_msg(name, seq=first, next=True, subject=">")
            if message.time is not None:
                oldest = max(0.0, time.time() - message.time.timestamp())
    return ConsumerFacts(
        CONSUMER,
        pending,
        oldest,
        on_the_way,
        max(0, found.config.max_ack_pending or 0),
        max(0, found.config.max_deliver or 0),
        _plain(found.config.ack_policy) == "explicit",
    )


def sync_of(monitor: str) -> float | None:
    """Return the seconds between two syncs, as the monitoring page of a server says; 0: always."""
    if urlsplit(monitor).scheme not in ("http", "https"):
        return None
    try:
        with urllib.request.urlopen(f"{monitor.rstrip('/')}/varz", timeout=LOOK) as page:  # noqa: S310 - http or https
            config = json.loads(page.read(1 << 20))["jetstream"]["config"]
        return 0.0 if config.get("sync_always") else float(config["sync_interval"]) / 1e9
    except (OSError, ValueError, KeyError, TypeError):
        return None


def said(error: APIError) -> str:
    """Return an error of the server in words."""
    if isinstance(error, ServiceUnavailableError):
        return "JetStream is not available there: not enabled, or without a leader now"
    return one_line(str(error.description or error))


def looked(
    connection: Connection,
    name: str,
    *,
    outage: float,
    subject: str = "",
    largest: int = 0,
    monitor: str = "",
) -> Facts | None:
    """Return what `look` does, from any thread."""
    return connection.call(
        lambda client: look(
            client, name, outage=outage, subject=subject, largest=largest, monitor=monitor
        ),
        2 * LOOK,
    )
