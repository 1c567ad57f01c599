"""An entry in every state, through every command: `lifecycle.TABLE` says what each does with it.

A new member of `State` fails here until list, count, explain, the commands of operators and the
documents know it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from tests.command_server import run_command
from watcher.claim.take import take
from watcher.cli.list import STATES
from watcher.inspect.counts import tally
from watcher.operate.select_entries import EVERY, states_for
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import TABLE, Move, State
from watcher.rules.names import STATE_DIRECTORIES, Layout
from watcher.rules.stamp import Schedule
from watcher.settle import moves
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.journal_line import PUT_AWAY
from watcher.spool.spool import Spool

ROOT = Path(__file__).parents[2]
LEGACY = Layout(legacy=True)
OPTIONS = ClaimOptions(0.0, Ages(SystemClock()))
ENDS = {State.DONE, State.REMOVED}  # nothing is on the disk any more
LISTED = [state for state in State if state not in ENDS]
BY_HAND = (Move.HOLD, Move.RELEASE, Move.REQUEUE, Move.DELETE)
FAR = Schedule(4_000_000_000_000, 1, 0, 30.0, 0.0)  # due in the year 2096
each_listed = pytest.mark.parametrize("state", LISTED, ids=lambda state: state.value)
each_move = pytest.mark.parametrize("move", BY_HAND, ids=lambda move: move.value)


@pytest.fixture
def spool(queue):
    """A queue with one entry in each state; each has the state's word for its name."""
    spool = Spool(os.fsencode(queue), LEGACY)
    for state in LISTED:
        scratch = queue.parent / "scratch"
        scratch.write_bytes(b"x")
        half = state is State.ARRIVING
        scratch.rename(queue / (f"{state.value}.msg" if half else f"{state.value}.pck"))
    for state in STATE_DIRECTORIES:
        claim = take(spool, f"{state.value}.pck".encode(), Proof.RENAMED, OPTIONS)
        assert isinstance(claim, Claim)
        if state is State.DEFERRED:
            assert moves.defer(spool, claim.parts, FAR, "not yet", {"attempts": 1})
        else:
            assert moves.put_away(spool, state, claim.parts, "why", {"attempts": 1})
        claim.release()
    with open(queue / "claimed.pck", "rb") as claimed:
        fcntl.flock(claimed, fcntl.LOCK_EX)
        yield spool


@pytest.fixture
def run(watcher_command, environment, queue, spool):
    """Run one command on the queue; return its exit code, its lines and its complaints."""

    def running(command, *arguments):
        argv = [*watcher_command, command, str(queue), *arguments, "--legacy"]
        ended = run_command(argv, env=environment, text=True)
        assert "Traceback" not in ended.stderr
        return ended.returncode, ended.stdout.splitlines(), ended.stderr

    return running


def test_every_state_has_its_word_for_list_and_its_directory_or_none():
    assert [*STATES] == [state.value for state in LISTED]
    assert set(EVERY) == set(LISTED) - {State.ARRIVING, State.CLAIMED}  # they lie in the queue
    assert set(PUT_AWAY) == set(STATE_DIRECTORIES) == set(EVERY) - {State.READY}
    assert len(set(STATE_DIRECTORIES.values())) == len(STATE_DIRECTORIES)


def test_list_shows_each_entry_in_its_state(run):
    code, lines, _ = run("list", "--json")
    assert code == os.EX_OK
    assert {(one["state"], one["entry"]) for one in map(json.loads, lines)} == {
        (state.value, state.value) for state in LISTED
    }


@each_listed
def test_list_shows_the_entries_of_one_state_alone(run, state):
    code, lines, _ = run("list", "--state", state.value, "--json")
    assert (code, [json.loads(line)["entry"] for line in lines]) == (os.EX_OK, [state.value])


def test_the_count_has_one_in_each_state(spool):
    said = str(tally(spool, waits=lambda name: name == b"arriving.msg"))
    for state in LISTED:
        word = "not complete" if state is State.ARRIVING else state.value
        assert f"1 {word}" in said


@each_listed
def test_cat_finds_what_is_an_entry(run, state):
    code, lines, _ = run("cat", state.value, "--raw")
    assert (code, lines) == (os.EX_OK, ["x"])


@pytest.mark.parametrize("state", STATE_DIRECTORIES, ids=lambda state: state.value)
def test_explain_names_the_state_and_only_commands_that_the_table_allows(run, queue, state):
    (path,) = (queue / ".watcher" / os.fsdecode(STATE_DIRECTORIES[state])).glob("*.pck")
    _, lines, _ = run("explain", str(path), "--json")
    found = json.loads(lines[-1])
    assert f"put away in {os.fsdecode(STATE_DIRECTORIES[state])}/" in found["verdict"]
    named = set(re.findall(r"watcher (\w+)", found["advice"]))
    operators = {move.value for move in BY_HAND}
    assert named & operators
    assert named & operators <= {move.value for one, move in TABLE if one is state}


@each_move
@pytest.mark.parametrize("state", EVERY, ids=lambda state: state.value)
def test_a_command_takes_an_entry_that_the_table_lets_it_and_no_other(run, state, move):
    code, lines, complaint = run(move.value, state.value, "--dry-run")
    if (state, move) in TABLE:
        assert code == os.EX_OK
        assert lines[0].startswith(f"{state.value}  {state.value}, would be ")
    else:
        assert (code, lines) in [(os.EX_NOINPUT, []), (os.EX_USAGE, [])]
        assert f"{state.value}: is {state.value}" in complaint


@each_move
@each_listed
def test_the_option_state_takes_the_states_of_the_table(run, state, move):
    code, lines, complaint = run(move.value, "ALL", "--state", state.value, "--dry-run")
    if state in states_for(move):
        assert (state, move) in TABLE
        assert (code in (os.EX_OK, os.EX_TEMPFAIL), len(lines) > 0) == (True, True)
    else:
        assert (code, lines) == (os.EX_USAGE, [])
        assert f"got '{state.value}'" in complaint


def test_the_documents_have_every_state_with_its_moves():
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## Life cycle")[2]
    rows = dict(
        re.findall(r"^\| (\w+) \| .*? \| (.*?) ?\|$", page.partition("\n## ")[0], re.MULTILINE)
    )
    for state in LISTED:
        words = re.findall(r"[a-z]+", rows[state.value])
        moved = {move for one, move in TABLE if one is state}
        assert all(move.value.split()[0] in words for move in moved), state
    readme = (ROOT / "README.md").read_text()
    assert ", ".join(STATES) in readme
