"""`watcher torture`: it finds what is wrong when something is, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings, strategies as st

from watcher.errors import TryAgain
from watcher.rules.finding import BAD, OK, WARNING
from watcher.torture import event_log, test_message, workdir
from watcher.torture.account import Observed, balance
from watcher.torture.event_log import EventLog, EventLogReader, Line
from watcher.torture.verdict import BROKEN, KEPT, UNKNOWN, Fact, judge

PATIENCE = 60.0


def lines(output):
    return [json.loads(line) for line in output.splitlines()]


def promises(records):
    return {record["promise"]: record for record in records if "promise" in record}


def at_work_in(directory):
    """The processes that have their working directory below this one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(str(directory)):
                found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.fixture
def torture(tmp_path, watcher_command, environment):
    """Start a torture of tmp_path/place with a file in it that is not ours to touch."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "theirs").write_text("untouched")
    started = []

    def start(*options, **pipes):
        process = subprocess.Popen(
            [*watcher_command, "torture", str(place), *options],
            env=environment,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **pipes},
        )
        started.append(process)
        return process

    start.place = place
    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_torture_too_short_for_any_entry_says_so_and_finds_nothing_wrong(torture):
    process = torture("--seconds", "0", "--json")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record for record in records if "trouble" in record or "kept" in record] == []
    verdicts = {record["promise"]: record["verdict"] for record in records if "promise" in record}
    assert verdicts[2] == "cannot be told"
    assert [path.name for path in torture.place.iterdir()] == ["theirs"]


def test_a_short_torture_accounts_for_every_entry_and_leaves_nothing(torture):
    process = torture("--seconds", "2", "--seed", "7", "--json")
    out, err = process.communicate(timeout=PATIENCE)
    assert err == ""
    records = lines(out)
    found = promises(records)
    (chaos,) = (record for record in records if "kills" in record)
    facts = [record for record in records if "fact" in record]
    assert (len(facts), [fact for fact in facts if fact["grade"] == BAD]) == (16, [])
    assert chaos["kills"] > 3
    assert chaos["accepted"] == chaos["done"] + chaos["dead"] > 0
    assert {number: found[number]["verdict"] for number in (1, 2, 3, 4)} == dict.fromkeys(
        (1, 2, 3, 4), KEPT
    )
    assert records[0]["seed"] == 7
    assert [record for record in records if "trouble" in record] == []
    broken = any(each["verdict"] == BROKEN for each in found.values())  # tmpfs: promise 5
    assert process.returncode == (os.EX_UNAVAILABLE if broken else os.EX_OK)
    assert os.listdir(torture.place) == ["theirs"]
    assert at_work_in(torture.place) == []


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_of_it(torture):
    process = torture("--json")
    out, _err = process.communicate(timeout=100)
    records = lines(out)
    found = promises(records)
    assert [record for record in records if "trouble" in record] == []
    assert [found[number]["verdict"] for number in (1, 2, 3, 4)] == [KEPT] * 4
    assert os.listdir(torture.place) == ["theirs"]


def test_an_entry_that_somebody_deletes_is_named_and_the_directory_kept(torture):
    process = torture("--seconds", "1.5", "--seed", "1", "--json")
    over = threading.Event()
    deleter = threading.Thread(target=delete_entries, args=(torture.place, over))
    deleter.start()
    out, _err = process.communicate(timeout=PATIENCE)
    over.set()
    deleter.join()
    records = lines(out)
    (chaos,) = (record for record in records if "lost" in record)
    third = promises(records)[3]
    assert (process.returncode, third["verdict"]) == (os.EX_UNAVAILABLE, BROKEN)
    assert f"{len(chaos['lost'])} LOST" in third["what"]
    assert chaos["lost"][0] in third["what"]
    (kept,) = set(os.listdir(torture.place)) - {"theirs"}
    assert records[-1] == {"kept": str(torture.place / kept)}
    assert at_work_in(torture.place) == []


def delete_entries(place, over):
    """Be the program that unlinks what is still to be handled."""
    while not over.wait(0.002):
        for path in place.glob("watcher-torture.*/queue/*.pck"):
            path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupt_ends_every_process_and_removes_the_directory(torture, number):
    """With a terminal to show the progress on."""
    ours, theirs = pty.openpty()
    process = torture("--seconds", "60", stderr=theirs)
    os.close(theirs)
    shown = b""
    with open(ours, "rb", buffering=0) as terminal:
        while b"kills and stops, " not in shown:
            shown += terminal.read(4096)
        assert len(at_work_in(torture.place)) > 3
        process.send_signal(number)
        assert process.wait(PATIENCE) == 130
        shown += terminal.read(65536)
    assert b"watcher: interrupted" in shown
    assert b"accepted" in shown
    assert os.listdir(torture.place) == ["theirs"]
    assert at_work_in(torture.place) == []


def test_no_process_outlives_a_torture_that_is_killed(torture, eventually):
    process = torture("--seconds", "60", stdout=subprocess.DEVNULL)
    eventually(lambda: len(at_work_in(torture.place)) > 3)
    process.kill()
    process.wait()
    eventually(lambda: not at_work_in(torture.place))


PROGRAM = """
import os, sys
from watcher.torture.processes import Processes
processes = Processes(sys.argv[1], os.environ)
script = "setsid sh -c 'sleep 999 & sleep 999' & echo > there; exec sleep 999"
child = processes.start("daemon", ["sh", "-c", script], "PROCESS")
while not os.path.exists(os.path.join(sys.argv[1], "there")):
    pass
