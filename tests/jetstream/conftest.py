"""A real nats-server, and streams as `watcher nats init` makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("nats")

from tests.claimed_entry import claimed_entry
from tests.jetstream.work_stand import letters, put, record, work
from tests.nats_server import PROGRAM, NatsServer, serving
from watcher.handle.handler_kinds import read_handler
from watcher.handle.nats_handler import NatsHandler
from watcher.jetstream.stream_setup import Wanted, make

__all__ = ["claimed_entry", "letters", "put", "record", "work"]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory) -> Iterator[NatsServer]:
    """A server that the tests of a module share and do not kill."""
    if PROGRAM is None:
        pytest.skip("no nats-server")
    with serving(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def server(tmp_path) -> Iterator[NatsServer]:
    """A server of the test's own."""
    if PROGRAM is None:
        pytest.skip("no nats-server")
    with serving(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def init() -> Callable[..., None]:
    """Make the streams of a name on a server."""

    def make_streams(server: NatsServer, name: str = "MAIL", **changes: object) -> None:
        wanted = Wanted(name, (f"{name}.>",))._replace(**changes)
        server.call(lambda client: make(client, wanted))

    return make_streams


@pytest.fixture
def handler() -> Iterator[Callable[..., NatsHandler]]:
    """Load a handler for a server."""
    made = []

    def load(server: NatsServer, stream: str = "MAIL", **options: object) -> NatsHandler:
        table = {"nats": server.url, "stream": stream, **options}
        made.append(read_handler(table, "handler").load())
        return made[-1]

    yield load
    for each in made:
        each._publisher.close()


@pytest.fixture
def raw(claimed_entry):
    """Make a claimed raw entry."""
    return lambda data=b"data", **more: claimed_entry(data, form="raw", **more)
