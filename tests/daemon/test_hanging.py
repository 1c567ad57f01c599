"""A handler that hangs: the timeout of the command line, and what is said without one."""

from __future__ import annotations

import re
import signal

from tests.renaming import rename_in


def test_a_timeout_on_the_command_line_ends_a_handler_that_hangs(queue, start_daemon):
    options = ["--format", "raw", "--writers", "rename", "--timeout", "100ms"]
    daemon = start_daemon(queue, *options, handler=["sleep", "1000"])
    rename_in(queue, "a")
    [deferred] = daemon.wait_for("defer", entry="a")
    assert deferred["detail"].startswith("timeout: still running after 100ms")
    assert not daemon.events("no timeout")
    assert daemon.end() == 0


def test_a_queue_whose_handler_has_no_timeout_says_so_once(queue, tmp_path, start_daemon):
    config = tmp_path / "w.toml"

    def configure(timeout):
        handler = f'{{ exec = ["true"]{timeout} }}'
        config.write_text(f'[queues.q]\npath = "{queue}"\nhandler = {handler}\n')

    configure("")
    daemon = start_daemon(None, "--config", str(config))
    [said] = daemon.events("no timeout", queue="q")
    assert "holds its worker for ever" in said["detail"]
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded", 1)
    configure(', timeout = "2m"')
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded", 2)
    assert daemon.end() == 0
    assert len(daemon.events("no timeout")) == 1


def test_an_attempt_that_lasts_is_told_of_with_its_process_and_the_queue_is_unhealthy(
    queue, start_daemon, recorder
):
    options = ["--format", "raw", "--writers", "rename", "--warn-after", "200ms"]
    daemon = start_daemon(queue, *options, "--sweep-every", "1h", handler=recorder.argv(gated=True))
    rename_in(queue, "a")
    daemon.wait_for("hanging", 2)
    first, second = [record["detail"] for record in daemon.events("hanging")][:2]
    assert re.match(r"a: in hand for [23]\d\dms by process \d+; `watcher abort` ends it", first)
    assert re.match(r"a: in hand for [4-9]\d\dms by process \d+; ", second)
    [unhealthy] = daemon.events("unhealthy")
    assert re.match(r"a: in hand since \d\d:\d\d:\d\d by process \d+; ", unhealthy["detail"])
    recorder.open_gate()
    daemon.wait_for("finish", entry="a")
    daemon.wait_for("recovered")  # at once, though no sweep is due
    assert daemon.end() == 0
