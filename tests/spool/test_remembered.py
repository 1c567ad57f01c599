"""What a handler remembers of an entry: durable before the entry is due again, until it is done."""

from __future__ import annotations

import os
import sys

import pytest

from tests.cli.test_operator_moves import make, open_spool, put
from tests.spool.test_deferred_entries import settle_by
from watcher.attempt import Attempt
from watcher.recovery import recover
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout, in_deferred
from watcher.rules.results import HANDLED, AttemptEnd, HandlerResult, Verdict
from watcher.rules.retry import Policy
from watcher.spool.abort_request import AbortRequest
from watcher.spool.disk import Disk
from watcher.spool.notes import read_note

RAW = Layout(b"", raw=True)
NAME = b"a.csv"
KNOWN = {"accepted": ["ann@example.org"], "refused": {"x": "550 é \udc80"}}
LATER = HandlerResult(Verdict.RETRY, "not now", remembered=KNOWN)
SILENT = HandlerResult(Verdict.RETRY, "not now")


class Telling:
    """A handler that answers with one result and keeps what it was told of earlier attempts."""

    def __init__(self, *results):
        self.results = list(results)
        self.told = []
        self.keys = set()

    def run(self, entry):
        self.told.append(entry.remembered)
        self.keys.add(entry.key)
        return self.results.pop(0)


class Recorded(Disk):
    """A disk that keeps the order of its calls."""

    def __init__(self):
        self.calls = []

    def write_note(self, name, directory, data, *, durable=True):
        self.calls.append(("note", durable))
        super().write_note(name, directory, data, durable=durable)

    def move(self, *names):
        self.calls.append(("move",))
        return super().move(*names)

    def sync(self, directory):
        self.calls.append(("sync", directory))
        super().sync(directory)


@pytest.fixture
def spool(queue):
    put(queue, NAME, b"message")
    return open_spool(queue, RAW, Recorded())


def attempt(spool, handler, name=NAME, policy=Policy(initial=0.001)):  # noqa: B008 - immutable
    return Attempt(handler, settle_by(policy))(spool, name, Proof.RENAMED)


def test_the_next_attempts_are_told_until_the_handler_says_something_else(spool):
    other = {"accepted": []}
    handler = Telling(LATER, SILENT, HandlerResult(Verdict.RETRY, "", remembered=other), HANDLED)
    name = NAME
    for _ in range(3):
        name = attempt(spool, handler, name).name
    assert attempt(spool, handler, name).result is AttemptEnd.DONE
    assert handler.told == [{}, KNOWN, KNOWN, other]


def test_it_is_on_disk_before_the_entry_is_deferred_and_the_move_is_synced_too(spool):
    attempt(spool, Telling(LATER))
    deferred = spool.state_dir(State.DEFERRED)
    ours = spool.disk.calls[spool.disk.calls.index(("note", True)) :]
    moves = [("move",)] * 2  # of the note, whose bytes are synced, and of the entry
    assert ours == [("note", True), *moves, ("sync", deferred), ("sync", spool.fd)]


def test_without_it_a_deferral_is_not_synced(spool):
    attempt(spool, Telling(SILENT))
    assert ("note", False) in spool.disk.calls
    assert ("sync", spool.fd) not in spool.disk.calls


def test_a_dead_entry_that_is_requeued_knows_it_and_has_its_key(spool, queue):
    handler = Telling(LATER, HandlerResult(Verdict.REJECT, "no", remembered=KNOWN), HANDLED)
    name = attempt(spool, handler).name
    assert attempt(spool, handler, name).result is AttemptEnd.REJECTED
    ((moved,), _) = make(spool, Move.REQUEUE)
    assert (moved.state, "remembers" in moved.why) == (State.DEFERRED, True)
    (name,) = [each for each in os.listdir(queue / ".watcher/deferred") if each[-1] == "v"]
    assert attempt(spool, handler, in_deferred(os.fsencode(name))).result is AttemptEnd.DONE
    assert handler.told == [{}, KNOWN, KNOWN]
    assert len(handler.keys) == 1


def test_an_entry_that_is_held_and_released_knows_it(spool, queue):
    handler = Telling(LATER, HANDLED)
    attempt(spool, handler, policy=Policy(initial=3600.0))
    assert [moved.state for moved in make(spool, Move.HOLD)[0]] == [State.HELD]
    assert [moved.state for moved in make(spool, Move.RELEASE)[0]] == [State.DEFERRED]
    (name,) = [each for each in os.listdir(queue / ".watcher/deferred") if each[-1] == "v"]
    assert attempt(spool, handler, in_deferred(os.fsencode(name))).result is AttemptEnd.DONE
    assert handler.told == [{}, KNOWN]


def test_it_outlives_the_death_of_the_process_that_had_the_entry_in_hand(spool, queue, child):
    name = attempt(spool, Telling(LATER)).name
    program = (
        "import sys; from watcher.spool.spool import Spool\n"
        "from watcher.rules.names import Layout\n"
        "from watcher.claim.take_deferred import take_deferred; import os\n"
        "from tests.spool.test_deferred_entries import settle_by\n"
        "spool = Spool(os.fsencode(sys.argv[1]), Layout(b'', raw=True))\n"
        "claim = take_deferred(spool, os.fsencode(sys.argv[2]), settle_by().terms)\n"
        "spool.ledger.take(spool, claim.parts[0]); print('in hand', flush=True); input()"
    )
    process = child(program, queue, os.fsdecode(name))
    assert process.hear() == "in hand", sys.path
    process.kill()
    assert recover(spool, settle_by()).entries == 1
    (name,) = [each for each in os.listdir(queue / ".watcher/deferred") if each[-1] == "v"]
    assert "-c1-" in name
    deferred = spool.state_dir(State.DEFERRED)
    assert read_note(deferred, os.fsencode(name), RAW)["remembered"] == KNOWN


def test_an_attempt_that_an_operator_aborts_remembers_all_the_same():
    assert AbortRequest("ann").result(LATER).remembered == KNOWN


@pytest.mark.parametrize("damage", ["", "[]", '{"remembered": 5}', "{" * 9999, None])
def test_a_lost_note_is_an_empty_memory(spool, queue, damage):
    handler = Telling(LATER, HANDLED)
    name = attempt(spool, handler).name
    (note,) = (queue / ".watcher/deferred").glob("*.json")
    note.unlink()
    if damage is not None:
        note.write_text(damage)
    assert attempt(spool, handler, name).result is AttemptEnd.DONE
    assert handler.told == [{}, {}]
