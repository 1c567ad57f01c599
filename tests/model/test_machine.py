"""Any order of writers, attempts, sweeps, operators, crashes and clock steps: nothing is lost.

Real directories and the program's own code. A crash is a real one: the step runs in a child that
ends itself before its n-th change of the disk. The model knows only what was accepted, what a
handler called done, and what an operator deleted.

What a step draws depends on what was drawn before and on nothing else: numbers, and pairs that were
begun. Names, moments and what lies in a directory differ between two runs of one example, and an
example that draws from these cannot be run again. `attempt` draws a number and counts off that many
entries, in the order in which the model made them; the jitter comes from `random`, which hypothesis
seeds for each example.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from watcher.attempt import Attempt
from watcher.commit_one import enqueue
from watcher.operate.operator import current_operator
from watcher.operate.operator_moves import Moves
from watcher.operate.select_entries import Filter, select, states_for
from watcher.rules.age import SECOND, Ages, SystemClock
from watcher.rules.archived_names import ArchiveOptions
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout
from watcher.rules.results import HANDLED, HandlerResult, Verdict
from watcher.rules.retry import Policy
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool.claimed import ClaimOptions
from watcher.spool.disk import DISK, Disk
from watcher.spool.spool import Spool
from watcher.sweep import Limits, Sweep, SweepOptions

LAYOUT = Layout(legacy=True)
CRASHED = 9
NAMES = ["a", "b", "c"]
POLICY = Policy(initial=5.0, max=20.0, max_attempts=6)
pytestmark = [pytest.mark.promise2, pytest.mark.promise4]


class Dying(Disk):
    """Ends the process before its n-th call that changes the disk."""

    def __init__(self, steps):
        self._left = steps

    def _step(self):
        self._left -= 1
        if self._left < 0:
            os._exit(CRASHED)

    def unlink(self, *arguments):
        self._step()
        super().unlink(*arguments)

    def move(self, *arguments):
        self._step()
        super().move(*arguments)

    def move_aside(self, *arguments):
        self._step()
        super().move_aside(*arguments)

    def archive(self, *arguments):
        self._step()
        super().archive(*arguments)

    def make_directory(self, *arguments):
        self._step()
        super().make_directory(*arguments)

    def write_note(self, *arguments, durable=True):
        self._step()
        super().write_note(*arguments, durable=durable)


class Stepped:
    """The system's clock, set forward and back."""

    def __init__(self):
        self.offset = 0
        self.passed = 0

    def real(self):
        return SystemClock().real() + self.offset + self.passed

    def mono(self):
        return SystemClock().mono() + self.passed


class Handler:
    """Writes down what it was given before it answers."""

    def __init__(self, directory, verdict):
        self.directory = directory
        self.verdict = verdict

    def run(self, entry):
        text = entry.message.decode()
        whole = text.startswith("<") and text.endswith(">")
        assert whole, f"handled half: {text!r}"
        if entry.form == "pair":
            assert entry.metadata == {}, "not its own metadata"
        kind = "done" if self.verdict is Verdict.DONE else "seen"
        with open(self.directory / kind, "a", encoding="utf-8") as record:
            record.write(text + "\n")
        return HANDLED if self.verdict is Verdict.DONE else HandlerResult(self.verdict, "as told")

    def terminate(self):
        raise AssertionError


