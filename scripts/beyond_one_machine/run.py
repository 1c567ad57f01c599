"""One run: entries are written, handed over and handled, while everything is killed at random.

Guarantees: all processes that it started have ended when it returns.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import nats.errors
from nats.js.errors import APIError

from beyond_one_machine import machines
from beyond_one_machine.account import Account, account_for, stored_in
from beyond_one_machine.handler import REJECTED, read
from beyond_one_machine.machines import STREAM, Machine, Place
from beyond_one_machine.nats_servers import Servers, serving
from watcher.jetstream.connection import Unreachable
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import ACK_WAIT, CONSUMER, consumer_configuration

AT_START = 0.2  # how often a process is killed that is not in service yet
LOOK = 0.5  # seconds between two looks whether all is done
DOWN = (0.0, 2.0)  # seconds for which a killed server is away
ALL = 600.0  # seconds after the last kill in which everything has to be done
SERVER = "server"
REJECT_EACH = 100  # entries, of which the handler rejects one


class Plan(NamedTuple):
    """What to do."""

    seed: int
    entries: int = 20_000
    every: float = 1.0  # seconds between two kills, on average
    victims: tuple[str, ...] = ("publisher", "worker", SERVER)
    kills: int = 0  # so many; 0: as long as entries are handed over
    workers: int = 2
    servers: int = 1
    concurrency: int = 4
    stopped: int = 0  # servers that do not run
    back: float = 0.0  # seconds after which these start, and kills begin; 0: never
    timeout: float = 10.0  # of the handler `nats`, in seconds
    rate: float = 0.0  # entries that are written in a second; 0: as fast as it goes
    ack_wait: float = ACK_WAIT  # seconds until the server delivers again what a dead worker had


class Result(NamedTuple):
    """What came of it."""

    account: Account
    seconds: float
    pauses: dict[
        str, list[float]
    ]  # seconds from each end or start of a server until something happened
    wrong: list[str]  # processes that ended by themselves or wrongly, lines of their logs


class Kills:
    """Chooses what is killed, and when; counts the kills."""

    def __init__(self, plan: Plan, servers: Servers, processes: list[Machine]) -> None:
        self._plan = plan
        self._chance = random.Random(plan.seed)
        self._servers = servers
        self._processes = processes
        self.of_servers = 0
        self.moments: list[float] = []  # when a server was killed, or started at last

    @property
    def count(self) -> int:
        """How many there were."""
        return self.of_servers + sum(each.kills for each in self._processes)

    def wait(self, until: Callable[[], bool]) -> bool:
        """Wait for the next one; return False if there is none."""
        if self._plan.kills and self.count >= self._plan.kills:
            return False
        end = time.monotonic() + self._plan.every * self._chance.uniform(0.5, 1.5)
        while (left := end - time.monotonic()) > 0:
            if not self._plan.kills and until():
                return False
            time.sleep(min(LOOK, left))
        return True

    def strike(self) -> None:
        """Kill one of the victims, and start it again."""
        victim = self._chance.choice(self._plan.victims)
        if victim == SERVER:
            self._kill_a_server()
            return
        process = self._chance.choice([each for each in self._processes if victim in each.name])
        # A process that is killed at each start would never do anything: few are.
        if process.in_service() or self._chance.random() < AT_START:
            process.kill()

    def _kill_a_server(self) -> None:
        """Kill the server, or the one of a cluster that leads the stream."""
        member = self._servers.members[0]
        if len(self._servers.members) > 1:
            with contextlib.suppress(Unreachable, APIError, nats.errors.Error, TimeoutError):
                member = self._servers.leader_of(STREAM) or member
        if member.process is None:
            return
        self.of_servers += 1
        self.moments.append(time.time())
        member.kill()
        time.sleep(self._chance.uniform(*DOWN))
        member.start()
        if len(self._servers.members) > 1:  # two must be there before the next one may die
            self._servers.wait_ready()


def run(directory: str, plan: Plan) -> Result:
    """Make one run in an empty directory."""
    place = Place(directory)
    place.make()
    with serving(os.path.join(directory, "nats"), plan.servers) as servers:
        sender = machines.publisher(place, servers, plan.timeout)
        machines.init(place, servers)
        if plan.ack_wait != ACK_WAIT:
            servers.call(functools.partial(_shorten, plan.ack_wait))
        workers = [
            machines.worker(place, servers, number + 1, plan.concurrency)
            for number in range(plan.workers)
        ]
        processes = [sender, *workers]
        for member in servers.members[: plan.stopped]:
            member.kill()
        began = time.monotonic()
        written: dict[str, str] = {}
        writer = threading.Thread(target=_write, args=(place, plan, written))
        kills = Kills(plan, servers, processes)
        try:
            for each in processes:
                each.start()
            writer.start()
            if plan.back:
                time.sleep(plan.back)
                kills.moments.append(time.time())
                servers.start()
            while kills.wait(lambda: _handed_over(place, writer)):
                kills.strike()
            writer.join()
            wrong = _wait_until_done(servers, place, processes)
            seconds = time.monotonic() - began
        finally:
            statuses = {each.name: each.end() for each in processes}
        wrong += [f"{name} ended with {code}" for name, code in statuses.items() if code]
        wrong += [line for each in processes for line in _bugs(each)]
        counts = {each.name: each.kills for each in processes} | {"servers": kills.of_servers}
        account = account_for(place, servers, written, counts)
        return Result(account, seconds, _pauses(place, servers, kills.moments), wrong)


async def _shorten(seconds: float, client: OpenClient) -> None:
    """Have the consumer wait so long for an acknowledgement."""
    config = consumer_configuration()
    config.ack_wait = seconds
    await client.context.add_consumer(STREAM, config)


def _write(place: Place, plan: Plan, written: dict[str, str]) -> None:
    """Write the entries into the queue, as a writer that renames does; some are rejected."""
    for number in range(1, plan.entries + 1):
        if plan.rate:
            time.sleep(1 / plan.rate)
        name = f"{REJECTED if number % REJECT_EACH == 0 else 'entry'}{number}"
        data = f"Subject: {name}\n\nThe only message {number} of {plan.seed}.\n".encode()
        scratch = os.path.join(place.root, "scratch")
        with open(scratch, "wb") as file:
            file.write(data)
        written[name] = hashlib.sha256(data).hexdigest()
        os.rename(scratch, os.path.join(place.queue, name))


def _handed_over(place: Place, writer: threading.Thread) -> bool:
    """Whether nothing is left in the queue."""
    return not writer.is_alive() and not place.left()


def _wait_until_done(servers: Servers, place: Place, processes: list[Machine]) -> list[str]:
    """Wait until every message is acknowledged; return what is wrong if that takes too long."""
    deadline = time.monotonic() + ALL
    while time.monotonic() < deadline:
        gone = [f"{each.name} ended by itself" for each in processes if each.ended() is not None]
        if gone:
            return gone
        with contextlib.suppress(Unreachable, APIError, nats.errors.Error, TimeoutError):
            if not place.left() and servers.call(_is_done):
                return []
        time.sleep(LOOK)
    left = len(place.left())
    return [f"not done after {ALL:.0f} s: {left} in the queue; {servers.call(_state)}"]


async def _is_done(client: OpenClient) -> bool:
    stream = (await client.context.stream_info(STREAM)).state
    found = await client.context.consumer_info(STREAM, CONSUMER)
    floor = 0 if found.ack_floor is None else found.ack_floor.stream_seq
    return stream.last_seq == floor or not (found.num_pending or found.num_ack_pending)


async def _state(client: OpenClient) -> str:
    found = await client.context.consumer_info(STREAM, CONSUMER)
    return f"{found.num_pending} to come, {found.num_ack_pending} on their way"


def _bugs(machine: Machine) -> Iterator[str]:
    with open(machine.log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if any(word in line for word in ("Traceback", '"bug"', "Exception ignored")):
                yield f"{machine.name}: {line.strip()[:300]}"


def _pauses(place: Place, servers: Servers, moments: list[float]) -> dict[str, list[float]]:
    """Return how long after each end or start of a server something happened again."""
    stored = [one.time for one in stored_in(servers, STREAM)]
    called = [call.time for call in read(place.calls)]
    return {
        "stored": list(_until_next(stored, moments)),
        "handled": list(_until_next(called, moments)),
    }


def _until_next(times: list[float], moments: list[float]) -> Iterator[float]:
    """Yield the time from each moment to the next of the times, if there is one."""
    for moment in moments:
        if (after := min((one for one in times if one > moment), default=None)) is not None:
            yield after - moment