processes.stop(processes.start("another", ["sleep", "999"], "PROCESS"))
processes.kill(child)
assert processes.orphans(), "what it left behind is ours"
processes.end_all()
"""


def test_the_end_of_all_processes_takes_what_they_left_behind(tmp_path):
    """In sessions of their own, and stopped; as the handler of a daemon that was killed is."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert at_work_in(tmp_path) == []


@pytest.mark.parametrize(
    ("directory", "code"),
    [
        ("missing", os.EX_NOINPUT),
        ("file", os.EX_NOINPUT),
        ("/sys", os.EX_NOPERM),
        ("x" * 5000, os.EX_CANTCREAT),
    ],
    ids=["missing", "a file", "not permitted", "name too long"],
)
def test_what_cannot_be_tortured_is_one_line(
    tmp_path, watcher_command, environment, directory, code
):
    (tmp_path / "file").touch()
    ended = subprocess.run(
        [*watcher_command, "torture", directory],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (code, "", 1)


def test_a_full_disk_is_not_tortured(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir, "ROOM", 1 << 62)
    with pytest.raises(TryAgain, match=r"free, a torture needs \d+ TiB"):
        workdir.make(str(tmp_path))
    assert os.listdir(tmp_path) == []


# -- facts: each trial finds what it is there to find ---------------------------------------------

COPIES = """
def rename(source, target, *, src_dir_fd, dst_dir_fd):
    with open(os.open(source, os.O_RDONLY, dir_fd=src_dir_fd), "rb") as file:
        data = file.read()
    with open(os.open(target, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, dir_fd=dst_dir_fd), "wb") as f:
        f.write(data)
os.rename = rename
"""
COARSE = """
real = os.fstat
class Coarse:
    def __init__(self, status):
        self.status = status
    def __getattr__(self, name):
        value = getattr(self.status, name)
        return value // 10**9 * 10**9 if name.endswith("time_ns") else value
os.fstat = lambda fd: Coarse(real(fd))
"""
OVERWRITES = """
Disk.move = lambda _disk, name, source, target_name, target: os.rename(
    name, target_name, src_dir_fd=source, dst_dir_fd=target)
"""
SETTABLE = """
real = os.fstat
class Settable:
    def __init__(self, status):
        self.st_ctime = status.st_mtime
os.fstat = lambda fd: Settable(real(fd))
"""
# What is broken, the trial that is there to find it, and what it says then and otherwise.
SABOTAGE = {
    "a rename that copies": (COPIES, "[contention.renames(fd)]", BAD),
    "a move that overwrites": (OVERWRITES, "[file_system_facts._move(fd)]", BAD),
    "a lock that does not lock": ("fcntl.flock = lambda *_: None", "contention.locks(fd)", BAD),
    "a lease that sees nothing": ("lease.writer = lambda _: Writer.NONE", "LEASES", BAD),
    "a lease that sees ghosts": ("lease.writer = lambda _: Writer.SOME", "LEASES", BAD),
    "no leases": ("lease.writer = lambda _: Writer.UNKNOWN", "LEASES", WARNING),
    "no events": ("Inotify.read = lambda _: []", "[contention.events(path, 'ext4')]", WARNING),
    "a refused sync": (
        "os.fsync = lambda _: os.rmdir('/')",
        "[file_system_facts._sync(path)]",
        BAD,
    ),
    "whole seconds": (COARSE, "file_system_facts._tick(os.open(path + '/t', os.O_CREAT))", WARNING),
    "a ctime to be set": (
        SETTABLE,
        "[file_system_facts._clock(os.open(path + '/t', os.O_CREAT))]",
        BAD,
    ),
}
TRY = """
import fcntl, json, os, sys
from watcher.arrive.inotify import Inotify
from watcher.spool import lease
from watcher.rules.evidence import Writer
from watcher.spool.disk import Disk
from watcher.torture import contention, file_system_facts
contention.RENAMING, contention.PATIENCE, file_system_facts.TIMES = 0.2, 0.3, 1.2
lease.ignore_sigio()
path = sys.argv[1]
fd = os.open(path, os.O_RDONLY)
SABOTAGE
for fact in TRIAL:
    print(json.dumps(fact))
"""


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_trial_finds_what_it_is_for(tmp_path, name):
    """Where nothing is broken none finds anything: `test_a_short_torture` has them all."""
    sabotage, trial, grade = SABOTAGE[name]
    script = TRY.replace("TRIAL", trial).replace("LEASES", "[contention.leases(fd, 'ext4')]")
    script = script.replace("SABOTAGE", sabotage)
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.stderr == ""
    grades = [grade for _about, grade, _what, _promise in lines(ended.stdout)]
    assert grade in grades, ended.stdout


# -- the account ----------------------------------------------------------------------------------


def accepted(number, protocol="enqueue", process=1):
    return [
        Line("begun", process, process, 0, number, f"{protocol}/N{number}"),
        Line("accepted", process, process, 1, number, f"{protocol}/N{number}"),
    ]


def handled(number, process, began, ended, answer="done"):
    begin = Line("begin", process, process, began, number)
    return [begin, Line(answer, process, process, ended, number)] if answer else [begin]


TWICE = [*handled("1.1", 5, 10, 20), *handled("1.1", 6, 40, 50)]
HISTORIES = {
    "done": ((accepted("1.1"), handled("1.1", 5, 10, 20), {}, {}), {"done": 1}),
    "no process had it": ((accepted("1.1"), [], {}, {}), {"lost": ["1.1 (enqueue/N1.1)"]}),
    "begun, not accepted": ((accepted("1.1")[:1], [], {}, {}), {"begun": 1}),
    "retried, and then gone": (
        (accepted("1.1"), handled("1.1", 5, 10, 20, "retry"), {}, {}),
        {"lost": ["1.1 (enqueue/N1.1)"]},
    ),
    "rejected, and gone": (
        (accepted("1.1"), handled("1.1", 5, 10, 20, "reject"), {}, {}),
        {"lost": ["1.1 (enqueue/N1.1)"]},
    ),
    "rejected": (
        (accepted("1.1"), handled("1.1", 5, 10, 20, "reject"), {}, {"1.1": [".watcher/dead"]}),
        {"dead": 1},
    ),
    "dead, and no handler said so": (
        (accepted("1.1"), [], {}, {"1.1": [".watcher/dead"]}, {"1.1": "damaged: 3 bytes"}),
        {"dead": 1, "damaged": ["1.1 (enqueue/N1.1)"]},
    ),
    "dead of three deaths": (
        (accepted("1.1"), [], {}, {"1.1": [".watcher/dead"]}, {"1.1": "poison: it was 3 times"}),
        {"dead": 1},
    ),
    "never handled": (
        (accepted("1.1"), [], {}, {"1.1": ["."]}),
        {"left": ["1.1 (enqueue/N1.1)"]},
    ),
    "still deferred": (
        (accepted("1.1"), [], {}, {"1.1": [".watcher/deferred"]}),
        {"left": ["1.1 (enqueue/N1.1)"]},
    ),
    "whole, and an orphan": (
        (accepted("1.1"), [], {}, {"1.1": [".watcher/orphans"]}),
        {"orphaned": ["1.1 (enqueue/N1.1)"]},
    ),
    "done, three deaths, dead": (
        (
            accepted("1.1"),
            handled("1.1", 5, 10, 20),
            {5: 21},
            {"1.1": [".watcher/dead"]},
            {"1.1": "poison"},
        ),
        {"dead": 1},
    ),
    "again after a kill": ((accepted("1.1"), TWICE, {5: 30}, {}), {"done": 1, "repeated": 1}),
    "again by a command that began after the kill": (
        (accepted("1.1"), TWICE, {5: 5}, {}),
        {"done": 1, "repeated": 1},
    ),
    "again, and no process was killed": (
        (accepted("1.1"), TWICE, {}, {}),
        {"done": 1, "doubled": ["1.1 (enqueue/N1.1)"]},
    ),
    "again, and another killed": (
        (accepted("1.1"), TWICE, {6: 30}, {}),
        {"done": 1, "doubled": ["1.1 (enqueue/N1.1)"]},
    ),
    "again, and killed only then": (
        (accepted("1.1"), TWICE, {5: 45}, {}),
        {"done": 1, "doubled": ["1.1 (enqueue/N1.1)"]},
    ),
    "at once, whichever process was killed": (
        (
            accepted("1.1"),
            [*handled("1.1", 5, 10, 30, "retry"), *handled("1.1", 6, 20, 40)],
            {5: 15},
            {},
        ),
        {"done": 1, "overlapped": ["1.1 (enqueue/N1.1)"]},
    ),
    "begun by another before the first was killed": (
        (
            accepted("1.1"),
            [*handled("1.1", 5, 10, 0, ""), *handled("1.1", 6, 20, 40)],
            {5: 25},
            {},
        ),
        {"done": 1, "repeated": 0, "overlapped": ["1.1 (enqueue/N1.1)"]},
    ),
    "begun by another after the first was killed": (
        (
            accepted("1.1"),
            [*handled("1.1", 5, 10, 0, ""), *handled("1.1", 6, 20, 40)],
            {5: 15},
            {},
        ),
        {"done": 1, "repeated": 1},
    ),
    "two attempts of one process": (
        (
            accepted("1.1"),
            [*handled("1.1", 5, 10, 20, "retry"), *handled("1.1", 5, 30, 40)],
            {},
            {},
        ),
        {"done": 1},
    ),
    "torn": ((accepted("1.1"), [Line("torn", 5, 5, 9, "-", "N1.1")], {}, {}), {"torn": ["N1.1"]}),
    "torn by a writer in place that lives": (
        (accepted("1.1", "2.0.8")[:1], [Line("torn", 5, 5, 9, "-", "N1.1")], {}, {}),
        {"torn": ["N1.1"], "begun": 1},
    ),
    "cut short by a kill": (
        (accepted("1.1", "2.0.8")[:1], [Line("torn", 5, 5, 9, "-", "N1.1")], {1: 8}, {}),
        {"cut_short": 1, "begun": 1},
    ),
}


def observed_of(history):
    return Observed(*history, *([{}] if len(history) == 4 else []))


@pytest.mark.parametrize("name", HISTORIES)
def test_the_account_says_what_became_of_an_entry(name):
    history, expected = HISTORIES[name]
    account = balance(observed_of(history))
    found = {key: value for key, value in account._asdict().items() if value}
    whole = {"begun": 1, **({"accepted": 1} if len(history[0]) == 2 else {})}
    if "lost" in expected or ("torn" in expected and "begun" not in expected):
        expected = {"lost": ["1.1 (enqueue/N1.1)"], **expected}
    assert found == {**whole, **{key: value for key, value in expected.items() if value}}
    named = [key for key in expected if isinstance(expected[key], list)]
    assert bool(account.wrong) == bool(named)


@settings(max_examples=40)  # each writes files
@given(
    st.lists(st.binary(max_size=12).filter(lambda name: b"\0" not in name), max_size=8),
    st.data(),
)
def test_lines_are_read_whole_however_they_come_and_cut_ones_spoil_none(
    tmp_path_factory, names, data
):
    folder = str(tmp_path_factory.mktemp("logs"))
    log = EventLog(folder, event_log.HANDLED, 4)
    for number, name in enumerate(names):
        log.write("done", f"4.{number}", os.fsdecode(name))
        if data.draw(st.booleans(), label="a line that a kill cuts short"):
            cut = data.draw(st.integers(1, 20), label="after")
            with open(os.path.join(folder, event_log.HANDLED), "ab") as file:
                file.write(b"\ndone 4 4 12345 4.99 - ."[:cut])
    log.close()
    path = os.path.join(folder, event_log.HANDLED)
    with open(path, "rb") as file:
        text = file.read()
    os.rename(path, path + ".whole")
    reader = EventLogReader(folder, event_log.HANDLED)
    reader.read()
    steps = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4), label="reads at"))
    for step in [*steps, len(text)]:
        with open(path, "wb") as file:
            file.write(text[:step])
        reader.read()
    assert [line.number for line in reader.lines] == [f"4.{n}" for n in range(len(names))]
    assert [os.fsencode(line.rest) for line in reader.lines] == [name or b"-" for name in names]


