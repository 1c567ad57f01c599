"""Deferred entries: one rename takes all that scheduling needs; deaths are counted once each."""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import signal
from typing import NamedTuple

import pytest

from watcher.attempt import Attempt
from watcher.claim.take import take
from watcher.claim.take_deferred import take_deferred
from watcher.recovery import Recovered, recover
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import DEFERRED, Layout
from watcher.rules.results import HANDLED, AttemptEnd, HandlerResult, Reason, Verdict
from watcher.rules.retry import Policy
from watcher.rules.stamp import parse
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.settle.unremovable import Unremovable
from watcher.spool import last_words, ledger
from watcher.spool.claimed import ClaimOptions
from watcher.spool.disk import Disk

LEGACY = Layout(legacy=True)
RETRY = HandlerResult(Verdict.RETRY, "not now", None, "words", 75)
SOON = Policy(initial=0.001)


class Seen(NamedTuple):
    """What a handler was given."""

    name: str
    path: str
    attempt: int
    crashes: int
    key: str


class Handler:
    """Answers with one outcome, and keeps what it was given."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.given = []

    def run(self, entry):
        self.given.append(Seen(entry.name, entry.path, entry.attempt, entry.crashes, entry.key))
        return self.outcome(entry) if callable(self.outcome) else self.outcome


def settle_by(policy=SOON, trouble=lambda _text: None):
    clock = SystemClock()
    patience = DiskRetry(lambda _seconds: False, trouble)
    terms = ClaimOptions(0.0, Ages(clock))
    return Finisher("q", terms, policy, clock, lambda _record: None, patience)


def attempt(spool, name, outcome=RETRY, policy=SOON, proof=Proof.NONE):
    handler = Handler(outcome)
    report = Attempt(handler, settle_by(policy))(spool, name, proof)
    return report, handler.given


def entries(numbered_name):
    """Return the entries among the files of deferred/, by their own names."""
    found = {name: parse(name) for name in numbered_name if name[:1] != b"."}
    return {
        parsed[1]: numbered_name[name]
        for name, parsed in found.items()
        if parsed is not None and b"since" not in numbered_name[name]
    }


RAW = Layout(b".csv", raw=True)
ANY = Layout(b"", raw=True)
CASES = [
    (Layout(), [b"X.pck"]),
    (RAW, [b"X.csv"]),
    (ANY, [b"report"]),
    (ANY, [b"report.json"]),
    (ANY, [b"20200101T000000.000Z-a1-c0-d1-w1-X"]),  # looks as if it were stamped already
    (LEGACY, [b"X.msg", b"X.db"]),
]


@pytest.mark.parametrize(("layout", "names"), CASES)
def test_a_failed_attempt_puts_the_entry_under_a_stamp(open_spool, put, files, layout, names):
    for name in names:
        put(name, b"the " + name)
    spool = open_spool(layout)
    report, given = attempt(spool, names[0])
    assert (report.result, len(given)) == (AttemptEnd.DEFERRED, 1)
    assert files() == {}
    assert entries(files(State.DEFERRED)) == {name: b"the " + name for name in names}
    schedule, own = parse(report.name.removeprefix(DEFERRED))
    assert own == names[0]
    assert (schedule.attempts, schedule.crashes) == (1, 0)
    (note,) = [json.loads(data) for data in files(State.DEFERRED).values() if b"since" in data]
    assert (note["why"], note["attempts"], note["stderr"]) == ("not now", 1, "words")


@pytest.mark.parametrize(("layout", "names"), CASES)
def test_the_next_attempt_is_made_where_it_lies(open_spool, put, files, layout, names):
    for name in names:
        put(name, b"the " + name)
    spool = open_spool(layout)
    first, (seen,) = attempt(spool, names[0])
    second, (again,) = attempt(spool, first.name)
    assert (again.attempt, again.key, again.name) == (2, seen.key, seen.name)
    assert os.path.dirname(again.path).endswith(".watcher/deferred")
    assert parse(second.name.removeprefix(DEFERRED))[0].attempts == 2
    assert len(files(State.DEFERRED)) == len(names) + 1, "one note, the newest"
    done, _ = attempt(spool, second.name, HANDLED)
    assert done.result is AttemptEnd.DONE
    assert files(State.DEFERRED) == files() == {}


def test_a_namesake_waits_beside_it(open_spool, put, files):
    spool = open_spool()
    put(b"X.pck", b"one")
    one, _ = attempt(spool, b"X.pck")
    put(b"X.pck", b"other")
    other, _ = attempt(spool, b"X.pck")
    assert one.name != other.name
    numbered_name = files(State.DEFERRED)
    assert [numbered_name[report.name.removeprefix(DEFERRED)] for report in (one, other)] == [
        b"one",
        b"other",
    ]


def test_namesakes_of_one_millisecond_do_not_overwrite_each_other(
    open_spool, put, files, monkeypatch
):
    monkeypatch.setattr(SystemClock, "real", lambda _self: 1_795_431_193_250_000_000)
    spool = open_spool()
    for number in range(3):
        put(b"X.pck", b"%d" % number)
        attempt(spool, b"X.pck", policy=Policy(jitter=0.0))
    numbered_name = files(State.DEFERRED)
    assert sorted(data for data in numbered_name.values() if b"since" not in data) == [
        b"0",
        b"1",
        b"2",
    ]


def test_a_name_too_long_for_a_stamp_comes_back_whole(open_spool, put, files):
    name = b"n" * 240 + b".pck"
    put(name)
    spool = open_spool()
    first, (seen,) = attempt(spool, name)
    second, (again,) = attempt(spool, first.name)
    assert (again.name, again.key) == (seen.name, seen.key)
    rejected, _ = attempt(spool, second.name, HandlerResult(Verdict.REJECT, "no"))
    assert rejected.result is AttemptEnd.REJECTED
    assert files(State.DEFERRED) == {}


@pytest.mark.parametrize(("name", "durable"), [(b"X.pck", False), (b"n" * 240 + b".pck", True)])
def test_a_note_that_has_the_rest_of_a_name_is_durable(open_spool, put, name, durable):
    """Or a power failure that leaves the rename and not the note leaves another key."""
    told = []

    class Telling(Disk):
        def write_note(self, name, directory, data, *, durable=True):
            told.append(durable)
            super().write_note(name, directory, data, durable=durable)

    put(name)
    attempt(open_spool(Layout(), Telling()), name)
    assert told == [durable]


def test_it_is_given_up_when_the_policy_says_so(open_spool, put, files):
    put(b"X.pck")
    spool = open_spool()
    policy = Policy(initial=0.001, max_attempts=3)
    name = b"X.pck"
    for _ in range(2):
        report, _given = attempt(spool, name, policy=policy)
        name = report.name
    report, _given = attempt(spool, name, policy=policy)
    assert report.result is AttemptEnd.REJECTED
    assert sorted(files(State.DEAD)) == [b"X.json", b"X.pck"]
    note = json.loads(files(State.DEAD)[b"X.json"])
    assert note["attempts"] == 3
    assert "not now" in note["why"]


def test_what_the_disk_will_not_defer_stays_where_it_is(open_spool, put, files):
    class Full(Disk):
        def move(self, *_arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

    put(b"X.pck")
    spool = open_spool(disk=Full())
    told = []
    report = Attempt(Handler(RETRY), settle_by(trouble=told.append))(spool, b"X.pck", Proof.RENAMED)
    assert (report.result, list(files())) == (AttemptEnd.RETRY, [b"X.pck"])
    assert report.wait > 0
    assert "No space left" in told[-1]
    spool.disk = Disk()
    report = Attempt(Handler(RETRY), settle_by(trouble=told.append))(spool, b"X.pck", Proof.RENAMED)
    assert report.result is AttemptEnd.DEFERRED
    assert told[-1] is None, "it is over"


@pytest.mark.parametrize("word", [RETRY, HandlerResult(Verdict.REJECT, "no")])
def test_a_handler_that_moved_the_file_away_and_failed_leaves_nothing_to_put_away(
    open_spool, put, files, queue, word
):
    put(b"X.pck")

    def run_off(entry):
        os.rename(entry.path, queue.parent / "mine")
        return word

    report, _ = attempt(open_spool(), b"X.pck", run_off)
    assert (report.result, files(State.DEFERRED), files(State.DEAD)) == (AttemptEnd.GONE, {}, {})


def test_what_was_renamed_over_a_rejected_entry_stays_and_has_no_note(open_spool, put, files):
    put(b"X.pck")

    def replaced(_entry):
        put(b"X.pck", b"newer")
        return HandlerResult(Verdict.REJECT, "no")

    report, _ = attempt(open_spool(), b"X.pck", replaced)
    assert (report.result, files(), files(State.DEAD)) == (
        AttemptEnd.GONE,
        {b"X.pck": b"newer"},
        {},
    )


# -- pairs whose second rename never came --------------------------------------------------------


class Cut(BaseException):
    """The process died here."""


class Dying(Disk):
    """Dies before it moves a metadata half."""

    def move(self, name, source, target_name, target):
        if name.endswith(b".db"):
            raise Cut
        super().move(name, source, target_name, target)


def test_metadata_left_in_the_queue_follows_its_deferred_message(open_spool, put, files):
    put(b"X.msg", b"message")
    put(b"X.db", b"metadata")
    with pytest.raises(Cut):
        attempt(open_spool(LEGACY, Dying()), b"X.msg")
    assert list(files()) == [b"X.db"]
    spool = open_spool(LEGACY)
    (name,) = (name for name in files(State.DEFERRED) if name.endswith(b".msg"))
    report, given = attempt(spool, b"X.db")
    assert (report.result, given) == (AttemptEnd.FOLLOWED, [])
    done, given = attempt(spool, DEFERRED + name, HANDLED)
    assert (done.result, len(given)) == (AttemptEnd.DONE, 1)
    assert files() == files(State.DEFERRED) == {}


class Refusing(Disk):
    """Refuses to move a metadata half, so many times, with EPERM or EIO."""

    def __init__(self, times, error):
        self.times, self.error = times, error

    def move(self, name, source, target_name, target):
        if name.endswith(b".db") and self.times > 0:
            self.times -= 1
            raise OSError(self.error, os.strerror(self.error))
        super().move(name, source, target_name, target)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EIO])
def test_a_deferral_that_was_refused_the_metadata_is_completed(open_spool, put, files, error):
    """The message had gone: the second try took it for gone, and both halves ended in orphans/."""
    put(b"X.msg", b"message")
    put(b"X.db", b"metadata")
    spool = open_spool(LEGACY, Refusing(1, error))
    settlement = settle_by()
    settlement.patience = DiskRetry(lambda _seconds: True, lambda _text: None)
    now = [0.0]
    settlement.unremovable = kept = Unremovable(lambda: now[0])
    report = Attempt(Handler(RETRY), settlement)(spool, b"X.msg", Proof.NONE)
    if error == errno.EPERM:
        assert report.result is AttemptEnd.KEPT
        now[0] = 60.0
        ((_, report),) = kept.retry()
    assert report.result is AttemptEnd.DEFERRED
    assert sorted(entries(files(State.DEFERRED))) == [b"X.db", b"X.msg"]
    assert files() == {}


@pytest.mark.parametrize("when", ["before the first look", "between the looks"])
def test_a_deferred_message_whose_metadata_is_in_the_queue_is_no_orphan(
    open_spool, put, files, queue, when
):
    """Both are of age at the same moment: the one follows while the other is judged."""
    put(b"X.msg", b"message")
    put(b"X.db", b"metadata")
    with pytest.raises(Cut):
        attempt(open_spool(LEGACY, Dying()), b"X.msg")
    spool = open_spool(LEGACY)
    (name,) = (name for name in files(State.DEFERRED) if name.endswith(b".msg"))
    report, given = attempt(spool, DEFERRED + name, HANDLED)
    assert (report.result, given) == (AttemptEnd.YOUNG, []), "it waits for its .db"
    look = spool.stat

    def follow_then_look(wanted, directory=None):
        if wanted == b"X.db" and directory is None and (queue / "X.db").exists():
            (queue / "X.db").rename(queue / ".watcher/deferred" / os.fsdecode(name[:-3] + b"db"))
        return look(wanted, directory)

    if when == "between the looks":
        spool.stat = follow_then_look
        report, given = attempt(spool, DEFERRED + name, HANDLED)
        assert (report.result, len(given)) == (AttemptEnd.DONE, 1)
    assert files(State.ORPHAN) == {}


def test_metadata_left_under_the_old_stamp_follows_its_message(open_spool, put, files):
    put(b"X.msg", b"message")
    put(b"X.db", b"metadata")
    first, _ = attempt(open_spool(LEGACY), b"X.msg")
    with pytest.raises(Cut):
        attempt(open_spool(LEGACY, Dying()), first.name)
    spool = open_spool(LEGACY)
    (name,) = (name for name in files(State.DEFERRED) if name.endswith(b".msg"))
    handler = Handler(HANDLED)
    settlement = settle_by()
    settlement.terms = settlement.terms._replace(grace=300.0)
    report = Attempt(handler, settlement)(spool, DEFERRED + name, Proof.NONE)
    assert (report.result, handler.given) == (AttemptEnd.REUNITED, [])
    report = Attempt(handler, settlement)(spool, DEFERRED + name, Proof.NONE)
    assert (report.result, len(handler.given)) == (AttemptEnd.DONE, 1)
    assert entries(files(State.DEFERRED)) == {}


def test_a_deferred_message_whose_metadata_never_comes_is_an_orphan(open_spool, put, files, queue):
    put(b"X.msg", b"message")
    put(b"X.db", b"metadata")
    first, _ = attempt(open_spool(LEGACY), b"X.msg")
    for path in (queue / ".watcher/deferred").glob("*.db"):
        path.unlink()
    young = take_deferred(open_spool(LEGACY), first.name, ClaimOptions(300.0, Ages(SystemClock())))
    assert young.refusal is Reason.YOUNG, "it may be on its way"
    report, given = attempt(open_spool(LEGACY), first.name)
    assert (report.result, given) == (AttemptEnd.ORPHANED, [])
    assert files(State.ORPHAN)[b"X.msg"] == b"message"


def test_an_entry_that_no_handler_was_given_stays_where_it_is(open_spool, put, files):
    """The machine was short of processes or descriptors: that is no attempt of the entry's."""
    put(b"X.pck")
    short = HandlerResult(Verdict.RETRY, "no more processes", attempted=False)
    report, _ = attempt(open_spool(), b"X.pck", short, Policy(max_attempts=1))
    assert (report.result, report.why) == (AttemptEnd.STUCK, "X: no more processes")
    assert files() == {b"X.pck": b"data"}
    assert files(State.DEFERRED) == files(State.DEAD) == {}


