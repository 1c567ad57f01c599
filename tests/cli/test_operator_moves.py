"""hold, release, requeue and delete: nothing is lost, whatever its name and whatever the order."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import watcher
import writers
from tests.command_server import run_command
from watcher.claim.take import take
from watcher.claim.take_deferred import take_deferred
from watcher.cli import moving
from watcher.errors import Usage
from watcher.inspect.find_entry import look_up
from watcher.inspect.list_entries import list_entries
from watcher.operate.operator import Operator
from watcher.operate.operator_moves import Moves
from watcher.operate.select_entries import Filter, select, states_for
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof, Shape
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import DEFERRED, STATE_DIRECTORIES, Layout, display
from watcher.rules.results import NotClaimed
from watcher.rules.stamp import Schedule, parse, stamped
from watcher.settle import interrupted, moves
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.disk import Disk
from watcher.spool.spool import Spool

LETTER = writers.message_for(1, 1)
TERMS = ClaimOptions(0.0, Ages(SystemClock()))
BY = Operator("alice", 1000)
MAX = 1 << 20
HELL = [b"a\nb", b"\xff\xfe", b"-rf", b"x" * 251, b"\xe4" * 200, b"x~1", b" ", b"ALL", b"all"]


@pytest.fixture
def run(watcher_command, environment):
    """Run one command to its end."""

    def running(*arguments, status=0):
        argv = [*map(os.fsencode, watcher_command), *map(os.fsencode, arguments)]
        ended = run_command(argv, env=environment, capture_output=True, timeout=30)
        assert ended.returncode == status, (ended.stdout, ended.stderr)
        return ended.stdout.decode()

    return running


def lines(output):
    return [json.loads(line) for line in output.splitlines()]


def open_spool(queue, layout=Layout(), disk=None):  # noqa: B008 - immutable
    return Spool(os.fsencode(queue), layout, disk or Disk())


def put(queue, name, data):
    scratch = os.path.join(os.fsencode(queue), b".scratch")
    with open(scratch, "wb") as file:
        file.write(data)
    os.rename(scratch, os.path.join(os.fsencode(queue), name))


def kill(spool, name, why="no such user"):
    """Reject an entry, as a handler's word does."""
    claim = take(spool, name, Proof.RENAMED, TERMS)
    assert isinstance(claim, Claim)
    moves.put_away(spool, State.DEAD, claim.parts, why, {"attempts": 1})
    claim.release()


def fail(spool, name, schedule, why="not yet"):
    """Defer an entry, as a failed attempt does."""
    claim = take(spool, name, Proof.RENAMED, TERMS)
    assert isinstance(claim, Claim)
    facts = {"attempts": schedule.attempts, "next_attempt_ms": schedule.due_ms}
    moves.defer(spool, claim.parts, schedule, why, facts)
    claim.release()


def make(spool, move, names=None, wanted=Filter(), states=None):  # noqa: B008 - immutable
    found, missing = select(spool, names, move, states or states_for(move), wanted, MAX)
    return list(Moves(spool, TERMS, BY).make(move, found)), missing


def contents(queue, state=None):
    """The entries' files of one state: what each holds, by name. The notes are left out."""
    place = Path(os.fsdecode(queue))
    place = place / ".watcher" / os.fsdecode(state) if state else place
    if not place.is_dir():
        return {}
    return {
        os.fsencode(path.name): path.read_bytes()
        for path in place.iterdir()
        if path.is_file() and path.suffix != ".json" and path.name[0] != "."
    }


