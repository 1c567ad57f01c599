"""One run of `watcher work` in the matrix: messages in a stream, a worker that is killed, recovery.

The worker's directory has copies only. So what counts is in the server: after the run another
worker handles the rest, and then every message must be acknowledged. A message may be handled twice
only if it was in hand at the death, and under the same key; one that is rejected must be among the
dead letters, once, with its contents.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import time
from collections import Counter

import nats.errors
from nats.js.errors import APIError

from kill_matrix import handler, nats_stream, victim
from kill_matrix.handler import RECOVERY, VICTIM, Call
from kill_matrix.nats_stream import STREAM
from kill_matrix.servers import digest_of
from kill_matrix.trial import Point, Result
from kill_matrix.verdict import MOST_DONE, Finding
from kill_matrix.victim import FOLLOW, Order
from watcher.jetstream.connection import Unreachable
from watcher.jetstream.messages import headers_of
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import CONSUMER, consumer_configuration

NAMES = ("one", "two", "retry-2", "retry-again-3", "reject", "same", "same", "reject-late", "last")
WORKERS = 2
IN_HAND = WORKERS  # messages that a death may have handled twice
ACK_WAIT = 3.0  # seconds until the server delivers again what a dead worker had
PATIENCE = 150.0  # seconds: what was refused a call may wait for the next sweep, 60 s
LOOK = 0.1  # seconds
CONFIGURATION = """\
[work.w]
server = "{server}"
stream = "{stream}"
directory = "{directory}"
handler = {{ python = "kill_matrix.handler:handle" }}
concurrency = {workers}
retry = {{ initial = "0.02s", jitter = 0 }}
"""


class Stopper:
    """Has the worker end (TERM) once every message is acknowledged."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._looked = 0.0
        self._told = False

    def __call__(self, child: int) -> None:
        """Look at intervals."""
        if self._told or time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        if is_done(self._root):
            self._told = True
            os.kill(child, signal.SIGTERM)


def attempt(point: Point | None, base: str, keep: str = "") -> Result:
    """Make one run in a directory of its own below `base`, as `trial.attempt`."""
    root = tempfile.mkdtemp(prefix="run-", dir=base)
    try:
        with nats_stream.serve(root):
            result = _disturbed(root, point)
        if result.findings and keep:
            name = f"work-{point.injection() if point else 'clean'}".replace(":", "-")
            shutil.copytree(root, os.path.join(keep, name), dirs_exist_ok=True)
        return result
    finally:
        shutil.rmtree(root)


def _disturbed(root: str, point: Point | None) -> Result:
    nats_stream.server_of(root).call(_fill)
    config = os.path.join(root, "work.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(
            CONFIGURATION.format(
                server=nats_stream.url_of(root),
                stream=STREAM,
                directory=os.path.join(root, "copies"),
                workers=WORKERS,
            )
        )
    argv = ["work", "--config", config, "--log-format", "json"]
    order = Order(
        argv,
        os.path.join(root, "victim"),
        _environment(root, VICTIM),
        FOLLOW,
        WORKERS,
        patience=PATIENCE,
    )
    ended = victim.run(order, point and point.injection(), Stopper(root))
    harmed = ended.injected
    findings = []
    if ended.status is None:
        findings.append(Finding("hung", f"after {PATIENCE:.0f} s: {_tail(order.output)}"))
    elif ended.status > 0 or (ended.status < 0 and not harmed):
        findings.append(Finding("exit", f"status {ended.status}: {_tail(order.output)}"))
    if re.search(r'Traceback|"bug"|Exception ignored', _tail(order.output)):
        findings.append(Finding("exit", f"a traceback or a bug: {_tail(order.output)}"))
    if not is_done(root):
        again = order._replace(
            output=os.path.join(root, "recovery"),
            environment=_environment(root, RECOVERY),
            thread="",
        )
        if victim.run(again, None, Stopper(root)).status != 0:
            findings.append(Finding("hung", f"the recovery: {_tail(again.output)}"))
    killed = ended.status == -signal.SIGKILL
    return Result(ended, findings + judge(root, harmed=harmed, killed=killed))