# -- deaths ---------------------------------------------------------------------------------------


@pytest.fixture
def die(open_spool):
    """Have a process die with an entry in hand: a child of ours, by SIGKILL, in its handler."""

    def run(name, layout=Layout()):  # noqa: B008 - immutable
        pid = os.fork()
        if pid == 0:
            try:
                attempt(open_spool(layout), name, lambda _entry: os.kill(os.getpid(), 9))
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9

    return run


def stamps(files):
    return [parse(name) for name in files(State.DEFERRED) if not name.endswith((b".json", b".db"))]


@pytest.mark.parametrize(
    ("layout", "names"), [(Layout(), [b"X.pck"]), (LEGACY, [b"X.msg", b"X.db"]), (ANY, [b"X"])]
)
def test_a_death_is_counted_once_and_the_third_is_the_last(
    open_spool, put, files, die, layout, names
):
    for name in names:
        put(name, b"the " + name)
    where = names[0]
    for deaths in (1, 2):
        die(where, layout)
        assert recover(open_spool(layout), settle_by()).entries == 1
        assert recover(open_spool(layout), settle_by()).entries == 0, "counted already"
        ((schedule, own),) = stamps(files)
        assert (own, schedule.crashes, schedule.attempts) == (names[0], deaths, deaths)
        (where,) = (
            DEFERRED + name
            for name in files(State.DEFERRED)
            if name.endswith(names[0]) and b".json" not in name
        )
    die(where, layout)
    assert recover(open_spool(layout), settle_by()).entries == 1
    assert entries(files(State.DEFERRED)) == files() == {}
    dead = files(State.DEAD)
    assert [dead[name] for name in names] == [b"the " + name for name in names]
    (note,) = [json.loads(data) for data in dead.values() if b"since" in data]
    assert "poison" in note["why"]


