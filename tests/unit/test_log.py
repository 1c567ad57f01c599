"""What the log says: an operator's words as text, the names of events and moves as JSON."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from watcher.observe import log, log_lines, log_output
from watcher.observe.handler_output import LONGEST, MOST, lines_of
from watcher.observe.log_lines import (
    EVENTS,
    FIELDS,
    LEVELS,
    MOVES,
    NEXT_TRY,
    Json,
    Text,
    clock_time,
)
from watcher.observe.log_output import Output
from watcher.observe.repeats import IN_FULL, MOST as MOST_KINDS, PERIOD, Repeats
from watcher.rules.delays import Delays, before_claim
from watcher.rules.lifecycle import TABLE, Move, State, Transition
from watcher.rules.reasons import kind_of

STAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "
PAGE = Path(__file__).parents[2] / "docs/log.md"
OPERATORS = (Move.COMMIT, Move.FALL_DUE, Move.HOLD, Move.REQUEUE, Move.DELETE)  # not the daemon's
NOW = 1_795_417_200.25
DELAYS = Delays(0.0, 0.3, 0.0123, 0.0011)


def shown(record, level=logging.INFO):
    """Return a transition as text without its time, and as JSON."""
    text = Text().transition(NOW, level, record).decode()
    assert re.match(STAMP, text)
    assert text.endswith("\n")
    return re.sub(STAMP, "", text).rstrip("\n"), json.loads(Json().transition(NOW, level, record))


@pytest.mark.parametrize("name", [b"a", b'quoted"\\'])
def test_what_a_handler_called_done_is_handled(name):
    """The usual name takes another path through the code than one that needs escapes."""
    record = Transition(
        "q", name, Move.FINISH, State.DONE, "", 0.0123, DELAYS, 1, None, "ab" * 32, 77
    )
    text, fields = shown(record)
    line = "handled in 12 ms, delay=0.3134 delays=0/0.3000/0.0123/0.0011"
    assert text == f"q: {name.decode()} {line}"
    assert fields == {
        "time": NOW, "level": "info", "event": "finish", "queue": "q", "entry": name.decode(),
        "state": "done", "seconds": 0.0123, "attempt": 1, "delay": 0.3134, "earlier": 0.0,
        "wait": 0.3, "settle": 0.0011, "key": "ab" * 32, "process": 77,
    }  # fmt: skip
    assert list(fields) == [key for key in log_lines.FIELDS if key in fields]


def test_a_failed_attempt_says_when_the_next_one_is():
    due = time.time() + 86_400
    record = Transition(
        *("q", b"a", Move.DEFER, State.DEFERRED, "exit status 75", 12.04),
        *(Delays(60.5, 0.2, 12.04, 0.001), 2, due),
    )
    text, fields = shown(record)
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(due))
    assert text == (
        f"q: a failed, next try at {at} (after 12.0 s), attempt=2 delay=72.7410"
        " delays=60.5000/0.2000/12.0400/0.0010: exit status 75"
    )
    assert (fields["event"], fields["next_try"], fields["attempt"]) == ("defer", due, 2)
    assert list(fields) == [key for key in log_lines.FIELDS if key in fields]


@pytest.mark.parametrize(
    ("now", "committed", "due", "earlier", "wait"),
    [
        (100.0, 90.0, None, 0.0, 10.0),
        (100.0, 110.0, None, 0.0, 0.0),  # the clock was set back
        (100.0, 10.0, 95.0, 85.0, 5.0),
        (100.0, 99.0, 95.0, 0.0, 5.0),
        (100.0, 10.0, 105.0, 95.0, 0.0),
    ],
)
def test_the_time_before_a_claim_is_split_at_the_moment_when_the_entry_was_due(
    now, committed, due, earlier, wait
):
    assert before_claim(now, committed, due) == (earlier, wait)


def test_a_time_of_today_is_shown_without_its_date():
    now = time.time()
    assert clock_time(now) == time.strftime("%H:%M", time.localtime(now))
    assert clock_time(0) == time.strftime("%Y-%m-%d %H:%M", time.localtime(0))


@pytest.mark.parametrize("move", Move)
def test_every_move_has_words_and_no_arrow(move):
    state = next(end for (_, each), end in TABLE.items() if each is move)
    text, fields = shown(Transition("q", b"a", move, state, "why"))
    assert text == f"q: a {MOVES[move]}: why"
    assert "->" not in text
    assert (fields["event"], fields["state"]) == (move.value, state.value)


def test_a_queue_that_is_armed_is_watching():
    armed = (NOW, logging.INFO, "q", "armed", "/q (inotify)")
    assert re.sub(STAMP, "", Text().event(*armed).decode()) == "q: watching: /q (inotify)\n"
    assert json.loads(Json().event(*armed))["event"] == "armed"
    drained = Text().event(NOW, logging.INFO, "", "drained", "in 0.1 s")
    assert re.sub(STAMP, "", drained.decode()) == "drained: in 0.1 s\n"


HOSTILE = [b"a\nb", b"\xff\x9b1m", "caf\u00e9\u2028x".encode(), b"\x1b[31m", b"<0>a", b'"}\n{']


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("journal", [False, True])
def test_a_hostile_name_or_reason_stays_on_one_printable_line(name, journal):
    why = name.decode("utf-8", "surrogateescape")
    for detail in ("", why):
        record = Transition("q", name, Move.FINISH, State.DONE, detail, 0.1, DELAYS, 1)
        for lines in (Text(journal=journal), Json(journal=journal)):
            line = lines.transition(NOW, logging.INFO, record)
            assert line.endswith(b"\n")
            assert line[:-1].decode().isprintable()
            assert line.startswith(b"<6>") == journal


def test_a_dead_letter_is_said_to_be_in_its_stream():
    record = Transition("q", b"a", Move.REJECT, State.DEAD, "no", place="MAIL-DEAD")
    assert "a moved to MAIL-DEAD: no" in shown(record)[0]
    assert "a moved to dead/: no" in shown(record._replace(place=""))[0]


def test_a_line_for_the_journal_has_its_priority_and_no_time():
    lines = Text(journal=True)
    record = Transition("q", b"a", Move.REJECT, State.DEAD, "no")
    assert lines.transition(NOW, logging.WARNING, record) == b"<4>q: a moved to dead/: no\n"
    assert lines.event(NOW, logging.ERROR, "q", "unhealthy", "x") == b"<3>q: unhealthy: x\n"
    assert lines.event(NOW, logging.DEBUG, "q", "x", "") == b"<7>q: x\n"


def test_the_second_of_a_line_is_its_own_also_after_the_clock_was_set_back():
    lines = Text()
    moments = (NOW, NOW + 0.5, NOW + 0.75, NOW + 60, NOW - 3600)
    stamps = [lines.event(now, logging.INFO, "", "x", "").split(b" x")[0] for now in moments]
    for now, stamp in zip(moments, stamps, strict=True):
        second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(now)))
        assert stamp.decode() == f"{second}.{int(now % 1 * 1000):03d}"


# -- what a handler printed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n \n", []),
        ("a\r\nb", ["a", "b"]),
        ("\x1b[31m\x9b\u2028\udcff", ["\\x1b[31m\\x9b\\u2028\\udcff"]),
        ("x" * 5000, ["x" * LONGEST + "..."]),
        ("l\n" * (MOST + 1), ["(1 earlier line is left out)", *["l"] * MOST]),
        ("l\n" * (MOST + 2), ["(2 earlier lines are left out)", *["l"] * MOST]),
    ],
)
def test_what_a_handler_printed_is_a_bounded_number_of_printable_lines(text, lines):
    assert lines_of(text) == lines


OUT = [("stdout", "out")]
ERRORS = [("stderr", "first"), ("stderr", "second")]


@pytest.mark.parametrize(
    ("move", "state", "level", "shown"),
    [
        (Move.FINISH, State.DONE, "info", OUT),
        (Move.FINISH, State.DONE, "debug", OUT + ERRORS),
        (Move.DEFER, State.DEFERRED, "info", OUT + ERRORS),
        (Move.DEFER, State.DEFERRED, "warning", []),
    ],
)
def test_what_a_handler_printed_comes_before_what_came_of_it(stderr, move, state, level, shown):
    """Standard error of an entry that was handled is for debugging."""
    printed = ("out", "first\nsecond")
    record = Transition("q", b"a", move, state, printed=printed, attempt=3)
    log.setup("text", level)
    log.transition(record)
    lines = [re.sub(STAMP, "", line) for line in stderr().splitlines()]
    assert [line for line in lines if "std" in line] == lines[: len(shown)]
    assert lines[: len(shown)] == [f"q: a {stream}: {line}" for stream, line in shown]
    log.setup("json", level)
    log.transition(record)
    fields = [json.loads(line) for line in stderr().splitlines()][: len(shown)]
    assert [(each["stream"], each["detail"]) for each in fields] == shown
    assert all(
        (each["event"], each["entry"], each["attempt"]) == ("output", "a", 3) for each in fields
    )


# -- many entries that fail alike ------------------------------------------------------------


def deferred(name, reason, queue="q", move=Move.DEFER):
    detail = f"{reason}; attempt 2 in 31s"
    return Transition(queue, name, move, State.DEFERRED, detail, 0.1, DELAYS, 1)


def test_lines_of_one_kind_are_summed_up_after_the_first():
    repeats = Repeats()
    shown = [repeats.in_full(deferred(b"%d" % n, f"port {n}"), 10.0) for n in range(20)]
    assert shown == [True] * IN_FULL + [False] * (20 - IN_FULL)
    assert repeats.in_full(deferred(b"a", "port 1", "other"), 20.0)
    assert repeats.in_full(deferred(b"a", "no port"), 20.0)
    assert repeats.in_full(deferred(b"a", "port 1", move=Move.REJECT), 20.0)
    assert repeats.in_full(Transition("q", b"a", Move.FINISH, State.DONE, "x"), 20.0)
    assert repeats.due == 10.0 + PERIOD
    assert repeats.ended(10.0 + PERIOD - 1) == []
    kind = ("q", Move.DEFER, kind_of("port 1"))
    assert repeats.ended(10.0 + PERIOD) == [(kind, 20 - IN_FULL, PERIOD)]
    assert repeats.due == 20.0 + PERIOD
    assert repeats.in_full(deferred(b"a", "port 1"), 10.0 + PERIOD), "a new period"
    assert repeats.ended(math.inf) == []
    assert repeats.due == math.inf


def test_memory_for_kinds_is_bounded():
    repeats = Repeats()
    for number in range(2 * MOST_KINDS):
        assert repeats.in_full(deferred(b"a", "x" * number), 0.0)
    assert len(repeats._periods) == MOST_KINDS


@pytest.mark.parametrize(
    ("style", "level", "lines"),
    [("text", "info", IN_FULL + 1), ("text", "debug", 100), ("json", "info", 100)],
)
def test_the_text_log_sums_up_and_json_has_every_line(stderr, monkeypatch, style, level, lines):
    log.setup(style, level)
    for number in range(100):
        log.transition(deferred(b"%d" % number, "no route"))
    log.tick()
    monkeypatch.setattr(time, "monotonic", lambda: 1e12)
    log.tick()
    shown = stderr().splitlines()
    assert len(shown) == lines
    if lines != 100:
        assert re.sub(STAMP, "", shown[-1]) == (
            "q: repeated: 95 more entries within 60 s failed, will be tried again: no route"
        )


def test_the_end_of_the_daemon_tells_what_was_left_out(stderr):
    log.setup()
    for number in range(IN_FULL + 1):
        log.transition(deferred(b"%d" % number, "no route", move=Move.REJECT))
    log.end()
    log.end()
    assert "1 more entry within 60 s moved to dead/: no route" in stderr().splitlines()[-1]


# -- the journal's connection -----------------------------------------------------------------


@pytest.fixture
def stderr(capfd, monkeypatch):
    """Return what the log of this process wrote since the last call."""
    before = log._log, log.log.handlers[:], log.log.level, log.log.propagate
    monkeypatch.setattr(logging, "raiseExceptions", True)
    yield lambda: capfd.readouterr().err
    log._log, log.log.handlers[:], level, log.log.propagate = before
    log.log.setLevel(level)


@pytest.mark.parametrize(
    ("name", "prefixed"),
    [("{0.st_dev}:{0.st_ino}", True), ("{0.st_dev}:1", False), ("x", False), (None, False)],
)
def test_standard_error_that_is_the_journal_gets_priorities(stderr, monkeypatch, name, prefixed):
    if name is None:
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    else:
        monkeypatch.setenv("JOURNAL_STREAM", name.format(os.fstat(2)))
    log.setup()
    log.event("q", "unhealthy", "no room", logging.ERROR)
    expected = r"<3>q: unhealthy: no room\n" if prefixed else STAMP + r"q: unhealthy: no room\n"
    assert re.fullmatch(expected, stderr())


def test_an_error_in_this_program_is_one_line_with_its_traceback(stderr):
    log.setup("json")
    try:
        int("x")
    except ValueError:
        log.log.exception("bug")
    record = json.loads(stderr())
    assert (record["event"], record["level"]) == ("bug", "error")
    assert record["traceback"].startswith("Traceback (most recent call last):\n")


def test_what_is_below_the_level_is_not_written(stderr):
    log.setup("text", "warning")
    log.event("q", "armed", "x")
    log.transition(Transition("q", b"a", Move.FINISH, State.DONE))
    assert stderr() == ""
    log.transition(Transition("q", b"a", Move.REJECT, State.DEAD, "no"))
    assert stderr().endswith("q: a moved to dead/: no\n")
    assert log.shows(Move.REJECT)
    assert not log.shows(Move.FINISH)


# -- the descriptor ---------------------------------------------------------------------------


def lost(number):
    return b"lost %d\n" % number


def a_pipe():
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    return reading, writing, os.read


def a_socket():
    mine, theirs = socket.socketpair()
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return theirs.detach(), mine.detach(), os.read


@pytest.mark.parametrize("make", [a_pipe, a_socket])
@pytest.mark.parametrize("reopened", [True, False])
def test_lines_without_room_are_dropped_and_counted(monkeypatch, make, reopened):
    if not reopened:

        def refuse(_path, _flags):
            raise PermissionError(errno.EACCES, "another user made this pipe")

        monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(log_output, "PATIENCE", 0.05)
    reading, writing, read = make()
    output = Output(lost, writing)
    sent = 0
    while not output._dropped:
        output.write(b"%07d\n" % sent)
        sent += 1
    for _ in range(4):
        output.write(b"dropped\n")
    got = bytearray()
    while len(got) < 8 * (sent - 1):
        got += read(reading, 1 << 16)
    assert os.get_blocking(writing)  # others have it too
    output.write(b"after it\n")
    got += read(reading, 1 << 16)
    lines = bytes(got).splitlines()
    assert lines[:-2] == [b"%07d" % number for number in range(sent - 1)]
    assert lines[-2:] == [b"lost 5", b"after it"]
    os.close(reading)
    output.write(b"no reader\n")
    os.close(writing)


def test_a_line_longer_than_the_pipe_is_written_whole_if_it_is_read():
    reading, writing, _ = a_pipe()
    line = b"x" * 100_000 + b"\n"
    got = []
    with os.fdopen(reading, "rb") as file:
        reader = threading.Thread(target=lambda: got.append(file.readline()))
        reader.start()
        Output(lost, writing).write(line)
        reader.join(30)
    assert got == [line]
    os.close(writing)


def test_a_line_that_was_cut_ends_before_the_next_one(monkeypatch):
    monkeypatch.setattr(log_output, "PATIENCE", 0.05)
    reading, writing, _ = a_pipe()
    output = Output(lost, writing)
    output.write(b"x" * 10_000 + b"\n")
    cut = os.read(reading, 1 << 16)
    output.write(b"next\n")
    assert set(cut) == {ord("x")}
    assert os.read(reading, 1 << 16) == b"\nlost 1\nnext\n"
    os.close(reading)
    os.close(writing)


def test_a_full_disk_drops_lines():
    with open("/dev/full", "wb", buffering=0) as full:
        output = Output(lost, full.fileno())
        output.write(b"a\n")
        output.write(b"b\n")
        assert output._dropped == 2


# -- docs/log.md ------------------------------------------------------------------------------


def level_of(move):
    return logging.getLevelName(LEVELS.get(move, logging.INFO)).lower()


TABLES = {
    "log-moves": (
        ("move", "text", "level"),
        [
            (move.value, NEXT_TRY.format("01:04") if move is Move.DEFER else words, level_of(move))
            for move, words in MOVES.items()
            if move not in OPERATORS
        ],
    ),
    "log-events": (("event", "text"), list(EVENTS.items())),
    "log-fields": (("field", "what it is"), list(FIELDS.items())),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_documents_tables_of_the_log_are_those_of_the_code(name):
    """Run by `make docs` with WRITE_DOCUMENTS=1 to write them anew."""
    head, rows = TABLES[name]
    made = f"\n| {' | '.join(head)} |\n|{' --- |' * len(head)}\n"
    made += "".join(f"| `{row[0]}` | {' | '.join(row[1:])} |\n" for row in rows) + "\n"
    text = PAGE.read_text()
    begin = text.index("-->\n", text.index(f"<!-- {name}: ")) + len("-->\n")
    end = text.index("<!-- end -->", begin)
    if os.environ.get("WRITE_DOCUMENTS"):
        PAGE.write_text(text[:begin] + made + text[end:])
        return
    assert text[begin:end] == made, "run `make docs`"
