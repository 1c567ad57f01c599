"""Copies of messages in the hands of two threads, and on a disk that refuses."""

from __future__ import annotations

import asyncio
import os
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("nats")

from watcher.attempt import Attempt
from watcher.daemon.message_attempt import MessageAttempt
from watcher.daemon.message_copies import Copies
from watcher.jetstream.delivered import Delivery, Position
from watcher.jetstream.deliveries import Deliveries
from watcher.rules.evidence import Proof
from watcher.rules.results import AttemptEnd, AttemptResult

NAME = b"report.csv"


def message(number: int, *, delivery: int = 1, name: str = NAME.decode()) -> Delivery:
    return Delivery(
        subject="MAIL.q",
        reply=f"$JS.ACK.{number}",
        position=Position(number, 1000 + number, delivery),
        headers={"Watcher-Entry": name},
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
        assert copies.let_go(NAME) == []
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
    assert copies.let_go(NAME) == []  # it is not over
    first.over = True
    assert [one.sequence for one in copies.let_go(NAME)] == [2, 3]
    assert copies.of(NAME).sequence == 4
    assert (tmp_path / NAME.decode()).read_bytes() == b"4"


def test_a_write_that_fails_leaves_no_file(copies, tmp_path, monkeypatch):
    def full(_fd: int, _data: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        copies.add(message(1))
    assert os.listdir(tmp_path) == []


def numbers(messages: list[Delivery]) -> list[int]:
    return [each.sequence for each in messages]


def test_what_is_withdrawn_has_no_copy_and_what_is_begun_keeps_its_own(copies, tmp_path):
    for number, name in enumerate("abca", 1):
        copies.add(message(number, name=name))
    assert copies.begin(b"a").sequence == 1
    assert numbers(copies.withdraw(1)) == [3]  # of the latest name
    assert numbers(copies.withdraw(9)) == [2, 4]
    assert copies.begin(b"b") is None
    assert os.listdir(tmp_path) == ["a"]
    assert copies.let_go(b"a") == []  # it is not over
    assert numbers(copies.withdraw(9)) == [1]
    assert os.listdir(tmp_path) == []


def test_a_copy_that_is_withdrawn_while_it_is_written_does_not_come(copies, tmp_path, monkeypatch):
    """A worker writes the next one of a name while the loop's thread withdraws it."""
    first, writes, withdrawn = message(1), threading.Event(), threading.Event()
    copies.add(first)
    copies.add(message(2))
    assert copies.begin(NAME) is first
    write = os.write

    def stepped(fd: int, data: Any) -> int:
        if bytes(data) == b"2":
            writes.set()
            assert withdrawn.wait(30)
        return write(fd, data)

    monkeypatch.setattr(os, "write", stepped)
    (tmp_path / NAME.decode()).unlink()
    first.over = True
    worker = threading.Thread(target=copies.let_go, args=(NAME,))
    worker.start()
    assert writes.wait(30)
    assert copies.take_gone() == []  # it is on its way
    assert numbers(copies.withdraw(9)) == [2]
    copies.add(message(3))
    withdrawn.set()
    worker.join()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"3"]
    assert copies.begin(NAME).sequence == 3


class Stepped(Attempt):
    """Stands for the claim of an entry: the test withdraws the copies before it, or after."""

    at_claim: Callable[[], None]

    def begin(self, spool: Any, name: bytes, *_more: Any) -> Any:
        self.at_claim()
        found = AttemptEnd.GONE if spool.stat_at(name) is None else AttemptEnd.BUSY
        return AttemptResult(found)


def test_a_worker_that_took_a_name_begins_no_message_that_is_withdrawn(copies, tmp_path):
    """Each of the two may come first; the other one then finds nothing to do."""

    class Attempted(MessageAttempt, Stepped):
        def __init__(self) -> None:
            self.copies = copies
            self.on_gone = lambda: ends.append("gone")

    ends: list[Any] = []
    attempt = Attempted()
    spool: Any = types.SimpleNamespace(
        stat_at=lambda name: True if (tmp_path / name.decode()).exists() else None
    )
    claims, goes_on = threading.Event(), threading.Event()

    def at_claim() -> None:
        claims.set()
        assert goes_on.wait(30)

    attempt.at_claim = at_claim
    copies.add(message(1))
    worker = threading.Thread(
        target=lambda: ends.append(attempt.begin(spool, NAME, Proof.RENAMED).result)
    )
    worker.start()
    assert claims.wait(30)
    assert copies.withdraw(9) == []  # the worker is first
    goes_on.set()
    worker.join()
    assert numbers(copies.withdraw(9)) == [1]  # it has let go
    ends.append(attempt.begin(spool, NAME, Proof.RENAMED).result)
    (tmp_path / NAME.decode()).touch()
    ends.append(attempt.begin(spool, NAME, Proof.RENAMED).result)
    assert ends == [AttemptEnd.BUSY, AttemptEnd.GONE, AttemptEnd.PINNED]


def test_a_copy_that_is_gone_is_found_unless_an_attempt_has_it(copies, tmp_path):
    for number, name in enumerate("abc", 1):
        copies.add(message(number, name=name))
    copies.add(message(4, name="a"))
    assert copies.begin(b"b") is not None
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    assert numbers(copies.take_gone()) == [1, 4]
    assert copies.take_gone() == []
    assert copies.begin(b"a") is None
    copies.let_go(b"b")  # such as an attempt that could not be made
    assert numbers(copies.take_gone()) == [2]


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