def test_the_first_death_costs_no_delay(open_spool, put, files, die):
    put(b"X.pck")
    die(b"X.pck")
    recover(open_spool(), settle_by(Policy(initial=1000.0)))
    ((schedule, _),) = stamps(files)
    assert schedule.delay == 0


def test_what_a_dying_process_could_say_is_beside_the_entry(open_spool, put, files, queue):
    put(b"X.pck")
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()  # pytest's
        last_words._armed.clear()  # its parent's
        attempt(open_spool(), b"X.pck", lambda _entry: os.kill(os.getpid(), signal.SIGSEGV))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGSEGV
    recover(open_spool(), settle_by())
    (note,) = [json.loads(data) for data in files(State.DEFERRED).values() if b"since" in data]
    assert note["why"].endswith("died with it in hand: Segmentation fault")
    assert "test_deferred_entries.py" in note["stderr"]
    assert os.listdir(queue / ".watcher/inflight") == []


def test_an_entry_that_went_its_way_is_not_counted(open_spool, put, files, die):
    put(b"X.pck")
    die(b"X.pck")
    attempt(open_spool(), b"X.pck", HANDLED)  # by another daemon, before a recovery
    put(b"X.pck", b"a replacement")
    assert recover(open_spool(), settle_by()).entries == 0
    assert files() == {b"X.pck": b"a replacement"}