def far(attempts=3, crashes=1):
    return Schedule(time.time_ns() // 1_000_000 + 3_600_000, attempts, crashes, 3600.0, 60.0)


def test_what_is_reported_is_in_the_journal_however_long_the_reader_takes(queue):
    spool = open_spool(queue)
    put(queue, b"x.pck", b"m")
    found, _ = select(spool, None, Move.HOLD, states_for(Move.HOLD), Filter(), MAX)
    for _ in Moves(spool, TERMS, BY).make(Move.HOLD, found):
        assert b" ready hold " in (queue / ".watcher/journal").read_bytes()


def test_every_name_comes_back_as_it_was_out_of_every_state(queue):
    spool = open_spool(queue)
    for name in HELL:
        for kind in (kill, lambda spool, name: fail(spool, name, far())):
            put(queue, name + b".pck", name)
            kind(spool, name + b".pck")
            assert contents(queue) == {}
            done, missing = make(spool, Move.REQUEUE)
            assert [moved.state for moved in done] == [State.READY], done
            assert not missing
            assert contents(queue) == {name + b".pck": name}
            assert not os.listdir(queue / ".watcher" / "dead"), "its note went with it"
        make(spool, Move.HOLD)
        assert contents(queue) == {}
        done, _ = make(spool, Move.RELEASE)
        assert [moved.state for moved in done] == [State.READY]
        assert contents(queue) == {name + b".pck": name}
        (Path(os.fsdecode(os.fsencode(queue) + b"/" + name + b".pck"))).unlink()
    assert not any(contents(queue, each) for each in STATE_DIRECTORIES.values())


@pytest.mark.parametrize("name", HELL)
def test_every_name_is_found_by_it_in_every_state(queue, name):
    spool = open_spool(queue)
    put(queue, name + b".pck", b"dead")
    kill(spool, name + b".pck")
    put(queue, name + b".pck", b"deferred")
    fail(spool, name + b".pck", far())
    put(queue, name + b".pck", b"ready")
    for state in (State.READY, State.DEAD, State.DEFERRED):
        for queue_name in (name, name + b".pck") if len(name) < 200 else (name,):
            asked = state.value.encode() + b"/" + queue_name
            ((found,),) = look_up(spool, [asked], (State.READY,))
            assert found.state is state
    done, _ = make(spool, Move.HOLD, [b"deferred/" + name])
    assert [moved.state for moved in done] == [State.HELD]
    assert contents(queue, b"held").popitem()[1] == b"deferred"


def test_a_deferred_entry_that_was_held_goes_on_where_it_was(queue):
    spool, schedule = open_spool(queue), far(5, 2)
    put(queue, b"x.pck", b"1")
    fail(spool, b"x.pck", schedule)
    name = stamped(schedule, b"x", b".pck")
    make(spool, Move.HOLD, [b"x"])
    assert contents(queue, b"held") == {name: b"1"}
    (entry,) = list_entries(spool, (State.HELD,))
    assert (entry.name, entry.schedule.attempts, entry.schedule.crashes) == (b"x", 5, 2)
    assert entry.why == "not yet", "its last error is kept"
    assert entry.note["by"] == {"user": "alice", "uid": 1000, "sudo": ""}
    done, _ = make(spool, Move.RELEASE, [b"x"])
    assert [moved.state for moved in done] == [State.DEFERRED]
    assert contents(queue, b"deferred") == {name: b"1"}
    assert contents(queue, b"held") == {}


def test_an_entry_that_is_called_like_a_stamp_keeps_its_name(queue):
    spool, name = open_spool(queue), stamped(far(), b"x", b".pck")
    put(queue, name, b"1")
    make(spool, Move.HOLD)
    make(spool, Move.RELEASE)
    (file,) = contents(queue, b"deferred")
    claim = take_deferred(spool, DEFERRED + file, TERMS)
    assert isinstance(claim, Claim)
    assert claim.parts[0].queue_name == name
    claim.release()
    make(spool, Move.REQUEUE)
    assert contents(queue) == {name: b"1"}


def deferred_beside_the_new_one(spool, queue):
    """Check that the old x.pck is in deferred/, due now and counted from 0; return it."""
    assert contents(queue) == {b"x.pck": b"new"}
    ((file, data),) = contents(queue, b"deferred").items()
    schedule, own = parse(file)
    assert (data, own, schedule[1:5]) == (b"old", b"x.pck", (0, 0, 0.0, 0.0))
    assert schedule.due_ms <= time.time_ns() // 1_000_000
    (entry,) = list_entries(spool, (State.DEFERRED,))
    return entry


@pytest.mark.parametrize("move", [Move.REQUEUE, Move.RELEASE])
def test_it_never_lands_on_a_newer_one(queue, move):
    spool = open_spool(queue)
    put(queue, b"x.pck", b"old")
    if move is Move.REQUEUE:
        kill(spool, b"x.pck")
    else:
        make(spool, Move.HOLD)
    put(queue, b"x.pck", b"new")
    done, _ = make(spool, move)
    assert [moved.state for moved in done] == [State.DEFERRED]
    entry = deferred_beside_the_new_one(spool, queue)
    assert entry.note["by"]["user"] == "alice"
    assert "attempts" not in entry.note or move is Move.RELEASE


def test_a_deferred_one_that_a_newer_one_keeps_out_is_due_now_and_counts_from_the_first(queue):
    spool = open_spool(queue)
    put(queue, b"x.pck", b"old")
    fail(spool, b"x.pck", far())
    put(queue, b"x.pck", b"new")
    make(spool, Move.REQUEUE)
    entry = deferred_beside_the_new_one(spool, queue)
    assert not {"attempts", "next_attempt_ms"} & set(entry.note), "nor does its note"


def test_in_a_copy_of_the_spool_a_requeued_one_keeps_its_key(queue, tmp_path):
    spool = open_spool(queue, RAW[0])
    put(queue, b"x.csv", b"data")
    claim = take(spool, b"x.csv", Proof.RENAMED, TERMS)
    assert isinstance(claim, Claim)
    identity = claim.identity()
    schedule = far()._replace(identity=identity)
    moves.defer(spool, claim.parts, schedule, "not yet", {})
    claim.release()
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(queue), str(copy)], check=True)
    for there, names in ((copy, set()), (queue, {b"x.csv"})):
        ((moved,), _) = make(open_spool(there, RAW[0]), Move.REQUEUE)
        assert ("is a copy" in moved.why) == (there is copy)
        assert contents(there).keys() == names
    ((file, _),) = contents(copy, b"deferred").items()
    requeued, own = parse(file)
    assert (requeued.identity, requeued.attempts, own) == (identity, 0, b"x.csv")
    assert requeued.due_ms <= time.time_ns() // 1_000_000


