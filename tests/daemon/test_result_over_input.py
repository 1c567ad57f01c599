"""A real handler that moves its result over its input."""

from __future__ import annotations

import pytest

from tests.renaming import rename_in


@pytest.mark.parametrize("status", [0, 75, 70])
def test_a_handler_that_replaces_its_file_is_told_of_and_not_called_all_the_time(
    queue, start_daemon, tmp_path, status
):
    calls, scratch = tmp_path / "calls", tmp_path / "result"
    program = f'echo x >> {calls}; echo y > {scratch}; mv {scratch} "{queue}/a.csv"; exit {status}'
    daemon = start_daemon(queue, "--format", "raw", handler=["sh", "-c", program])
    rename_in(queue, "a.csv")
    (said, *_) = daemon.wait_for("comes back")
    assert said["detail"].startswith("a.csv: came while its handler ran, 2 times in a row")
    rename_in(queue, "b.csv")  # replaces a.csv as well
    daemon.wait(lambda: len(calls.read_text().split()) >= 3)
    assert len(calls.read_text().split()) < 6