def test_an_entry_whose_handler_still_runs_is_judged_when_it_has_ended(open_spool, put, files, die):
    put(b"X.pck")
    die(b"X.pck")
    spool = open_spool()
    held = take(spool, b"X.pck", Proof.RENAMED, ClaimOptions(0.0, Ages(SystemClock())))
    assert recover(open_spool(), settle_by()).entries == 0
    assert files() == {b"X.pck": b"data"}
    held.release()
    assert recover(open_spool(), settle_by()).entries == 1
    assert files() == {}


def test_a_process_that_lives_is_not_dead(open_spool, put, files):
    put(b"X.pck")
    spool = open_spool()

    def while_in_hand(_entry):
        assert recover(open_spool(), settle_by()) == Recovered()
        return HANDLED

    attempt(spool, b"X.pck", while_in_hand)
    assert os.listdir(os.path.join(spool.path, b".watcher/inflight"))
    del spool
    assert files() == {}


def test_a_process_told_to_stop_at_once_is_no_death(open_spool, put, files):
    put(b"X.pck")
    pid = os.fork()
    if pid == 0:
        spool = open_spool()

        def stopped(_entry):
            spool.ledger.clear()
            os._exit(0)

        attempt(spool, b"X.pck", stopped)
    os.waitpid(pid, 0)
    assert recover(open_spool(), settle_by()) == Recovered()
    assert files() == {b"X.pck": b"data"}