def test_namesakes_in_one_state_are_told_apart_and_all_come_back(queue, run):
    spool = open_spool(queue)
    for number in range(3):
        put(queue, b"x.pck", b"%d" % number)
        kill(spool, b"x.pck")
    assert set(contents(queue, b"dead")) == {b"x.pck", b"x~1.pck", b"x~2.pck"}
    run("requeue", str(queue), "x~1")
    assert contents(queue) == {b"x.pck": b"1"}
    run("requeue", str(queue), "ALL")
    waiting = contents(queue, b"deferred")
    assert {parse(name)[1] for name in waiting} == {b"x.pck"}
    assert sorted(waiting.values()) == [b"0", b"2"]
    run("requeue", str(queue), "x", status=os.EX_USAGE)  # which of the two?
    files = [os.fsdecode(name) for name in waiting]
    run("hold", str(queue), files[0], "deferred/" + files[1])
    assert len(contents(queue, b"held")) == 2
    assert contents(queue, b"dead") == {}


def test_a_pair_comes_back_as_a_pair(queue, run):
    name = writers.commit_2_0_8(str(queue), LETTER, writers.no_pause)
    before = contents(queue)
    spool = open_spool(queue, Layout(legacy=True))
    for away, back in ((kill, "requeue"), (None, "release")):
        if away is None:
            run("hold", str(queue), name, "--legacy")
        else:
            away(spool, os.fsencode(name) + b".msg")
        assert contents(queue) == {}
        run(back, str(queue), "ALL")  # whatever is served now, a pair is one
        assert contents(queue) == before
    fail(spool, os.fsencode(name) + b".msg", far())
    put(queue, os.fsencode(name) + b".db", b"a newer one's")
    run("requeue", str(queue), name)
    waiting = contents(queue, b"deferred")
    assert {parse(file)[1]: data for file, data in waiting.items()} == before
    assert len({file.rpartition(b".")[0] for file in waiting}) == 1
    metadata = json.loads(run("cat", str(queue), f"deferred/{name}", "--metadata", "--json"))
    assert metadata["listname"] == "testlist"


class Dying(Disk):
    """A disk with which the process dies before its nth move."""

    def __init__(self, count):
        self.left = count

    def move(self, name, source, target_name, target):
        if not name.endswith(b".tmp"):  # a note
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        super().move(name, source, target_name, target)


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("state", ["dead", "numbered", "held", "stamped", "deferred", "ready"])
def test_a_pair_cut_in_two_is_whole_again_when_the_command_is_repeated(queue, state, newer):
    layout = Layout(legacy=True)
    spool = open_spool(queue, layout)
    move = {"dead": Move.REQUEUE, "numbered": Move.REQUEUE, "deferred": Move.REQUEUE}.get(
        state, Move.HOLD if state == "ready" else Move.RELEASE
    )
    if state == "numbered":
        put(queue, b"x.pck", b"in the way")
        kill(spool, b"x.pck")
    put(queue, b"x.db", b"{0")
    put(queue, b"x.msg", b"message")
    if state in ("dead", "numbered"):
        kill(spool, b"x.msg")
    elif state in ("stamped", "deferred"):
        fail(spool, b"x.msg", far())
    if state in ("held", "stamped"):
        make(spool, Move.HOLD)
    if state == "numbered":
        make(spool, Move.DELETE, [b"x"])
    if newer and state != "ready":
        put(queue, b"x.db", b"{1")
        put(queue, b"x.msg", b"newer")
    with pytest.raises(KeyboardInterrupt):
        make(open_spool(queue, layout, Dying(1)), move)
    daemon_looks(spool)
    make(spool, move)
    make(spool, Move.REQUEUE, states=(State.DEFERRED, State.DEAD))
    daemon_looks(spool)
    if state == "ready":
        assert set(contents(queue, b"held")) == {b"x.msg", b"x.db"}
    elif newer:
        (name,) = (file for file in contents(queue, b"deferred") if file.endswith(b".msg"))
        assert contents(queue, b"deferred") == {name: b"message", name[:-3] + b"db": b"{0"}
        assert contents(queue) == {b"x.msg": b"newer", b"x.db": b"{1"}
    else:
        assert contents(queue) == {b"x.msg": b"message", b"x.db": b"{0"}
    assert not contents(queue, b"orphans")


