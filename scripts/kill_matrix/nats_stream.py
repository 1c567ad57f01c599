"""A NATS server and a stream: the target of the handler `nats`, and what `watcher work` handles.

Guarantees: a message counts as delivered only with the key, the name and the metadata of its entry.
Fails: NoServer if no nats-server is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping

from nats.js.errors import NotFoundError

from beyond_one_machine.nats_servers import NatsServer, Servers
from kill_matrix import victim
from kill_matrix.servers import Delivery, digest_of
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import Wanted, make

STREAM = "MAIL"
_SUBJECT = re.compile(rb"Subject: (.*)")
_running: dict[str, Servers] = {}  # by the directory of the run


@contextlib.contextmanager
def serve(root: str) -> Iterator[None]:
    """Run a server with the streams of `watcher nats init`; `url_of` says where."""
    servers = Servers(os.path.join(root, "nats"))
    _running[root] = servers
    try:
        servers.start()
        victim.BESIDE.update(process_of(member) for member in servers.members)
        servers.call(lambda client: make(client, Wanted(STREAM, (f"{STREAM}.>",))))
        yield
    finally:
        victim.BESIDE.difference_update(process_of(member) for member in servers.members)
        servers.kill()
        del _running[root]


def process_of(member: NatsServer) -> int:
    """Return the process number of a server; 0 if it does not run."""
    return 0 if member.process is None else member.process.pid


def url_of(root: str) -> str:
    """Return where a run's server is."""
    return _running[root].urls


def server_of(root: str) -> Servers:
    """Return a run's server."""
    return _running[root]


def messages(root: str, stream: str) -> list[tuple[Mapping[str, str], bytes]]:
    """Return the headers, in small letters, and the contents of a stream's messages."""

    async def read(client: OpenClient) -> list[tuple[Mapping[str, str], bytes]]:
        state = (await client.context.stream_info(stream)).state
        found: list[tuple[Mapping[str, str], bytes]] = []
        for number in range(max(1, state.first_seq), state.last_seq + 1):
            with contextlib.suppress(NotFoundError):
                message = await client.context.get_msg(stream, seq=number)
                headers = {name.lower(): text for name, text in (message.headers or {}).items()}
                found.append((headers, message.data or b""))
        return found

    return server_of(root).call(read)


def deliveries(root: str) -> list[Delivery]:
    """Return what the stream has; a message with another entry's headers has no entry's bytes."""
    found = []
    for headers, data in messages(root, STREAM):
        name, key = headers.get("watcher-entry", ""), headers.get("watcher-key", "")
        subject = _SUBJECT.match(data)
        told = json.loads(headers.get("watcher-metadata", "{}")).get("token", "")
        right = subject is not None and subject[1].decode() == name and told == f"token of {name}"
        right = right and key == headers.get("nats-msg-id")
        found.append(Delivery(name, digest_of(data if right else b""), key=key))
    return found