class Machine(RuleBasedStateMachine):
    """One queue directory, and all that work in it."""

    halves = Bundle("halves")

    @initialize(archives=st.booleans())
    def begin(self, archives):
        self.archives = archives
        self.brought_back = 0  # entries, at most
        self.directory = Path(tempfile.mkdtemp(prefix="machine"))
        self.queue = self.directory / "queue"
        self.queue.mkdir()
        self.clock = Stepped()
        self.ages = Ages(self.clock)
        self.accepted = set()
        self.deleted = set()
        self.writer_of = {}  # the latest pair begun of each name
        self.crashes = 0
        self.next = 0

    def teardown(self):
        if hasattr(self, "directory"):
            self.settle_all()
            shutil.rmtree(self.directory)

    # -- writers ------------------------------------------------------------------------------

    def message(self, name):
        self.next += 1
        return f"<{name} {self.next}>"

    @rule()
    def commit(self):
        text = self.message("new")
        enqueue(str(self.queue), text.encode())
        self.accepted.add(text)

    @rule(target=halves, name=st.sampled_from(NAMES), first=st.sampled_from([".msg", ".db"]))
    def begin_pair(self, name, first):
        text = self.message(name)
        if not self.numbered_name(
            name
        ):  # a writer of pairs never reuses a name that is in the queue
            self.write(name, first, text)
            self.writer_of[name] = text
        return (name, first, text)  # a value each time: what is in the bundle is drawn from

    @rule(half=halves)
    def end_pair(self, half):
        name, first, text = half
        if text in self.accepted or self.writer_of.get(name) != text:
            return  # not begun, or its half would go over another writer's: no two draw one name
        other = ".db" if first == ".msg" else ".msg"
        self.write(name, other, text)
        self.accepted.add(text)

    def write(self, name, suffix, text):
        scratch = self.directory / "scratch"
        scratch.write_bytes(b"{0" if suffix == ".db" else text.encode())
        scratch.rename(self.queue / f"{name}{suffix}")

    def numbered_name(self, name):
        found = (path for path in self.queue.rglob(f"*{name}*") if path.suffix in (".msg", ".db"))
        return [path for path in found if path.parent.name != "archive"]

    # -- the program --------------------------------------------------------------------------

    def spool(self, disk=DISK):
        spool = Spool(os.fsencode(self.queue), LAYOUT, disk)
        spool.use_archive(ArchiveOptions(b"archive") if self.archives else None)
        return spool

    def perform(self, step, crash_after):
        """Do a step here, or in a child that dies in its midst."""
        if crash_after is None:
            step(self.spool())
            return
        pid = os.fork()
        if pid == 0:
            try:
                step(self.spool(Dying(crash_after)))
            finally:
                os._exit(0 if crash_after is None else CRASHED)
        os.waitpid(pid, 0)
        self.crashes += 1

    def settlement(self, listen=lambda _record: None):
        terms = ClaimOptions(0.0, self.ages)
        patience = DiskRetry(lambda _seconds: False, lambda _text: None)
        return Finisher("q", terms, POLICY, self.clock, listen, patience)

    CRASH = st.one_of(st.none(), st.none(), st.integers(0, 8))
    VERDICT = st.sampled_from([Verdict.DONE, Verdict.RETRY, Verdict.REJECT, Verdict.CRASHED])

    def in_order(self, path):
        """Return a key that puts files in the order in which the model made them."""
        number = re.search(rb"<\w+ (\d+)>", path.read_bytes())
        return int(number[1]) if number else 0, path.suffix, path.name.rpartition("-")[2]

    @rule(which=st.integers(0, 40), verdict=VERDICT, crash_after=CRASH)
    def attempt(self, which, verdict, crash_after):
        paths = [path for path in self.queue.iterdir() if path.is_file()]
        deferred = self.queue / ".watcher/deferred"
        if deferred.exists():
            paths += [
                path
                for path in deferred.iterdir()
                if path.suffix in (".pck", ".msg") and path.name[0] != "."
            ]
        if not paths:
            return
        path = sorted(paths, key=self.in_order)[which % len(paths)]
        name = os.fsencode(path.name if path.parent == self.queue else f"deferred/{path.name}")
        handler = Handler(self.directory, verdict)
        self.perform(
            lambda spool: Attempt(handler, self.settlement())(spool, name, Proof.NONE), crash_after
        )

    @rule(verdict=VERDICT, crash_after=CRASH)
    def sweep(self, verdict, crash_after):
        self.perform(lambda spool: self.sweep_once(spool, verdict), crash_after)

    def sweep_once(self, spool, verdict):
        orders = SweepOptions("q", ClaimOptions(0.0, self.ages), POLICY, self.clock)
        sweep = Sweep(spool, orders, Handler(self.directory, verdict), Limits())
        for _line in sweep.lines(lambda _record: None):
            pass

    # -- the operator -------------------------------------------------------------------------

    @rule(
        move=st.sampled_from([Move.HOLD, Move.RELEASE, Move.REQUEUE, Move.DELETE]),
        crash_after=CRASH,
        most=st.integers(1, 3),
    )
    def operate(self, move, crash_after, most):
        if move is Move.DELETE:
            crash_after = None  # what was deleted is read off the disk
        before, halves = self.on_disk(), self.metadata_names()
        self.perform(lambda spool: self.operate_once(spool, move, most), crash_after)
        if move is Move.DELETE:
            self.deleted |= before - self.on_disk()
            gone = halves - self.metadata_names()  # an orphan: its pair can never be whole
            self.deleted |= {
                f"<{name} {number}>" for name in gone for number in range(self.next + 1)
            }

    @rule(crash_after=CRASH, most=st.integers(1, 3))
    def bring_back(self, crash_after, most):
        """Requeue what is archived: it is done again."""
        if self.archives and (self.queue / "archive").exists():
            self.brought_back += most
            self.perform(
                lambda spool: self.operate_once(spool, Move.REQUEUE, most, (State.DONE,)),
                crash_after,
            )

    def operate_once(self, spool, move, most=None, states=None):
        states = states_for(move) if states is None else states
        entries, missing = select(spool, None, move, states, Filter(), 1 << 20)
        assert not missing
        moves = Moves(spool, ClaimOptions(0.0, self.ages), current_operator())
        for _moved in moves.make(move, entries[:most]):
            pass

    # -- time ---------------------------------------------------------------------------------

    @rule(seconds=st.integers(1, 10**7))
    def time_passes(self, seconds):
        self.clock.passed += seconds * SECOND

    @rule(seconds=st.integers(-(10**8), 10**8))
    def the_clock_is_stepped(self, seconds):
        self.clock.offset = seconds * SECOND

    # -- what must hold -----------------------------------------------------------------------

    def on_disk(self):
        return set(self.texts(self.queue))

    def texts(self, directory):
        for path in directory.rglob("*"):
            if path.suffix in (".pck", ".msg") and path.is_file():
                data = path.read_bytes()
                begin, end = data.find(b"<"), data.find(b">")
                yield data[begin : end + 1].decode()

    def metadata_names(self):
        return {path.stem.rpartition("-")[2].partition("~")[0] for path in self.queue.rglob("*.db")}

    def record(self, kind):
        path = self.directory / kind
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    @invariant()
    def nothing_is_lost(self):
        if not hasattr(self, "directory"):
            return
        done = set() if self.archives else set(self.record("done"))
        there = self.on_disk() | done | self.deleted
        assert self.accepted <= there, f"lost: {self.accepted - there}"

    @invariant()
    def nothing_is_done_twice_without_a_crash(self):
        if hasattr(self, "directory") and not self.crashes:
            done = self.record("done")
            assert len(done) - len(set(done)) <= self.brought_back

    def settle_all(self):
        """Whatever happened, an operator and a few sweeps bring every entry to its end."""
        self.clock.offset = 0
        self.clock.passed += 10**9 * SECOND
        if self.archives and (self.queue / "archive").exists():  # the rest of a pair is among it
            self.operate_once(self.spool(), Move.REQUEUE, None, (State.DONE,))
        for _ in range(4):
            for move in (Move.RELEASE, Move.REQUEUE):
                spool = self.spool()
                entries, _ = select(spool, None, move, states_for(move), Filter(), 1 << 20)
                if move is Move.REQUEUE:
                    entries = [entry for entry in entries if entry.state is not State.ORPHAN]
                moves = Moves(spool, ClaimOptions(0.0, self.ages), current_operator())
                left = [moved for moved in moves.make(move, entries) if moved.state is None]
                assert not left
            self.sweep_once(self.spool(), Verdict.DONE)
        lost = self.accepted - set(self.record("done")) - self.deleted
        assert not lost, f"never handled: {lost}; {sorted(self.queue.rglob('*'))}"
        if self.archives:
            archived = sorted(self.texts(self.queue / "archive"))
            assert len(archived) == len(set(archived)), "each once"
            assert self.accepted - self.deleted <= set(archived) <= set(self.record("done"))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(4))  # so that workers share them
def test_many_more_orders(part):
    run_state_machine_as_test(Machine, settings=settings(max_examples=300, stateful_step_count=50))