def daemon_looks(spool):
    """Look at each half that a daemon meets, as it does: none may be left without its other."""
    for name in contents(spool.path):
        refused = take(spool, name, Proof.NONE, TERMS._replace(grace=300.0))
        if isinstance(refused, NotClaimed) and refused.shape is Shape.HALF:
            if name.endswith(b".msg"):
                assert interrupted.reunite(spool, name) == b"x.db"
            else:
                claim = take(spool, name, Proof.NONE, TERMS)
                assert interrupted.rejoin_put_away(spool, claim.parts[0])
                claim.release()
        elif isinstance(refused, Claim):
            refused.release()
    for name in contents(spool.path, b"deferred"):
        if name.endswith(b".msg") and name[:-3] + b"db" not in contents(spool.path, b"deferred"):
            assert interrupted.rejoin_deferred(spool, name, parse(name)[1][:-3] + b"db")


def test_what_is_claimed_or_being_written_is_left_and_the_rest_is_done(queue, run):
    spool = open_spool(queue)
    for name in (b"dead", b"busy"):
        put(queue, name + b".pck", b"1")
        kill(spool, name + b".pck")
    put(queue, b"mine.pck", b"1")
    with (
        open(queue / ".watcher" / "dead" / "busy.pck", "rb") as busy,
        open(queue / "mine.pck", "rb") as mine,
        open(queue / "slow.pck", "wb") as slow,
    ):
        fcntl.flock(busy, fcntl.LOCK_EX)
        fcntl.flock(mine, fcntl.LOCK_EX)
        slow.write(b"x")
        told = lines(run("requeue", str(queue), "ALL", "--dry-run", "--json", status=75))
        assert {line["entry"]: line["to"] for line in told} == {"dead": "ready", "busy": None}
        told = lines(run("requeue", str(queue), "busy", "dead", "--json", status=75))
        assert {line["entry"]: line["to"] for line in told} == {"dead": "ready", "busy": None}
        out = run("delete", "--yes", str(queue), "busy", status=75)
        assert f"left: claimed by process {os.getpid()}" in out
        out = run("hold", str(queue), "mine", "slow", status=75)
        assert f"claimed by process {os.getpid()}" in out
        assert "writing" in out
    assert set(contents(queue)) == {b"mine.pck", b"slow.pck", b"dead.pck"}
    assert set(contents(queue, b"dead")) == {b"busy.pck"}


def test_delete_asks_and_takes_the_files_and_the_note_of_no_other(queue, run, watcher_command):
    spool = open_spool(queue)
    for name in (b"x", b"y", b"ready"):
        put(queue, name + b".pck", b"1")
    kill(spool, b"x.pck")
    kill(spool, b"y.pck")
    run("delete", str(queue), "ready", "--yes", status=os.EX_USAGE)
    run("delete", str(queue), "ALL", "--state", "ready", "--yes", status=os.EX_USAGE)
    run("delete", str(queue), "x", status=os.EX_USAGE)  # no terminal to ask on
    run("delete", str(queue), "x", "--dry-run")
    assert set(contents(queue, b"dead")) == {b"x.pck", b"y.pck"}
    for answer in (b"n\n", b"y\n"):
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        ended = subprocess.run(
            [*watcher_command, "delete", str(queue), "x"], stdin=theirs, capture_output=True
        )
        os.close(ours)
        os.close(theirs)
        assert b"Delete 1 entry" in ended.stderr
        assert ended.returncode == 0
        assert (b"x.pck" in contents(queue, b"dead")) == (answer == b"n\n")
    assert os.listdir(queue / ".watcher" / "dead") in (["y.pck", "y.json"], ["y.json", "y.pck"])
    assert set(contents(queue)) == {b"ready.pck"}