def _environment(root: str, phase: str) -> dict[str, str]:
    return {handler.RECORD: os.path.join(root, "record"), handler.PHASE: phase}


def body_of(number: int) -> bytes:
    """Return the contents of a message: no two are alike."""
    return b"Subject: %s\n\nThe only message %d.\n" % (NAMES[number].encode(), number)


async def _fill(client: OpenClient) -> None:
    """Publish the messages as the handler `nats` does."""
    config = consumer_configuration()
    config.ack_wait = ACK_WAIT
    await client.context.add_consumer(STREAM, config)
    for number, name in enumerate(NAMES):
        about = headers_of(
            key=f"key{number}",
            queue="q",
            name=name,
            attempt=1,
            metadata=f'{{"token": "token of {number}"}}',
            stream=STREAM,
        )
        await client.context.publish(f"{STREAM}.q", body_of(number), headers=about)


def is_done(root: str) -> bool:
    """Whether every message is acknowledged or ended."""

    async def look(client: OpenClient) -> bool:
        found = await client.context.consumer_info(STREAM, CONSUMER)
        floor = 0 if found.ack_floor is None else found.ack_floor.stream_seq
        return floor >= len(NAMES) and not found.num_pending and not found.num_ack_pending

    with contextlib.suppress(Unreachable, APIError, nats.errors.Error, TimeoutError):
        return nats_stream.server_of(root).call(look)
    return False


def judge(root: str, *, harmed: bool, killed: bool) -> list[Finding]:
    """Return what is wrong after the recovery."""
    calls = handler.read(os.path.join(root, "record"))
    dead = Counter(data for _headers, data in nats_stream.messages(root, f"{STREAM}-DEAD"))
    findings: list[Finding] = []
    again = 0
    for number, name in enumerate(NAMES):
        digest = digest_of(body_of(number))
        of_it = [call for call in calls if call.digest == digest]
        findings += _told(number, of_it)
        done = sum(call.word == "done" for call in of_it)
        again += done > 1
        letters = dead.pop(body_of(number), 0)
        rejected = name.startswith("reject")
        if not of_it or (not rejected and not done):
            findings.append(Finding("lost", f"{name}: never done, {letters} dead letters"))
        if letters != rejected:
            findings.append(
                Finding("doubled" if letters else "lost", f"{name}: {letters} dead letters")
            )
        if done > (MOST_DONE if harmed else 1):
            findings.append(Finding("doubled", f"{name}: done {done} times"))
        findings += _counted(name, of_it, harmed=harmed)
    if again > (IN_HAND if killed else len(NAMES)):
        findings.append(Finding("doubled", f"{again} done again; {IN_HAND} at most were in hand"))
    findings += [Finding("unexplained", f"a dead letter: {data!r}") for data in dead]
    return findings


def _told(number: int, calls: list[Call]) -> list[Finding]:
    """Return what a handler was told wrongly of a message."""
    right = (NAMES[number], f"key{number}", {"token": f"token of {number}"})
    return [
        Finding("lost", f"handled as {call.entry}, {call.key}, {call.metadata}; it is {right}")
        for call in calls
        if (call.entry, call.key, call.metadata) != right
    ]


def _counted(name: str, calls: list[Call], *, harmed: bool) -> list[Finding]:
    """Return attempts that have one number, or do not begin with 1, where nothing was killed."""
    numbers = [call.attempt for call in calls]
    if not harmed and numbers != list(range(1, len(numbers) + 1)):
        return [Finding("doubled", f"{name}: attempts {numbers}")]
    return []


def _tail(output: str) -> str:
    """Return the end of a run's log."""
    with (
        contextlib.suppress(FileNotFoundError),
        open(output + ".err", encoding="utf-8", errors="replace") as lines,
    ):
        return lines.read()[-2000:].strip()
    return ""