@given(st.binary(max_size=300), st.data())
def test_a_message_proves_that_it_is_whole(body, data):
    post = test_message.compose("3.14", body)
    assert test_message.whole(post.message, post.metadata) == "3.14"
    assert test_message.number_in(b"\x80\x05" + post.message) == "3.14"
    cut = data.draw(st.integers(0, len(post.message) - 1))
    assert test_message.whole(post.message[:cut], post.metadata) is None
    assert test_message.whole(post.message, test_message.compose("3.15", body).metadata) is None


# -- the verdict ----------------------------------------------------------------------------------

GOOD = balance(observed_of(HISTORIES["done"][0]))
ORDER = Fact("order", OK, "")


def verdicts(facts=(ORDER,), account=GOOD, filesystem="ext4", options=()):
    return {each.number: each for each in judge(facts, account, filesystem, options)}


def test_the_promises_are_kept_where_nothing_speaks_against_them():
    found = verdicts()
    assert [found[number].verdict for number in range(1, 9)] == [
        *(KEPT, KEPT, KEPT, KEPT),
        *(UNKNOWN, KEPT, UNKNOWN, UNKNOWN),
    ]


@pytest.mark.parametrize("name", HISTORIES)
def test_an_entry_that_went_wrong_breaks_a_promise_and_is_named(name):
    history, _expected = HISTORIES[name]
    account = balance(observed_of(history))
    broken = [each for each in verdicts(account=account).values() if each.verdict == BROKEN]
    assert bool(broken) == bool(account.wrong)
    for entry in account.wrong:
        assert any(entry in each.what for each in broken)


