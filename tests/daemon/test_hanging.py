"""A handler that hangs: the timeout of the command line, and what is said without one."""

from __future__ import annotations

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
