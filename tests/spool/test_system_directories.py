"""A directory of the system is no queue, whatever path leads to it."""

from __future__ import annotations

import os
import subprocess

import pytest

from watcher.errors import NotPermitted
from watcher.rules.names import Layout
from watcher.spool.spool import Spool

pytestmark = pytest.mark.promise3


@pytest.mark.parametrize("path", [b"/", b"/etc", b"/usr/../etc/", b"/usr/bin", b"/var/lib"])
def test_it_is_refused(path):
    with pytest.raises(NotPermitted, match="a directory of the system"):
        Spool(path, Layout())
    assert not os.path.exists(os.path.join(path, b".watcher"))


def test_so_is_a_link_to_it(tmp_path):
    (tmp_path / "queue").symlink_to("/etc")
    with pytest.raises(NotPermitted, match="queue: a directory of the system"):
        Spool(os.fsencode(tmp_path / "queue"), Layout())


def test_a_directory_in_it_is_a_queue_as_any_other(tmp_path):
    Spool(os.fsencode(tmp_path), Layout())


@pytest.mark.parametrize(
    "command",
    [["list"], ["sweep", "--dry-run"], ["check"], ["explain"], ["audit"], ["status"]],
    ids=lambda command: command[0],
)
def test_no_command_works_on_it(watcher_command, environment, command):
    first, *rest = command
    ended = subprocess.run(
        [*watcher_command, first, "/usr/share", *rest],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ended.returncode != 0
    assert "a directory of the system" in ended.stderr + ended.stdout
    assert not os.path.exists("/usr/share/.watcher")


def test_a_link_to_it_in_the_place_of_a_queue_is_a_trouble_of_the_daemon(
    queue, start_daemon, recorder
):
    """The format is Mailman's: no file there is an entry of it, if this should ever fail."""
    daemon = start_daemon(queue, "--sweep-every", "200ms", handler=recorder.argv())
    queue.rename(queue.with_name("before"))
    queue.symlink_to("/usr/share")
    daemon.wait(lambda: "a directory of the system" in daemon.log())
    assert not recorder.calls
    assert not os.path.exists("/usr/share/.watcher")
