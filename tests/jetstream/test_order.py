"""In which order `watcher work` handles messages, and how many a slow worker keeps from others."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

pytest.importorskip("nats")

from watcher.jetstream.messages import headers_of
from watcher.jetstream.stream_setup import CONSUMER

# Notes its call, and does what the message says.
HANDLER = """#!/bin/sh
echo "$WATCHER_ENTRY $(cat | tee "$1/body.$$" | head -n 1)" >>"$1/record"
. "$1/body.$$"
"""


class Stand:
    """A stream with messages, and the workers that handle them."""

    def __init__(self, tmp_path: Path, server, start_daemon, eventually) -> None:
        self.path, self._server, self._start_daemon = tmp_path, server, start_daemon
        self.eventually = eventually
        self._numbers = itertools.count()
        (tmp_path / "handler").write_text(HANDLER)
        (tmp_path / "handler").chmod(0o755)

    def put(self, *messages: tuple[str, str]) -> None:
        """Publish messages: the entry's name, and the commands of its handler."""

        async def send(client) -> None:
            for name, body in messages:
                number = next(self._numbers)
                about = headers_of(
                    key=f"key{number}",
                    queue="in",
                    name=name,
                    attempt=1,
                    metadata="",
                    stream="MAIL",
                )
                text = f"# {number}\n{body}\n"
                await client.context.publish("MAIL.in", text.encode(), headers=about)

        self._server.call(send)

    def left(self) -> int:
        """Return how many messages are not ended."""

        async def look(client) -> int:
            found = await client.context.consumer_info("MAIL", CONSUMER)
            return found.num_pending + found.num_ack_pending

        return self._server.call(look)

    def work(self, name: str, more: str = "concurrency = 1", batch: int = 0):
        """Start a process; with `batch` its handler only reads what it is given."""
        argv = [str(self.path / "handler"), str(self.path)]
        handler = f"exec = {json.dumps(argv)}"
        if batch:
            handler = (
                f'exec = ["/bin/sh", "-c", "cat >/dev/null"], batch = {batch}, batch_wait = "1s"'
            )
        config = self.path / f"{name}.toml"
        config.write_text(
            f'[work.{name}]\nserver = "{self._server.url}"\nstream = "MAIL"\n'
            f'directory = "{self.path}/{name}"\nhandler = {{ {handler} }}\n'
            f'retry = {{ initial = "300ms", jitter = 0 }}\n{more}\n'
        )
        return self._start_daemon(None, "--config", str(config), command="work")

    def calls(self) -> list[str]:
        """Return the handler's calls, oldest first: the name, and the number of the message."""
        record = self.path / "record"
        return record.read_text().splitlines() if record.exists() else []

    def waits_for(self, name: str) -> str:
        """Return the commands of a handler that ends once there is a file of that name."""
        return f"until [ -e '{self.path}/{name}' ]; do sleep 0.02; done"


@pytest.fixture
def stand(tmp_path, server, init, start_daemon, eventually) -> Stand:
    """Return a stream without messages."""
    init(server)
    return Stand(tmp_path, server, start_daemon, eventually)


def test_one_worker_with_one_thread_keeps_the_order_but_for_what_failed(stand: Stand) -> None:
    fails_once = '[ "$WATCHER_ATTEMPT" = 2 ] || exit 75'
    stand.put(*((f"{number:02}", fails_once if number == 3 else "") for number in range(12)))
    daemon = stand.work("one")
    daemon.wait_for("finish", 12)
    names = [int(call.split()[0]) for call in stand.calls()]
    assert names[: names.index(3) + 1] == [0, 1, 2, 3]
    assert [name for name in names if name != 3] == [0, 1, 2, *range(4, 12)]
    assert names.count(3) == 2
    assert names.index(4) < len(names) - 1 - names[::-1].index(3)  # it does not block the others


@pytest.mark.slow
def test_entries_of_one_name_are_handled_one_after_the_other_by_a_worker(stand: Stand) -> None:
    stand.put(("a", stand.waits_for("go")), ("a", ""), ("b", f"touch '{stand.path}/go'"))
    stand.work("one", "concurrency = 2").wait_for("finish", 3)
    calls = stand.calls()
    assert sorted(calls) == ["a # 0", "a # 1", "b # 2"]
    assert calls[-1] == "a # 1"  # though a thread had nothing to do when it came


def wake_ups(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep."""
    return sum(
        int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


def test_the_messages_of_a_batch_are_acknowledged_together(stand: Stand) -> None:
    """One by one each takes some ten wake-ups, and a third of the rate."""
    stand.put(*((f"{number}", "") for number in range(300)))
    daemon = stand.work("one", batch=100)
    daemon.wait_for("finish", 300)
    assert wake_ups(daemon.process.pid) < 4 * 300
    stand.eventually(lambda: stand.left() == 0)


@pytest.mark.slow
def test_another_worker_overtakes(stand: Stand) -> None:
    """Nor is the order of a subject kept: both workers are given its messages."""
    stand.put(("a", stand.waits_for("go")))
    first = stand.work("one")
    stand.eventually(stand.calls)
    stand.put(("b", ""), ("c", f"touch '{stand.path}/go'"))
    second = stand.work("two")
    second.wait_for("finish", 1)
    first.wait_for("finish", 1)
    assert stand.calls()[0] == "a # 0"


@pytest.mark.slow
def test_a_slow_worker_keeps_no_more_than_two_messages_for_each_thread(stand: Stand) -> None:
    stand.put(("slow", stand.waits_for("go")))
    slow = stand.work("one")
    stand.eventually(stand.calls)
    stand.put(*((f"{number}", "") for number in range(8)))
    quick = stand.work("two")
    quick.wait_for("finish", 7)
    stand.eventually(lambda: len(stand.calls()) == 8)  # that which is handled slowly, and seven
    (stand.path / "go").touch()
    slow.wait_for("finish", 2)
    assert len(stand.calls()) == 9
