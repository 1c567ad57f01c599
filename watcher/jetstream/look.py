"""A look at a server and a stream, as findings for an operator.

Fails: `target_findings` never: what goes wrong is a finding. `looked` raises what `Connection.call`
does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from watcher.errors import BadConfiguration, one_line
from watcher.jetstream.api_errors import said
from watcher.jetstream.connection import Connection, Unreachable
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.server_settings import ServerSettings
from watcher.jetstream.stream_setup import CONSUMER, DEAD, age_of, plain
from watcher.rules.finding import BAD, Check
from watcher.rules.handled_messages import KEY, REMOVE
from watcher.rules.stream_rules import ConsumerFacts, Facts, ServerFacts, StreamFacts, findings

LOOK = 5.0  # seconds for a look
READ = 2.0  # seconds for one message


class Expected(NamedTuple):
    """What the users of a stream need of it."""

    outage: float  # the longest that is to be survived, in seconds
    subjects: Sequence[str] = ()  # that entries are published under, with `*` for what differs
    monitor: str = ""  # the URLs of the servers' monitoring pages, with commas between them
    largest: int = 0  # bytes of the largest entry; 0: not known


def target_findings(
    server: ServerSettings, place: str, stream: str, expected: Expected
) -> Iterator[Check]:
    """Yield what is found of a server and a stream; `place` names the options in messages."""
    try:
        access = server.access(place)
    except BadConfiguration as error:
        yield Check(BAD, "server", str(error), error.exit_code)
        return
    connection = Connection(lambda: access)
    try:
        facts = looked(connection, stream, expected)
    except Unreachable as error:
        code = os.EX_CONFIG if error.refused else os.EX_UNAVAILABLE
        yield Check(BAD, "server", str(error), code)
    except APIError as error:
        yield Check(BAD, "server", f"{server.shown}: {said(error)}")
    except (OSError, nats.errors.Error) as error:
        words = "no answer in time" if isinstance(error, TimeoutError) else one_line(str(error))
        yield Check(BAD, "server", f"{server.shown}: {words}")
    else:
        if facts is None:
            what = f"{stream}: there is no such stream; `watcher nats init` makes it"
            yield Check(BAD, "stream", what)
        else:
            yield from findings(facts)
    finally:
        connection.close()


def looked(connection: Connection, name: str, expected: Expected) -> Facts | None:
    """Return what is known of a stream; None if it does not exist. Any thread may call it."""
    sync, why = sync_of(expected.monitor)
    facts = connection.call(lambda client: _look(client, name, expected), 2 * LOOK)
    return facts and facts._replace(server=facts.server._replace(sync=sync, no_sync=why))


async def _look(client: OpenClient, name: str, expected: Expected) -> Facts | None:
    context = client.context
    try:
        info = await context.stream_info(name)
    except NotFoundError:
        return None
    dead = None
    with contextlib.suppress(NotFoundError):
        dead = _stream_facts(await context.stream_info(name + DEAD))
    cluster = info.cluster
    servers = 1 if cluster is None or not cluster.name else len(cluster.replicas or ()) + 1
    version = client.connected_server_version
    if cluster is not None and cluster.name:
        servers = max(servers, len(client.servers))
    return Facts(
        ServerFacts((version.major, version.minor, version.patch), client.max_payload, servers),
        _stream_facts(info),
        expected.outage,
        tuple(expected.subjects),
        expected.largest,
        await _consumer_facts(client, name, info),
        dead,
    )


def _stream_facts(info: api.StreamInfo) -> StreamFacts:
    config, state = info.config, info.state
    return StreamFacts(
        str(config.name),
        tuple(config.subjects or ()),
        plain(config.retention) or "limits",
        plain(config.storage) or "file",
        config.num_replicas or 1,
        plain(config.discard) != "new",
        config.max_age or 0.0,
        config.duplicate_window or 0.0,
        max(0, config.max_bytes or 0),
        max(0, config.max_msgs or 0),
        max(0, config.max_msg_size or 0),
        state.bytes,
        state.messages,
        not config.no_ack,
        bool(config.sealed),
        config.mirror.name if config.mirror is not None else "",
        max(0, config.max_msgs_per_subject or 0),
        (config.metadata or {}).get(KEY) == REMOVE,
        state.consumer_count,
    )


async def _consumer_facts(
    client: OpenClient, name: str, info: api.StreamInfo
) -> ConsumerFacts | None:
    try:
        found = await client.context.consumer_info(name, CONSUMER)
    except NotFoundError:
        return None
    config = found.config
    floor = found.ack_floor.stream_seq if found.ack_floor is not None else 0
    pending, on_the_way = found.num_pending or 0, found.num_ack_pending or 0
    oldest = None
    if pending or on_the_way:
        with contextlib.suppress(TimeoutError):  # a user that may not read gets no answer
            async with asyncio.timeout(READ):
                oldest = await age_of(client, name, max(floor + 1, info.state.first_seq))
    return ConsumerFacts(
        CONSUMER,
        pending,
        oldest,
        on_the_way,
        max(0, config.max_ack_pending or 0),
        max(0, config.max_deliver or 0),
        plain(config.ack_policy) == "explicit",
        bool(found.paused),
        bool(config.deliver_subject),
        tuple(config.filter_subjects or filter(None, [config.filter_subject])),
        bool(config.headers_only),
        bool(config.mem_storage),
        config.inactive_threshold or 0.0,
    )


def sync_of(monitor: str) -> tuple[float | None, str]:
    """Return the longest time between two syncs, as the monitoring pages of the servers say.

    0: always; None: not known, and then why.
    """
    longest = None
    for url in filter(None, map(str.strip, monitor.split(","))):
        try:
            found = _sync_of_one(url)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
            words = getattr(reason, "strerror", None) or reason or "it says nothing of JetStream"
            return None, f"{url}: {one_line(str(words))}"
        longest = max(longest or 0.0, found)
    return longest, ""


def _sync_of_one(url: str) -> float:
    if not url.startswith(("http://", "https://")):
        raise ValueError
    with urllib.request.urlopen(f"{url.rstrip('/')}/varz", timeout=LOOK) as page:  # noqa: S310 - http or https
        config = json.loads(page.read(1 << 20))["jetstream"]["config"]
    return 0.0 if config.get("sync_always") else float(config["sync_interval"]) / 1e9