def test_all_in_small_letters_is_a_name(queue, run):
    spool = open_spool(queue)
    for name in (b"all.pck", b"x.pck"):
        put(queue, name, b"1")
        kill(spool, name)
    run("delete", str(queue), "--yes", status=os.EX_USAGE)
    assert set(contents(queue, b"dead")) == {b"all.pck", b"x.pck"}
    run("delete", str(queue), "all", "--yes")
    assert set(contents(queue, b"dead")) == {b"x.pck"}
    run("delete", str(queue), "All", "--yes", status=os.EX_NOINPUT)
    assert set(contents(queue, b"dead")) == {b"x.pck"}
    run("delete", str(queue), "ALL", "--yes")
    assert contents(queue, b"dead") == {}


def test_entries_are_selected_by_name_age_error_and_metadata(queue, run):
    spool = open_spool(queue)
    names = {}
    for listname, number in (("announce", 1), ("announce", 2), ("test", 1)):
        name = watcher.enqueue(queue, b"m", {"listname": listname, "n": number, "done": None})
        names[listname, number] = name
        kill(spool, os.fsencode(name) + b".pck", f"error {number} of {listname}")
    put(queue, b"junk.pck", b"junk")
    kill(spool, b"junk.pck", "damaged")
    put(queue, b"all.pck", b"junk")
    kill(spool, b"all.pck", "damaged")

    def chosen(*what, **flags):
        asked = [os.fsencode(name) for name in what] or None
        states = (State(flags.pop("state", "dead")),)
        found, _ = select(spool, asked, Move.REQUEUE, states, moving.filter_from(flags), MAX)
        return {os.fsdecode(entry.name) for entry in found}

    both = {names["announce", 1], names["announce", 2]}
    where = ("--where", "listname=announce", "--where", "n=1")
    for command in (("list", str(queue)), ("requeue", str(queue), "ALL", "--dry-run")):
        told = lines(run(*command, *where, "--json"))
        assert [line["entry"] for line in told] == [names["announce", 1]]
    assert chosen(where=["listname=announce"]) == both
    assert chosen(where=["done=None"]) == chosen(where=["done=null"]) == set(names.values())
    assert chosen(error="of announce") == both
    assert chosen(error="of announce", where=["n=2"]) == {names["announce", 2]}
    assert chosen(older_than="1h") == set()
    assert chosen(newer_than="1h") == {*names.values(), "junk", "all"}
    assert chosen(state="orphan") == set()
    assert chosen("all") == {"all"}
    assert chosen(names["announce", 2], where=["n=1"]) == set()
    assert len(contents(queue, b"dead")) == 5
    for wrong in ({"where": ["x"]}, {"older_than": "x"}):
        with pytest.raises(Usage):
            chosen(**wrong)
    with pytest.raises(Usage):
        chosen("nowhere/x")
    for wrong in (("ALL", "x"), (), ("ALL", "--state", "ready")):
        run("requeue", str(queue), *wrong, status=os.EX_USAGE)
    run("requeue", str(queue), "nobody", "junk", status=os.EX_NOINPUT)
    assert set(contents(queue)) == {b"junk.pck"}, "the others are done"
    run("release", str(queue), "junk", status=os.EX_NOINPUT)


def test_a_leading_dash_and_bytes_that_are_no_text_can_be_said(queue, run):
    names = [b"-x", b"\xff\xfe", b"a\nb"]
    files = [name + b".pck" for name in names]
    for file in files:
        put(queue, file, b"1")
    run("hold", str(queue), "--", *names)
    assert set(contents(queue, b"held")) == set(files)
    run("release", str(queue), "--", *files)
    assert set(contents(queue)) == set(files)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"\x1b[2J"])
def test_whoever_says_a_name_as_it_is_shown_hears_how_to_say_it(queue, name, watcher_command):
    put(queue, name + b".pck", b"1")
    for command in ("hold", "cat"):
        argv = [*watcher_command, command, str(queue), display(name)]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        assert ended.returncode == os.EX_NOINPUT
        said = ended.stderr.partition("say it as ")[2].partition(" (bash)")[0]
        meant = subprocess.run(["bash", "-c", f"printf %s {said}"], capture_output=True, timeout=30)
        assert meant.stdout == name


def test_list_shows_the_schedule_and_the_name_without_its_stamp(queue, run):
    spool = open_spool(queue)
    waiting = [(b"%d" % due, Schedule(due, 1)) for due in (4, 7, 1, 6, 2, 5, 3)]
    for name, schedule in ((b"late", far(3, 1)), *waiting):
        put(queue, name + b".pck", b"1")
        fail(spool, name + b".pck", schedule, "server is down")
    found = lines(run("list", str(queue), "--json"))
    assert [line["entry"] for line in found] == [*"1234567", "late"], "as they fall due"
    assert [(line["attempts"], line["crashes"]) for line in found] == [(1, 0)] * 7 + [(3, 1)]
    soon, *_, late = run("list", str(queue), "--state", "deferred").splitlines()
    assert "due now, 1 attempt; server is down" in soon
    assert "3 attempts, 1 crash; server is down" in late
    assert run("cat", str(queue), "late", "--raw") == "1"
    run("hold", str(queue), "late")
    assert run("cat", str(queue), "held/late", "--raw") == "1"
    assert "server is down; held by" in run("list", str(queue), "--state", "held")
    path = next((queue / ".watcher" / "held").glob("*-late.pck"))
    assert "watcher release" in run("explain", str(path))


