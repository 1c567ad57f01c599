"""The answers of a worker command, as a table."""

from __future__ import annotations

import pytest

from watcher.durations import LONGEST
from watcher.rules.results import HANDLED, LONGEST_REASON, HandlerResult, Verdict
from watcher.rules.worker_answer import MOST, read_answer

KEY = "0123456789abcdef" * 4
ASKS = "the worker asks for a retry"


def retry(reason=ASKS, after=None):
    return HandlerResult(Verdict.RETRY, reason, after)


def reject(reason):
    return HandlerResult(Verdict.REJECT, reason)


ANSWERS = {
    b"done": HANDLED,
    b"done\r": HANDLED,
    b" done ": HANDLED,
    b"done " + KEY.encode(): HANDLED,
    b"retry": retry(),
    b"retry 30": retry(after=30.0),
    b"retry 0": retry(after=0.0),
    b"retry 1.5 busy": retry("busy", 1.5),
    b"retry the server is away": retry("the server is away"),
    b"retry 30  450 mailbox busy": retry("450 mailbox busy", 30.0),
    b"retry 4xx": retry("4xx"),
    b"retry -5": retry("-5"),
    b"retry nan": retry("nan"),
    b"reject no such list": reject("no such list"),
    b"reject": reject("rejected by the worker"),
    b"reject 550 \xff\x1b[2J": reject("550 \\xff\\x1b[2J"),
}


@pytest.mark.parametrize(("line", "expected"), ANSWERS.items(), ids=repr)
def test_an_answer_is_read(line, expected):
    assert read_answer(line, KEY) == expected


NONE = [
    *(b"", b" ", b"Done", b"DONE", b"done!", b"done: 5", b"done 0", b"ok", b"{}", b"true"),
    *(b"done" + KEY.encode(), b"done " + KEY[:-1].encode(), b"done " + KEY.upper().encode()),
    *(b"retry\t5", b"rejected", b"retrying", b"\xff", b"\0done", b"reject\0", b"done\0"),
    b"retry %d" % (LONGEST * 2),
]


@pytest.mark.parametrize("line", NONE, ids=repr)
def test_what_is_no_answer_is_never_taken_for_one(line):
    with pytest.raises(ValueError, match=r"no answer|key of the entry|more than \d+ seconds"):
        read_answer(line, KEY)


def test_a_long_reason_and_a_long_quotation_are_cut():
    assert len(read_answer(b"reject " + b"x" * MOST, KEY).reason) <= LONGEST_REASON + 3
    with pytest.raises(ValueError, match=r"^'xxx.*'\.\.\.") as caught:
        read_answer(b"x" * MOST, KEY)
    assert len(str(caught.value)) < 200
