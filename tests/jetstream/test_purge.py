"""What is handled leaves the stream when the server need not know it any more, and nothing else."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from nats.js import api

from tests.nats_server import NatsServer
from watcher.jetstream import purge
from watcher.jetstream.messages import ID, Message
from watcher.jetstream.publish import Publisher
from watcher.jetstream.purge import Purger
from watcher.jetstream.stream_setup import CONSUMER
from watcher.rules import handled_messages

WINDOW = 0.4  # seconds
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let a look follow the other at once."""
    monkeypatch.setattr(handled_messages, "LEAST", 0.05)


def purger(name: str) -> tuple[Purger, list[str | None]]:
    said: list[str | None] = []
    return Purger(name, asyncio.Event(), said.append), said


def publish(server: NatsServer, stream: str, count: int, size: int = 10) -> None:
    publisher = Publisher(server.connection(), stream)
    some = [Message(f"{stream}.q", bytes(size), {ID: f"{size}.{n}"}) for n in range(count)]
    answers = publisher.publish(some, PATIENCE)
    publisher.close()
    assert all(answer.stored for answer in answers), answers


def handle(server: NatsServer, stream: str, count: int) -> None:
    """Acknowledge the first messages that come."""

    async def take(client: Any) -> None:
        subscription = await client.context.pull_subscribe_bind(CONSUMER, stream=stream)
        for message in await subscription.fetch(count, timeout=5):
            await message.ack_sync()

    server.call(take)


def state(server: NatsServer, stream: str) -> tuple[int, int]:
    """Return the number of the first message, and how many there are."""

    async def ask(client: Any) -> tuple[int, int]:
        found = (await client.context.stream_info(stream)).state
        return found.first_seq, found.messages

    result: tuple[int, int] = server.call(ask)
    return result


def look(server: NatsServer, one: Purger) -> float | None:
    wait: float | None = server.call(one.look)[0]
    return wait


def test_what_is_handled_goes_when_it_is_older_than_the_window(shared_server, init):
    init(shared_server, "OLD", window=WINDOW)
    one, _ = purger("OLD")
    assert look(shared_server, one) is None  # empty: nothing is due before a message is handled
    publish(shared_server, "OLD", 9)
    began = time.monotonic()
    handle(shared_server, "OLD", 6)
    wait = look(shared_server, one)
    assert wait is None or 0.0 < wait <= WINDOW * 1.1
    assert time.monotonic() - began > WINDOW or state(shared_server, "OLD") == (1, 9)
    time.sleep(wait or 0.0)  # by the clock of the server: there is no event to wait for
    assert look(shared_server, one) is None
    assert state(shared_server, "OLD") == (7, 3)  # what no worker has handled stays, however old


def test_what_is_younger_stays_and_is_known(shared_server, init):
    init(shared_server, "YOUNG", window=600.0)
    publish(shared_server, "YOUNG", 5)
    handle(shared_server, "YOUNG", 5)
    one, _ = purger("YOUNG")
    wait = look(shared_server, one)
    assert wait is not None
    assert 600 < wait <= 660
    assert state(shared_server, "YOUNG") == (1, 5)
    publish(shared_server, "YOUNG", 5)  # all five are duplicates
    assert state(shared_server, "YOUNG") == (1, 5)


@pytest.mark.parametrize("case", ["kept", "another consumer", "a filter"])
def test_nothing_goes_that_another_program_may_want(shared_server, init, case):
    name = case.replace(" ", "-").upper()
    keep = handled_messages.KEEP if case == "kept" else handled_messages.REMOVE
    init(shared_server, name, window=WINDOW, handled=keep)

    async def change(client: Any) -> None:
        if case == "another consumer":
            config = api.ConsumerConfig(durable_name="audit", ack_policy=api.AckPolicy.EXPLICIT)
            await client.context.add_consumer(name, config)
        elif case == "a filter":
            now = (await client.context.consumer_info(name, CONSUMER)).config
            await client.context.add_consumer(name, now.evolve(filter_subject=f"{name}.q"))

    shared_server.call(change)
    publish(shared_server, name, 4)
    handle(shared_server, name, 4)
    time.sleep(WINDOW * 1.2)  # by the clock of the server: there is no event to wait for
    one, _ = purger(name)
    assert look(shared_server, one) is None
    assert state(shared_server, name) == (1, 4)


@pytest.mark.slow
def test_ten_times_its_size_flows_through_a_small_stream(shared_server, init):
    """Handled messages filled it for 30 days: the queues were held, and no worker was at work."""
    size, count = 4096, 160  # the stream has room for some 15 of them
    init(shared_server, "SMALL", window=WINDOW, max_bytes=size * 16)
    one, said = purger("SMALL")
    connection, publisher = (
        shared_server.connection(),
        Publisher(shared_server.connection(), "SMALL"),
    )
    seen: list[str] = []

    async def work(connect: Any) -> None:
        client = await connect()
        subscription = await client.context.pull_subscribe_bind(CONSUMER, stream="SMALL")
        while True:
            try:
                found = await subscription.fetch(64, timeout=1)
            except TimeoutError:
                continue
            for message in found:
                seen.append(message.headers[ID])
                await message.ack_sync()
                one._ended.set()

    connection.spawn(work)
    connection.spawn(one.run)
    left = [Message("SMALL.q", bytes(size), {ID: str(number)}) for number in range(count)]
    deadline, refused = time.monotonic() + PATIENCE, 0
    while left and time.monotonic() < deadline:
        answers = publisher.publish(left, 0.5)
        refused += sum(answer.code == 10077 for answer in answers)
        pairs = zip(left, answers, strict=True)
        left = [message for message, answer in pairs if not answer.stored]
    publisher.close()
    while len(set(seen)) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    connection.close()
    assert refused  # it was full
    assert not left
    assert sorted(seen, key=int) == [str(number) for number in range(count)]
    assert set(said) <= {None}


def test_an_idle_worker_asks_nothing(shared_server, init, monkeypatch):
    init(shared_server, "IDLE", window=WINDOW)
    publish(shared_server, "IDLE", 3)
    handle(shared_server, "IDLE", 3)
    looks: list[float | None] = []
    look_once = Purger.look
    waits = asyncio.Event()

    async def counted(self: Purger, client: Any) -> tuple[float | None, float]:
        found = await look_once(self, client)
        looks.append(found[0])
        if found[0] is None:
            waits.set()
        return found

    monkeypatch.setattr(Purger, "look", counted)
    one, _ = purger("IDLE")
    connection = shared_server.connection()

    async def until_nothing_is_due(connect: Any) -> None:
        running = asyncio.ensure_future(one.run(connect))
        await waits.wait()
        first = len(looks)
        await asyncio.sleep(20 * handled_messages.LEAST)  # that nothing happens has no event
        assert len(looks) == first
        one._ended.set()
        waits.clear()
        await waits.wait()
        assert len(looks) == first + 1
        running.cancel()

    connection.spawn(until_nothing_is_due).result(PATIENCE)
    connection.close()
    assert state(shared_server, "IDLE")[1] == 0


def test_a_server_that_is_away_is_asked_again(monkeypatch):
    monkeypatch.setattr(purge, "MOST", 0.05)
    one, said = purger("AWAY")
    tries: list[int] = []

    async def connect() -> Any:
        tries.append(1)
        if len(tries) == 3:
            raise asyncio.CancelledError
        raise OSError(111, "Connection refused")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(one.run(connect))
    assert said == ["AWAY: handled messages stay: [Errno 111] Connection refused"] * 2
