"""A real daemon and files that the kernel refuses to remove."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.renaming import rename_in


@pytest.fixture
def immutable(queue):
    """Make a file immutable, and let it go."""
    probe = queue.parent / "probe"
    probe.touch()
    if subprocess.run(["chattr", "+i", probe], check=False, capture_output=True).returncode:
        pytest.skip("needs root and a file system with attributes")
    subprocess.run(["chattr", "-i", probe], check=True)
    made = []

    def change(name, sign="+"):
        made.append(queue / name)
        subprocess.run(["chattr", f"{sign}i", queue / name], check=True)

    yield change
    for path in made:
        if path.exists():
            subprocess.run(["chattr", "-i", path], check=True)


def test_an_immutable_file_is_handled_once_named_and_gone_when_it_can_be(
    queue, start_daemon, tmp_path, immutable
):
    calls = tmp_path / "calls"
    pin = f'case $WATCHER_ENTRY in a.csv) chattr +i "{queue}/a.csv";; esac'
    config = tmp_path / "watcher.toml"
    text = f"""[queues.q]
path = "{queue}"
format = "raw"
sweep_every = "200ms"
grace_age = "10ms"
handler = {{ exec = ["sh", "-c", '''echo $WATCHER_ENTRY >> {calls}; {pin}'''] }}
"""
    config.write_text(text)
    immutable_later = lambda: immutable("a.csv", "-")  # noqa: E731
    daemon = start_daemon(None, "--config", str(config))
    rename_in(queue, "a.csv")
    (said,) = daemon.wait_for("unhealthy")
    assert "a.csv: finished with, but it cannot be moved: Operation not permitted" in said["detail"]
    rename_in(queue, "b.csv")
    daemon.wait_for("finish", entry="b.csv")
    config.write_text(text.replace("10ms", "20ms"))  # a reload is no reason to handle it again
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    rename_in(queue, "c.csv")
    daemon.wait_for("finish", entry="c.csv")
    daemon.send(signal.SIGUSR1)
    daemon.wait(lambda: any("1 that cannot" in s["detail"] for s in daemon.events("status")))
    immutable_later()
    daemon.wait_for("finish", entry="a.csv")
    assert not (queue / "a.csv").exists()
    assert sorted(calls.read_text().split()) == ["a.csv", "b.csv", "c.csv"]
    assert daemon.end() == os.EX_OK


def test_an_immutable_file_that_is_there_at_the_start_is_named_and_not_handled(
    queue, start_daemon, recorder, immutable, eventually
):
    (queue / "a.csv").write_bytes(b"x")
    immutable("a.csv")
    daemon = start_daemon(queue, "--format", "raw", "--grace-age", "10ms", handler=recorder.argv())
    (said,) = daemon.wait_for("unhealthy")
    assert "a.csv: cannot be removed: it is immutable" in said["detail"]
    immutable("a.csv", "-")
    daemon.wait_for("finish", entry="a.csv")
    assert len(recorder.calls) == 1