def test_nothing_is_said_of_a_torture_in_which_nothing_was_handled():
    found = verdicts(account=balance(observed_of(([], [], {}, {}))))
    assert {found[number].verdict for number in (1, 2, 3, 4)} == {UNKNOWN}


def test_a_bad_fact_breaks_its_promise_and_a_warning_says_what_follows():
    assert verdicts([ORDER, Fact("lock", BAD, "none", 4)])[4].verdict == BROKEN
    found = verdicts([ORDER, Fact("lease", WARNING, "wait for the grace age", 1)])[1]
    assert found.verdict == KEPT
    assert "Lease: wait for the grace age" in found.what


@pytest.mark.parametrize(
    ("filesystem", "options", "verdict", "words"),
    [
        ("tmpfs", (), BROKEN, "memory"),
        ("overlay", ("volatile",), BROKEN, "volatile"),
        ("overlay", ("rw", "fsync=volatile"), BROKEN, "volatile"),
        ("overlay", (), UNKNOWN, "upper directory"),
        ("ext4", ("rw", "nobarrier"), UNKNOWN, "Mounted nobarrier"),
        ("ext4", ("rw", "data=writeback"), UNKNOWN, "data=writeback: harmless"),
        ("nfs4", (), UNKNOWN, "its server"),
        ("ext4", ("rw",), UNKNOWN, "No mount option speaks against it"),
    ],
)
def test_what_is_known_of_durability(filesystem, options, verdict, words):
    found = verdicts(filesystem=filesystem, options=options)[5]
    assert found.verdict == verdict
    assert words in found.what


def test_a_sync_that_is_refused_breaks_promise_5():
    assert verdicts([ORDER, Fact("sync", BAD, "refused", 5)])[5].verdict == BROKEN