RAW = [Layout(b".csv", raw=True), Layout(b".json", raw=True), Layout(b"", raw=True)]


@pytest.mark.parametrize("layout", RAW)
def test_raw_entries_of_any_suffix_and_their_notes(queue, layout):
    spool = open_spool(queue, layout)
    names = [b"r" + layout.suffix, b"x" * (255 - len(layout.suffix)) + layout.suffix]
    for name in names:
        put(queue, name, name)
        kill(spool, name)
        make(spool, Move.REQUEUE)
        fail(spool, name, far())
        make(spool, Move.HOLD)
        make(spool, Move.RELEASE)
        make(spool, Move.REQUEUE)
        make(spool, Move.HOLD)
        assert len(list(list_entries(spool))) == 1
        make(spool, Move.RELEASE)
        assert set(contents(queue)) <= {name}
        assert (queue / os.fsdecode(name)).read_bytes() == name
        (queue / os.fsdecode(name)).unlink()
    left = [path for path in (queue / ".watcher").rglob("*") if path.is_file()]
    assert not [path for path in left if path.parent.name in ("dead", "held", "deferred")]


# -- what is promised of each move ----------------------------------------------------------------


class Watched(Disk):
    """A disk that notes what is done, in order."""

    def __init__(self):
        self.calls = []

    def move(self, name, source, target_name, target):
        if not name.endswith(b".tmp"):
            self.calls.append("move")
        super().move(name, source, target_name, target)

    def unlink(self, name, directory):
        self.calls.append("unlink")
        super().unlink(name, directory)

    def sync(self, directory):
        self.calls.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{directory}'))}")
        super().sync(directory)


@pytest.mark.parametrize("move", [Move.HOLD, Move.RELEASE, Move.REQUEUE, Move.DELETE])
def test_the_journal_is_told_before_the_step_and_both_directories_are_synced_before_the_report(
    queue, move
):
    disk = Watched()
    spool = open_spool(queue, Layout(), disk)
    inodes = {}
    for name in (b"x.pck", b"y.pck"):
        put(queue, name, b"1")
        inodes[name] = os.stat(os.fsencode(queue) + b"/" + name).st_ino
        if move in (Move.REQUEUE, Move.DELETE):
            kill(spool, name)
    if move is Move.RELEASE:
        make(spool, Move.HOLD)
    disk.calls.clear()
    spool.journal.record = lambda *line: disk.calls.append(line)
    found, _ = select(spool, None, move, states_for(move), Filter(), MAX)
    reports = Moves(spool, TERMS, BY).make(move, found)
    next(reports)
    lines = [call for call in disk.calls if isinstance(call, tuple)]
    state = states_for(move)[0] if move in (Move.HOLD, Move.RELEASE) else State.DEAD
    assert {(line[2], line[3]) for line in lines} == {
        (inode, name) for name, inode in inodes.items()
    }
    assert {line[:2] for line in lines} == {(state, move)}
    assert all("alice (uid 1000)" in line[4] for line in lines)
    step = "unlink" if move is Move.DELETE else "move"
    assert disk.calls.index(lines[0]) < disk.calls.index(step)
    assert disk.calls.index(step) < disk.calls.index(lines[1])
    place = "held" if move in (Move.HOLD, Move.RELEASE) else "dead"
    places = [f"sync {place}"] if move is Move.DELETE else [f"sync {place}", "sync queue"]
    assert sorted(disk.calls[-len(places) :]) == places, "once for both entries, at the end"
    assert sum(str(call).startswith("sync") for call in disk.calls) == len(places)


def test_a_file_that_is_called_like_a_note_is_not_removed_as_one(queue):
    """A command reads a drop folder's queue as if it were Mailman's."""
    spool = open_spool(queue)
    put(queue, b"x.pck", b"1")
    kill(spool, b"x.pck")
    (queue / ".watcher" / "dead" / "x.json").write_text('{"an": "entry"}')
    make(spool, Move.DELETE)
    assert os.listdir(queue / ".watcher" / "dead") == ["x.json"]