@pytest.mark.parametrize(
    "outcome",
    [
        HandlerResult(Verdict.MISCONFIGURED, "not found", None, "", 127),
        HandlerResult(Verdict.RETRY, "no more processes", attempted=False),
    ],
)
def test_a_death_later_on_is_none_of_an_entry_that_was_let_go(open_spool, put, files, outcome):
    """Else a queue whose handler cannot be run would make poison of it by three restarts."""
    put(b"X.pck")
    pid = os.fork()
    if pid == 0:
        try:
            spool = open_spool()
            attempt(spool, b"X.pck", outcome)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert recover(open_spool(), settle_by()) == Recovered()
    assert files() == {b"X.pck": b"data"}


@pytest.mark.parametrize(
    "slot",
    [
        b"",
        b"1 2 queue/X.pck",  # torn: no newline
        b"1 2 queue/../X\n",
        b"1 2 queue/\n",
        b"1 2 elsewhere/X\n",
        b"x y queue/X.pck\n",
        b"\xff" * 600,
    ],
)
def test_a_ledger_that_makes_no_sense_counts_against_no_entry(open_spool, put, files, queue, slot):
    put(b"X.pck")
    place = queue / ".watcher/inflight/1.abc"
    place.mkdir(parents=True)
    (place / ".ledger").write_bytes(slot)
    assert recover(open_spool(), settle_by()) == Recovered()
    assert files() == {b"X.pck": b"data"}
    assert not place.exists()


def test_the_slots_of_several_workers(tmp_path):
    names = [b"one", b"two\nlines", b"x" * 255]
    lines = [b"%d 5 deferred/%s\n" % (number, name) for number, name in enumerate(names)]
    (tmp_path / ".ledger").write_bytes(b"".join(line.ljust(ledger.SLOT, b"\0") for line in lines))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found = ledger.read(fd)
    finally:
        os.close(fd)
    assert found == [ledger.InHand(n, 5, DEFERRED, name) for n, name in enumerate(names)]
