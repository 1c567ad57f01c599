"""`watcher audit` of a part of the time, by day, and with losses that are accepted."""

from __future__ import annotations

import datetime as dt
import json
import os

import pytest

from tests.command_server import run_command
from watcher.rules.lifecycle import Move, State
from watcher.spool.journal_line import line_of

SECOND = 10**9
FIRST = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def at(day, hour=12):
    """Return a moment of November 2026 in nanoseconds."""
    return int(FIRST.timestamp() + (day - 1) * 86_400 + hour * 3600) * SECOND


@pytest.fixture
def queue(queue):
    """A queue whose journal has a week: ten entries a day, one of them rejected, two lost."""
    ours = queue / ".watcher"
    ours.mkdir(mode=0o700)
    (ours / "dead").mkdir(mode=0o700)
    state = ours.stat()
    where = f"2 ours={state.st_ino}@0 queue=1@0"
    lines = [line_of(at(2, 0), State.READY, "begin", 0, b"-", f"{where} first start")]
    for day in range(2, 9):
        for number in range(10):
            name, inode = b"%d-%d.pck" % (day, number), day * 1000 + number
            move = Move.FINISH if number else Move.REJECT
            if not number:
                (ours / "dead" / os.fsdecode(name)).write_bytes(b"x")
                inode = (ours / "dead" / os.fsdecode(name)).stat().st_ino
            lines.append(line_of(at(day, number), State.CLAIMED, move, inode, name))
    lines.append(line_of(at(5), State.CLAIMED, Move.DEFER, 99_000_001, b"lost.pck"))
    event = f"heard of at {at(6) / SECOND:.6f}"
    lines.append(line_of(at(6), State.READY, "vanish", 0, b"taken.pck", event))
    (ours / "journal").write_bytes(b"".join(lines))
    return queue


@pytest.fixture
def audit(watcher_command, environment, queue):
    """Return the exit status of an audit, and its lines."""

    def run(*options):
        argv = [*watcher_command, "audit", str(queue), *options]
        ended = run_command(argv, env=environment, text=True)
        assert "Traceback" not in ended.stderr
        lines = ended.stdout.splitlines()
        if "--json" in options:
            return ended.returncode, [json.loads(line) for line in lines]
        return ended.returncode, lines + ended.stderr.splitlines()

    return run


def test_each_day_has_a_row_and_what_is_missing_is_missing_since_a_day(audit):
    status, lines = audit("--by", "day")
    heads, *rows = [line.split() for line in lines if line[:1] in {" ", "2", "b", "t"}][:10]
    assert heads == ["seen", "handled", "rejected", "deleted", "orphaned", "missing", "here"]
    assert rows[0] == ["before", "0"]
    assert rows[1] == ["2026-11-02", "10", "9", "1", "0", "0", "0", "1"]
    assert rows[4] == ["2026-11-05", "11", "9", "1", "0", "0", "1", "4"]
    assert rows[5] == ["2026-11-06", "11", "9", "1", "0", "0", "1", "5"]
    assert rows[8] == ["total", "72", "63", "7", "0", "0", "2", "7"]
    assert status == 65
    assert lines[-1] == "NOT every entry is accounted for since 2026-11-02 00:00:00+00:00"


def test_a_part_of_the_time_is_judged_alone(audit):
    status, lines = audit("--since", "2026-11-03", "--until", "2026-11-05", "--json")
    (total,) = lines
    assert (status, total["balanced"], total["missing"]) == (0, True, 0)
    assert (total["before"], total["window"]["seen"], total["window"]["here"]) == (1, 20, 3)
    status, (lost, *_, total) = audit("--since", "2026-11-05", "--until", "2026-11-06", "--json")
    assert (status, lost["missing"], total["missing"]) == (65, "lost", 1)
    status, lines = audit("--since", "2026-11-07")
    assert status == 0
    assert "2 entries are missing since another time than the one that was asked for" in lines
    assert lines[-1] == "every entry is accounted for since 2026-11-07 00:00:00+00:00"


def test_a_question_that_reaches_before_the_journal_is_not_answered_with_yes(audit, queue):
    assert audit("--since", "2026-10-01", "--until", "2026-11-05")[0] == 0  # nothing was before
    journal = queue / ".watcher/journal"
    journal.write_bytes(journal.read_bytes().replace(b"first start", b"goes on"))
    status, lines = audit("--since", "2026-10-01", "--until", "2026-11-05")
    assert status == 65
    assert lines[-1].startswith("every entry is accounted for since 2026-11-02 00:00:00+00:00 only")
    assert audit("--since", "2026-11-02", "--until", "2026-11-05")[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--since", "2026"), "--since: expected a date like"),
        (("--since", "1d", "--until", "2d"), "--until: expected a date after --since 1d"),
        (("--why", "stolen"), "--why: only with --accept"),
        (("--accept", "ALL", "--no-journal"), "--accept: only with a journal"),
    ],
)
def test_what_cannot_be_asked_is_one_line(audit, options, said):
    status, (line,) = audit(*options)
    assert (status, said in line) == (os.EX_USAGE, True)


def test_an_accepted_loss_is_named_with_its_user_and_later_audits_are_green(audit, queue):
    status, lines = audit("--accept", "lost", "--accept", "taken", "--why", "stolen by a script")
    assert status == 0
    assert "         2 accepted as lost" in lines
    (line,) = [line for line in lines if line.startswith("  accepted as lost: lost: ")]
    assert "last seen 2026-11-05 12:00:00+00:00; accepted " in line
    assert line.endswith(": stolen by a script")
    status, lines = audit("--json", "--by", "day")
    total = lines[-1]
    assert (status, total["balanced"], total["accepted"], total["missing"]) == (0, True, 2, 0)
    assert {each["accepted"] for each in lines if "accepted_at" in each} == {"lost", "taken"}
    assert [row["accepted"] for row in lines if "period" in row] == [0, 0, 0, 1, 1, 0, 0]


def test_the_next_loss_of_the_name_is_missing(audit, queue):
    assert audit("--accept", "ALL")[0] == 0
    with open(queue / ".watcher/journal", "ab") as journal:
        now = int(dt.datetime.now(dt.UTC).timestamp() + 1) * SECOND
        event = f"heard of at {now / SECOND:.6f}"
        journal.write(line_of(now, State.READY, "vanish", 0, b"taken.pck", event))
        journal.write(line_of(now, State.CLAIMED, Move.DEFER, 99_000_001, b"lost.pck"))
    status, lines = audit("--json")
    assert (status, sorted(each["missing"] for each in lines[:-1] if "missing" in each)) == (
        65,
        ["lost", "taken"],
    )


def test_what_is_not_missing_cannot_be_accepted(audit, queue):
    before = (queue / ".watcher/journal").read_bytes()
    status, (line,) = audit("--accept", "lost", "--accept", "2-1")
    assert (status, line) == (
        os.EX_NOINPUT,
        "watcher: 2-1: not missing, so its loss cannot be accepted",
    )
    assert (queue / ".watcher/journal").read_bytes() == before