def test_a_replacement_at_the_very_move_goes_back(queue):
    class Renaming(Disk):
        def move(self, name, source, target_name, target):
            if name == b"x.pck" and source == spool.fd:
                put(queue, b"x.pck", b"new")
            super().move(name, source, target_name, target)

    put(queue, b"x.pck", b"old")
    spool = open_spool(queue, Layout(), Renaming())
    done, _ = make(spool, Move.HOLD)
    assert [moved.state for moved in done] == [None]
    assert contents(queue) == {b"x.pck": b"new"}
    assert contents(queue, b"held") == {}
    assert os.listdir(queue / ".watcher/held") == [], "nor is there a note"


def test_a_name_that_is_taken_at_the_very_move_is_not_overwritten(queue):
    spool = open_spool(queue, Layout(legacy=True))
    put(queue, b"x.db", b"{0")
    put(queue, b"x.msg", b"old")
    kill(spool, b"x.msg")

    class Racing(Disk):
        def move(self, name, source, target_name, target):
            if target_name == b"x.db":  # its message has moved already
                put(queue, b"x.db", b"{1")
            super().move(name, source, target_name, target)

    done, _ = make(open_spool(queue, Layout(legacy=True), Racing()), Move.REQUEUE)
    assert [moved.state for moved in done] == [State.DEFERRED]
    assert contents(queue) == {b"x.db": b"{1"}
    assert sorted(contents(queue, b"deferred").values()) == [b"old", b"{0"]


def test_what_the_superuser_does_belongs_to_the_user_whose_queue_it_is(queue, run):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    put(queue, b"x.pck", b"1")
    put(queue, b"y.pck", b"1")
    for path in (queue, *queue.iterdir()):
        os.chown(path, 65534, 65534)
    run("hold", str(queue), "x")
    ours = [queue / ".watcher", *(queue / ".watcher").rglob("*")]
    assert len(ours) >= 4
    assert {path.stat().st_uid for path in ours} == {65534}
    note = json.loads((queue / ".watcher" / "held" / "x.json").read_text())
    assert note["by"]["uid"] == 0


def test_a_file_in_the_way_of_our_directory_is_said(queue, run):
    put(queue, b"x.pck", b"1")
    (queue / ".watcher").write_text("in the way")
    run("hold", str(queue), "x", status=os.EX_UNAVAILABLE)
    assert contents(queue)[b"x.pck"] == b"1"


def test_the_oldest_are_taken_first(queue, run):
    spool = open_spool(queue)
    names = [b"d", b"c", b"a", b"h", b"b", b"f", b"e", b"g"]
    for name in names:
        put(queue, name + b".pck", b"1")
        kill(spool, name + b".pck")
        time.sleep(0.02)  # more than a tick of the file system's clock
    out = run("requeue", str(queue), "ALL", "--limit", "7")
    assert [os.fsencode(line.split()[0]) for line in out.splitlines()] == names[:7]


def test_half_of_a_pair_is_not_held_and_a_pair_is_deleted_whole(queue, run):
    spool = open_spool(queue, Layout(legacy=True))
    put(queue, b"half.db", b"{0")
    put(queue, b"x.db", b"{0")
    put(queue, b"x.msg", b"1")
    assert "half" in run("hold", str(queue), "half", "--legacy", status=75)
    kill(spool, b"x.msg")
    assert run("delete", str(queue), "x", "--yes") == "x  dead, deleted\n"
    assert os.listdir(queue / ".watcher" / "dead") == []
    assert set(contents(queue)) == {b"half.db"}


@pytest.mark.parametrize("first", [b"x.msg", b"x.db"])
def test_a_half_whose_other_half_came_after_the_listing_is_left(queue, first):
    """MoveResult alone it would be half of an entry here and half there."""
    spool, second = (
        open_spool(queue, Layout(legacy=True)),
        b"x.db" if first == b"x.msg" else b"x.msg",
    )
    orphans = os.path.join(os.fsencode(queue), b".watcher/orphans")
    os.makedirs(orphans, mode=0o700)
    put(orphans, first, b"{0")
    found, _ = select(spool, None, Move.REQUEUE, states_for(Move.REQUEUE), Filter(), MAX)
    put(orphans, second, b"{0")
    (moved,) = Moves(spool, TERMS, BY).make(Move.REQUEUE, found)
    assert (moved.state, moved.why) == (None, "its other half is beside it: they are one entry")
    assert set(contents(queue, b"orphans")) == {b"x.msg", b"x.db"}


# -- any order ------------------------------------------------------------------------------------

NAMES = [b"a", b"a~1", b"b"]
MOVES = ["kill", "fail", "hold", "release", "requeue", "delete"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.sampled_from(MOVES), st.sampled_from(NAMES), st.booleans()),
    ),
    max_size=25,
)
OF = {each.value: each for each in (Move.HOLD, Move.RELEASE, Move.REQUEUE, Move.DELETE)}


