"""`.abort.INODE.CTIME_NS`: it counts for one attempt, whatever it holds."""

from __future__ import annotations

import os

import pytest

from watcher.rules.results import HandlerResult, Verdict, from_exit_status
from watcher.spool import abort_request
from watcher.spool.abort_request import AbortRequest


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_request_is_taken_once_and_for_its_attempt_alone(directory):
    request = AbortRequest("root (uid 0)", hold=True)
    abort_request.write(directory, 7, 8, request)
    assert abort_request.take(directory, 7, 9) is None
    assert abort_request.take(directory, 6, 8) is None
    assert abort_request.take(directory, 7, 8) == request
    assert abort_request.take(directory, 7, 8) is None


def test_a_second_request_changes_nothing_and_one_may_be_withdrawn(directory):
    abort_request.write(directory, 7, 8, AbortRequest("first"))
    abort_request.write(directory, 7, 8, AbortRequest("second", hold=True))
    abort_request.withdraw(directory, 7, 9)
    assert abort_request.take(directory, 7, 8) == AbortRequest("first")
    abort_request.withdraw(directory, 7, 8)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[" * 1_000, b"[]", b"\xff", b'{"user": 1, "hold": "yes"}', b"{" * 100_000],
)
def test_contents_that_make_no_sense_are_an_abort_all_the_same(directory, tmp_path, data):
    (tmp_path / ".abort.7.8").write_bytes(data)
    assert abort_request.take(directory, 7, 8) == AbortRequest()
    assert list(tmp_path.iterdir()) == []


def test_a_name_cannot_control_a_terminal_or_fill_a_log(directory, tmp_path):
    (tmp_path / ".abort.7.8").write_text('{"user": "a\\u001b[31m\\n%s"}' % ("b" * 500))
    user = abort_request.take(directory, 7, 8).user
    assert user.isprintable()
    assert len(user) < 300


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_no_request(directory, tmp_path, make):
    make(tmp_path / ".abort.7.8")
    assert abort_request.take(directory, 7, 8) is None


@pytest.mark.parametrize(
    "ended",
    [
        from_exit_status(-15, "text"),
        from_exit_status(65, "text"),
        HandlerResult(Verdict.CRASHED, "killed", None, "text", -9),
    ],
)
def test_the_attempt_failed_with_the_operator_as_the_reason(ended):
    result = AbortRequest("root (uid 0)").result(ended)
    assert result.verdict is Verdict.RETRY
    assert result.reason == "aborted by the operator root (uid 0)"
    assert (result.stderr, result.exit_status, result.after) == ("text", ended.exit_status, None)
    assert AbortRequest().result(ended).reason == "aborted by the operator"
    assert AbortRequest(hold=True).result(ended).after == abort_request.HOLD_WITHIN
