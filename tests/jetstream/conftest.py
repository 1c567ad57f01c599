"""A real nats-server, and streams as `watcher nats init` makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("nats")

from tests.claimed_entry import claimed_entry
from tests.jetstream.work_stand import letters, put, record, work
from tests.nats_server import PROGRAM, NatsServer, serving
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