LAYOUTS = {"pck": Layout(), "raw": Layout(b"", raw=True), "pair": Layout(legacy=True)}
MESSAGE = {"pck": b".pck", "raw": b"", "pair": b".msg"}


def whereabouts(spool):
    """Each entry's contents, with its state and its name in the queue."""
    found = {}
    for entry in list_entries(spool):
        directory = spool.fd if entry.state is State.READY else spool.make_state_dir(entry.state)
        data = []
        for name in entry.files:
            with open(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as file:
                data.append(file.read())
        assert data[0] not in found, "twice"
        assert data[1:] in ([], [b"of " + data[0]]), "another's metadata"
        assert len(data) == 1 + entry.files[0].endswith(b".msg"), "without its metadata"
        own = entry.note.get("own")
        name = os.fsencode(own[0]) if own else entry.files[0]
        found[data[0]] = (entry.state, name)
    return found


@settings(max_examples=60)
@given(steps=STEPS, kind=st.sampled_from(sorted(LAYOUTS)))
def test_no_order_of_commands_loses_or_overwrites_a_namesake(steps, kind):
    with tempfile.TemporaryDirectory() as queue:
        spool = open_spool(queue, LAYOUTS[kind])
        model = {}  # contents: name in the queue
        for count, (step, name, everything) in enumerate(steps):
            before = whereabouts(spool)
            file = name + MESSAGE[kind]
            free = not os.path.exists(os.path.join(os.fsencode(queue), file))
            if step == "put" and free:
                if kind == "pair":
                    put(queue, name + b".db", b"of %d" % count)
                put(queue, file, b"%d" % count)
                model[b"%d" % count] = file
            elif step in ("kill", "fail") and not free:
                kill(spool, file) if step == "kill" else fail(spool, file, Schedule(0, 1))
            elif step in OF:
                lying = look_up(spool, [name], states_for(OF[step]))[0]
                asked = [each.state.value.encode() + b"/" + each.files[0] for each in lying]
                done, missing = make(spool, OF[step], None if everything else asked)
                assert not missing
                assert all(moved.state is not None for moved in done)
                if step == "delete":
                    gone = before.keys() - whereabouts(spool).keys()
                    assert len(gone) == len(done)
                    for data in gone:
                        del model[data]
            now = whereabouts(spool)
            assert {data: name for data, (_, name) in now.items()} == model
            if step == "hold" and everything:
                assert not any(state is State.READY for state, _ in now.values())
            if step == "requeue" and everything:
                assert not any(state is State.DEAD for state, _ in now.values())


def test_a_requeued_orphan_is_told_what_it_lacks(queue, run):
    """It comes back to orphans/ otherwise, and nothing says why."""
    orphans = queue / ".watcher/orphans"
    orphans.mkdir(parents=True)
    (orphans / "a.msg").write_bytes(b"text")
    (orphans / "b.db").write_bytes(b"")
    (orphans / "c.msg").write_bytes(b"text")
    (orphans / "c.db").write_bytes(b"")
    for argument in ("--dry-run", "--json"):
        told = run("requeue", queue, "ALL", "--legacy", argument, "--json").splitlines()
        why = {each["entry"]: each["why"] for each in map(json.loads, told)}
        assert why["a"].startswith("its .db is missing: an orphan again when it is of age")
        assert why["b"].startswith("its message is missing: an orphan again")
        assert why["c"] == ""


def test_a_selection_of_nothing_says_by_which_rules_there_is_nothing(
    queue, watcher_command, environment
):
    (queue / "report.csv").write_bytes(b"data")
    for command in ("list", "hold", "release", "requeue", "delete"):
        selected = [] if command == "list" else ["ALL"]
        for more in ([], ["--json"]):
            argv = [*watcher_command, command, str(queue), *selected, *more]
            ended = subprocess.run(argv, env=environment, capture_output=True, timeout=30)
            assert (ended.returncode, ended.stdout) == (0, b"")
            said = b"" if more else b"no entries (for format=mailman, suffix=.pck)\n"
            first, _, elsewhere = ended.stderr.partition(b"no " + os.fsencode(queue))
            assert first == said
            assert elsewhere.endswith(b"(--state-dir)\n") != bool(more)
    argv = [*watcher_command, "explain", str(queue / "report.csv")]
    told = subprocess.run(argv, env=environment, capture_output=True, timeout=30).stdout
    assert b"not an entry for format=mailman, suffix=.pck" in told
    assert b"never touched" not in told
