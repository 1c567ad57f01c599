"""Copies of messages in the hands of two threads, and on a disk that refuses."""

from __future__ import annotations

import asyncio
import threading
import types
from typing import Any

import pytest

pytest.importorskip("nats")

from watcher.daemon.message_copies import Copies
from watcher.jetstream.deliveries import Deliveries, Delivery, Position

NAME = b"report.csv"


def message(number: int, *, delivery: int = 1) -> Delivery:
    return Delivery(
        subject="MAIL.q",
        reply=f"$JS.ACK.{number}",
        position=Position(number, 1000 + number, delivery),
        headers={"Watcher-Entry": NAME.decode()},
        payload=b"%d" % number,
    )


@pytest.fixture
def copies(tmp_path):
    return Copies(str(tmp_path), lambda _name: True)


def test_each_message_of_a_name_has_its_turn_whatever_two_threads_do(copies, tmp_path):
    """The loop's thread adds messages while a worker ends those that are there."""
    count, came = 400, threading.Event()

    def add() -> None:
        for number in range(count):
            copies.add(message(number))
            came.set()

    adding = threading.Thread(target=add)
    adding.start()
    handled: list[bytes] = []
    while len(handled) < count:
        came.wait(30)
        if not (tmp_path / NAME.decode()).exists():
            came.clear() if adding.is_alive() else None
            continue
        delivery = copies.of(NAME)
        assert delivery is not None
        handled.append((tmp_path / NAME.decode()).read_bytes())
        assert handled[-1] == delivery.payload
        (tmp_path / NAME.decode()).unlink()
        delivery.over = True
        assert copies.settled(NAME) == []
    adding.join()
    assert handled == [b"%d" % number for number in range(count)]
    assert copies.of(NAME) is None


def test_a_message_whose_copy_cannot_be_written_keeps_no_other_from_its_turn(
    copies, tmp_path, monkeypatch
):
    """It stayed the first of its name: no later message of that name was ever handled."""
    write, refused = Copies._write, {2, 3}

    def refusing(self: Copies, name: bytes, delivery: Delivery) -> None:
        if delivery.sequence in refused:
            raise OSError(28, "No space left on device")
        write(self, name, delivery)

    monkeypatch.setattr(Copies, "_write", refusing)
    with pytest.raises(OSError, match="No space"):
        copies.add(message(2))
    assert copies.of(NAME) is None
    for number in (1, 2, 3, 4):
        copies.add(message(number))
    first = copies.of(NAME)
    assert copies.settled(NAME) == []  # it is not over
    first.over = True
    assert [one.sequence for one in copies.settled(NAME)] == [2, 3]
    assert copies.of(NAME).sequence == 4
    assert (tmp_path / NAME.decode()).read_bytes() == b"4"


def test_a_message_whose_record_has_not_come_is_not_given_back_without_it():
    """Its attempts and crashes were replaced by a record that has none."""
    asked, ends = asyncio.Event(), []

    class Waits(Deliveries):
        async def _stored(self, *_message: Any) -> bytes | None:
            asked.set()
            await asyncio.Event().wait()
            return None

        async def give_back(self, _client: Any, delivery: Delivery, *_more: Any) -> None:
            ends.append(delivery.sequence)

    released: list[Any] = []
    connection = types.SimpleNamespace(call=lambda work, _seconds: released.append(work))
    deliveries = Waits(connection, "MAIL")

    async def run() -> None:
        taking = asyncio.ensure_future(deliveries.take(None, message(1, delivery=2)))
        assert await deliveries.take(None, message(2))
        await asked.wait()
        deliveries.release_all()
        await released[0](None)
        taking.cancel()

    asyncio.run(run())
    assert ends == [2]
