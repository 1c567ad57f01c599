"""Exec handlers, with real child processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import hashlib
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest

from tests.processes import gone
from watcher.handle import child_process, command as command_module, command_process
from watcher.handle.child_process import KEPT
from watcher.handle.command import INLINE, Command
from watcher.handle.entry import Entry
from watcher.rules.results import HANDLED, Verdict

BIG = random.Random(1).randbytes(1 << 20) * 5
HELL = b"-\xff\xfe $(touch pwned)\n\x1b[31m caf\xe9"


def python(text, *arguments):
    """Return a command that runs a Python program."""
    return [sys.executable, "-I", "-S", "-c", text, *map(os.fspath, arguments)]


def shell(text, *arguments):
    return ["/bin/sh", "-c", text, "sh", *map(os.fspath, arguments)]


@pytest.fixture
def entry(claimed_entry):
    """Make a claimed entry."""
    return claimed_entry


# -- what the command is given ----------------------------------------------------------------

REPORT = """
import hashlib, json, os, stat, sys
here = os.environb
message = b"".join(iter(lambda: os.read(0, 1 << 20), b""))
told = {
    "size": len(message),
    "sha256": hashlib.sha256(message).hexdigest(),
    "regular": stat.S_ISREG(os.fstat(0).st_mode),
    "argv": sys.argv[2:],
    "group": os.getpgrp() == os.getpid(),
    "environment": {
        key.decode(): value.hex() for key, value in here.items() if key.startswith(b"WATCHER_")
    },
}
if path := here.get(b"WATCHER_METADATA_FILE"):
    told["metadata"] = json.load(open(path))
    told["mode"] = stat.S_IMODE(os.stat(path).st_mode)
elif b"WATCHER_METADATA" in here:
    told["metadata"] = json.loads(here[b"WATCHER_METADATA"])
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""


@pytest.fixture
def report(tmp_path):
    """Run the reporting command on an entry and return what it saw."""
    path = tmp_path / "report"

    def run(entry, *arguments, timeout=None):
        outcome = Command(python(REPORT, path, *arguments), timeout).run(entry)
        assert outcome == HANDLED, outcome
        return json.loads(path.read_text())

    return run


@pytest.mark.parametrize("form", ["raw", "pck", "pair"])
@pytest.mark.parametrize("size", [0, 1, len(BIG)])
def test_the_whole_message_is_on_standard_input_as_a_file(entry, report, form, size):
    told = report(entry(BIG[:size], form=form))
    assert told["regular"]
    assert told["size"] == size
    assert told["sha256"] == hashlib.sha256(BIG[:size]).hexdigest()


@pytest.mark.parametrize("form", ["raw", "pck", "pair"])
def test_another_attempt_reads_the_message_from_its_beginning(entry, report, form):
    claimed = entry(b"from the start", form=form)
    assert report(claimed) == report(claimed)


@pytest.mark.parametrize("form", ["raw", "pck"])
def test_a_command_cannot_change_the_message_through_its_input(entry, form):
    claimed = entry(form=form)
    text = "import os\ntry: os.write(0, b'x')\nexcept OSError: os._exit(0)\nos._exit(1)"
    assert Command(python(text)).run(claimed) == HANDLED
    assert claimed.message == b"message"


def test_names_key_and_attempt_arrive_byte_for_byte(entry, report, queue):
    claimed = entry(stem=HELL, attempt=7)
    told = {key: bytes.fromhex(value) for key, value in report(claimed)["environment"].items()}
    assert told == {
        "WATCHER_QUEUE": b"q",
        "WATCHER_ENTRY": HELL,
        "WATCHER_KEY": claimed.key.encode(),
        "WATCHER_ATTEMPT": b"7",
        "WATCHER_FILE": b"/dev/fd/%d" % claimed.parts[0].fd,
        "WATCHER_PATH": os.path.join(os.fsencode(queue), HELL + b".pck"),
        "WATCHER_METADATA": b"{}",
    }


def test_arguments_are_passed_as_they_are_to_a_process_group_of_its_own(entry, report):
    arguments = ["$HOME", "; exit 9", "two words", "", "*", "-x", "`id`"]
    told = report(entry(), *arguments)
    assert told["argv"] == arguments
    assert told["group"]


@pytest.mark.parametrize("over", [0, 1])
def test_metadata_goes_through_a_file_when_the_environment_cannot_hold_it(
    entry, report, monkeypatch, over
):
    """Ours may itself run under a handler: what it was given must not be taken for ours."""
    monkeypatch.setenv("WATCHER_METADATA", '{"of": "another"}')
    monkeypatch.setenv("WATCHER_METADATA_FILE", "/nonexistent")
    metadata = {"filler": "x" * (INLINE - len('{"filler": ""}') + over)}
    told = report(entry(metadata=metadata))
    assert told["metadata"] == metadata
    environment = told["environment"]
    assert ("WATCHER_METADATA_FILE" in environment) == bool(over)
    assert ("WATCHER_METADATA" in environment) == (not over)
    if over:
        assert told["mode"] == 0o600
        assert not os.path.exists(bytes.fromhex(environment["WATCHER_METADATA_FILE"]))


def test_a_megabyte_of_metadata_is_no_obstacle(entry, report):
    metadata = {"recips": [f"somebody{number}@example.com" for number in range(50_000)]}
    assert report(entry(metadata=metadata))["metadata"] == metadata


def test_little_metadata_is_all_in_its_file_too(entry, report, monkeypatch):
    monkeypatch.setattr(command_module, "INLINE", 10)
    told = report(entry(metadata={"listname": "test"}))
    assert told["metadata"] == {"listname": "test"}
    assert "WATCHER_METADATA_FILE" in told["environment"]


def test_an_environment_that_is_full_leaves_metadata_to_the_file(entry, report, monkeypatch):
    """What execve(2) takes in all is a quarter of the stack's limit, arguments included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    room = 1 << 20
    left = room - (40 << 10) - sum(len(k) + len(v) + 10 for k, v in os.environb.items())
    for number in range(10):
        monkeypatch.setenv(f"FILLER{number}", "x" * (left // 10 - 20))
    metadata = {"filler": "y" * (INLINE - 4096)}
    resource.setrlimit(resource.RLIMIT_STACK, (room * 4, hard))
    try:
        told = report(entry(metadata=metadata))
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
    assert told["metadata"] == metadata
    assert "WATCHER_METADATA" not in told["environment"]
    assert not os.path.exists(bytes.fromhex(told["environment"]["WATCHER_METADATA_FILE"]))


def test_arguments_that_no_environment_makes_room_for_are_the_operators_mistake(entry):
    outcome = Command(["/bin/true", "x" * (1 << 20)]).run(entry())
    assert outcome.verdict is Verdict.MISCONFIGURED
    assert outcome.reason == "/bin/true: cannot be run: Argument list too long"


def test_no_room_for_metadata_is_a_retry(entry, monkeypatch):
    def full(*_arguments, **_more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(command_module.tempfile, "NamedTemporaryFile", full)
    outcome = Command(["/bin/true"]).run(entry(metadata={"filler": "x" * INLINE}))
    assert outcome.verdict is Verdict.RETRY
    assert "No space left" in outcome.reason


def test_a_command_gets_the_descriptors_of_its_own_claim_and_no_others(entry, tmp_path):
    """Six at once; each waits until all are there, and then looks what it has open."""
    text = """
import os, sys, time
own, count = sys.argv[1:]
place = os.path.dirname(own)
open(own, "w").close()
while len([name for name in os.listdir(place) if name.startswith("seen")]) < int(count):
    time.sleep(0.005)
links = []
for fd in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink("/proc/self/fd/" + fd))
    except OSError:
        pass
with open(own, "w") as file:
    file.write("\\n".join(links))
"""
    forms = ["raw", "pair", "pck"] * 2
    entries = [entry(form=form, stem=b"e%d" % number) for number, form in enumerate(forms)]
    outcomes = {}

    def run(number):
        own = tmp_path / f"seen{number}"
        outcomes[number] = Command(python(text, own, "6")).run(entries[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == dict.fromkeys(range(6), HANDLED)
    place = os.path.dirname(entries[0].path)
    for number, claimed in enumerate(entries):
        links = (tmp_path / f"seen{number}").read_text().split("\n")
        inside = {link for link in links if link.startswith(place)}
        assert inside == {os.path.join(place, os.fsdecode(part.name)) for part in claimed.parts}


# -- when we die ------------------------------------------------------------------------------

ORPHANED = """
import fcntl, hashlib, os, signal, sys, time
queue_file, gate, result = sys.argv[1:]
daemon = os.getppid()
digest = hashlib.sha256(os.read(0, 1000))
os.kill(daemon, signal.SIGKILL)
while os.getppid() == daemon:
    time.sleep(0.005)
with open(gate, "rb") as file:
    file.read()
size = 1000
while data := os.read(0, 1 << 16):
    digest.update(data)
    size += len(data)
with open(result + ".tmp", "w") as file:
    file.write(f"{size} {digest.hexdigest()}")
os.rename(result + ".tmp", result)
with open(gate, "rb") as file:
    file.read()
"""


def locked(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@pytest.mark.parametrize("style", ["raw", "mailman"])
def test_a_command_whose_daemon_is_killed_reads_on_and_keeps_the_claim(
    queue, tmp_path, watcher_command, environment, eventually, style
):
    file, gate, result = queue / "e.pck", tmp_path / "gate", tmp_path / "result"
    os.mkfifo(gate)
    file.write_bytes(BIG if style == "raw" else pickle.dumps(BIG, 2) + pickle.dumps({}, 2))
    sweep = [*watcher_command, "sweep", str(queue), "--grace-age", "0s", "--format", style]
    handler = python(ORPHANED, file, gate, result)
    ended = subprocess.run([*sweep, "--", *handler], env=environment, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert locked(file)
    again = subprocess.run(
        [*sweep, "--", "false"], env=environment, timeout=60, capture_output=True, text=True
    )
    assert again.returncode == 0
    assert "claimed by another" in again.stdout
    gate.open("wb").close()
    eventually(result.exists)
    assert result.read_text() == f"{len(BIG)} {hashlib.sha256(BIG).hexdigest()}"
    assert locked(file)  # it still lives
    gate.open("wb").close()
    eventually(lambda: not locked(file))
    assert file.exists()


# -- how it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 64, 71, 75, 78, 126, 127, 255])
def test_an_exit_status_comes_back_with_stderr(entry, status):
    outcome = Command(shell(f"echo first >&2; echo why >&2; exit {status}")).run(entry())
    assert (outcome.exit_status or 0) == status
    if status:
        assert outcome.reason == f"exit status {status}: why"
        assert outcome.stderr == "first\nwhy\n"


def test_a_signal_comes_back_negative(entry):
    outcome = Command(shell("kill -SEGV $$")).run(entry())
    assert (outcome.verdict, outcome.exit_status) == (Verdict.RETRY, -signal.SIGSEGV)


def test_of_much_stderr_the_end_is_kept_and_memory_stays_flat(entry):
    text = (
        "import os\nfor _ in range(50): os.write(2, b'x' * 1000000)\n"
        "os.write(2, b'\\xff the end')\nraise SystemExit(75)"
    )
    claimed = entry()
    tracemalloc.start()
    try:
        outcome = Command(python(text)).run(claimed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert outcome.stderr == "x" * (KEPT - 9) + "\\xff the end"
    assert outcome.verdict is Verdict.RETRY
    assert peak < 8 << 20


def test_a_script_that_opens_stderr_by_name_overwrites_nothing_of_its_own(entry):
    text = "echo first >&2; echo second > /dev/stderr; echo third >&2; exit 75"
    assert Command(shell(text)).run(entry()).stderr.endswith("second\nthird\n")


@pytest.fixture(params=["pidfd", "older kernel"])
def any_kernel(request, monkeypatch):
    if request.param == "older kernel":

        def pidfd_open(_pid):
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", pidfd_open)


RUNAWAY = """
import os, time
deadline = time.monotonic() + 30
os.write(2, b"x" * 3_000_000 + b"middle")
while os.fstat(2).st_blocks * 512 >= 3_000_000:
    assert time.monotonic() < deadline, "no room was made"
    time.sleep(0.01)
os.write(2, b" the end")
raise SystemExit(75)
"""


@pytest.mark.parametrize("timeout", [None, 60])
def test_stderr_without_end_does_not_fill_the_memory(entry, monkeypatch, any_kernel, timeout):
    monkeypatch.setattr(child_process, "LONGEST", 1 << 20)
    outcome = Command(python(RUNAWAY), timeout).run(entry())
    assert outcome.exit_status == os.EX_TEMPFAIL, outcome
    assert outcome.stderr.endswith("xmiddle the end")
    assert len(outcome.stderr) == KEPT


def test_a_file_that_cannot_be_cut_does_not_end_the_wait(entry, tmp_path, monkeypatch):
    tried = tmp_path / "tried"

    def forget(_fd, _size):
        tried.touch()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(child_process, "_forget", forget)
    monkeypatch.setattr(child_process, "LONGEST", 1)
    text = 'echo x >&2; echo the end >&2; until [ -e "$1" ]; do sleep 0.02; done; exit 75'
    outcome = Command(shell(text, tried)).run(entry())
    assert outcome.reason == "exit status 75: the end"


def test_a_child_left_behind_with_our_stderr_open_delays_no_entry(entry, tmp_path):
    left = tmp_path / "pid"
    began = time.monotonic()
    outcome = Command(shell('echo bye >&2; sleep 100 & echo $! > "$1"; exit 75', left)).run(entry())
    took = time.monotonic() - began
    pid = int(left.read_text())
    alive = not gone(pid)
    os.kill(pid, signal.SIGKILL)
    assert took < 50
    assert alive
    assert outcome.reason == "exit status 75: bye"


def test_one_that_ends_in_time_is_waited_for_without_looking_now_and_then(entry, monkeypatch):
    def sleep(_seconds):
        raise AssertionError("looked now and then")

    monkeypatch.setattr(time, "sleep", sleep)
    assert Command(shell("sleep 0.2"), timeout=60).run(entry()) == HANDLED


def test_a_timeout_ends_the_command_with_term(entry, tmp_path, any_kernel):
    told = tmp_path / "told"
    text = 'trap "echo term > $1; echo stopped >&2; exit 0" TERM; while :; do sleep 0.05; done'
    outcome = Command(shell(text, told), timeout=1).run(entry())
    assert told.read_text() == "term\n"
    assert outcome.verdict is Verdict.RETRY
    assert outcome.reason == "timeout: still running after 1s"
    assert outcome.stderr.endswith("stopped\n")  # the shell tells of its child's end, too


def test_a_timeout_kills_what_does_not_hear_term_and_its_children(
    entry, tmp_path, monkeypatch, any_kernel
):
    monkeypatch.setattr(command_module, "KILL_AFTER", 0.3)
    pids = tmp_path / "pids"
    text = "trap '' TERM; sleep 100 & echo $! $$ > \"$1\"; while :; do sleep 100; done"
    outcome = Command(shell(text, pids), timeout=1).run(entry())
    assert (outcome.verdict, outcome.exit_status) == (Verdict.RETRY, -signal.SIGKILL)
    child, leader = map(int, pids.read_text().split())
    assert gone(leader)
    assert wait_gone(child)


def test_a_timeout_kills_a_grandchild_that_outlives_its_parent(
    entry, tmp_path, monkeypatch, any_kernel
):
    monkeypatch.setattr(command_module, "KILL_AFTER", 0.3)
    pids = tmp_path / "pids"
    text = "(trap '' TERM; exec sleep 100) & echo $! > \"$1\"; exec sleep 100"
    outcome = Command(shell(text, pids), timeout=1).run(entry())
    assert outcome.exit_status == -signal.SIGTERM
    assert wait_gone(int(pids.read_text()))


def test_after_term_a_grandchild_has_time_to_put_its_things_away(entry, tmp_path):
    """Its parent, a shell, dies of TERM at once: that is no reason to KILL it."""
    tidy, ready = tmp_path / "tidy", tmp_path / "ready"
    text = """
    (trap 'sleep 0.3; echo tidy > "$1"; exit' TERM; : > "$2"; while :; do sleep 0.05; done) &
    exec sleep 100
    """
    outcome = Command(shell(text, tidy, ready), timeout=1).run(entry())
    assert ready.exists()
    assert outcome.exit_status == -signal.SIGTERM
    assert tidy.read_text() == "tidy\n"


def wait_gone(pid):
    deadline = time.monotonic() + 20
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return gone(pid)


def test_abandon_ends_every_running_group(entry, tmp_path, eventually):
    handler = Command(shell('sleep 100 & echo $! >> "$1"; wait', tmp_path / "pids"))
    claimed = [entry(stem=b"e%d" % number) for number in range(3)]
    outcomes = []
    threads = [
        threading.Thread(target=lambda one=one: outcomes.append(handler.run(one)))
        for one in claimed
    ]
    for thread in threads:
        thread.start()
    pids = tmp_path / "pids"
    eventually(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    handler.terminate()
    for thread in threads:
        thread.join(60)
    assert [outcome.exit_status for outcome in outcomes] == [-signal.SIGTERM] * 3
    assert {outcome.verdict for outcome in outcomes} == {Verdict.STOPPED}
    assert all(wait_gone(int(pid)) for pid in pids.read_text().split())
    handler.terminate()  # nothing left: no harm


# -- when it cannot be started ----------------------------------------------------------------


def a_file(tmp_path, data, mode):
    path = tmp_path / "program"
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (None, 0),
        (b"#!/bin/sh\n", 0o644),
        (b"not a program", 0o755),
        (b"", 0o755),
        (b"#!/no/such/interpreter\n", 0o755),
    ],
    ids=["missing", "not executable", "no program", "empty", "no interpreter"],
)
def test_a_command_that_cannot_be_run_is_the_operators_mistake(entry, tmp_path, data, mode):
    path = a_file(tmp_path, data, mode) if data is not None else tmp_path / "nowhere"
    outcome = Command([str(path)]).run(entry())
    assert outcome.verdict is Verdict.MISCONFIGURED
    assert outcome.reason.startswith(f"{path}: cannot be run: ")


@pytest.mark.parametrize("argv", [["/"], ["a\0b"], ["/bin/true", "a\0b"], ["\udfff"]])
def test_what_is_no_command_at_all_is_the_operators_mistake(entry, argv):
    assert Command(argv).run(entry()).verdict is Verdict.MISCONFIGURED


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_want_of_processes_memory_or_descriptors_is_a_retry(entry, monkeypatch, number):
    def refuse(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(command_process, "spawn", refuse)
    outcome = Command(["/bin/true"]).run(entry())
    assert outcome.verdict is Verdict.RETRY
    assert os.strerror(number) in outcome.reason
    assert outcome.attempted is (number == errno.ENOMEM), "for that the entry may be too large"


def test_a_program_that_is_being_written_is_a_retry(entry, tmp_path):
    path = a_file(tmp_path, b"#!/bin/sh\n", 0o755)
    claimed = entry()
    with open(path, "ab"):
        assert Command([str(path)]).run(claimed).verdict is Verdict.RETRY
    assert Command([str(path)]).run(claimed) == HANDLED


LIMITED = """
import os, resource, sys
from watcher import mailman
from watcher.handle.entry import Entry
from watcher.rules.form import Form
from watcher.spool.part import Part
from watcher.handle.command import Command
path = sys.argv[1].encode()
fd = os.open(path, os.O_RDONLY)
name = os.path.basename(path)
part = Part(name, fd, 0, 1, 0, 0)
entry = Entry(queue="q", name=name, directory=b"/", parts=(part,), form=Form.RAW)
os.chdir("/")
mailman.to_json({})  # what is imported late, before it may no longer be read
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
outcome = Command(["/bin/true"]).run(entry)
print(outcome.verdict.value, outcome.reason, sep=": ")
"""


def test_a_user_who_may_have_no_more_processes_is_told_to_try_again(tmp_path, environment):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file)],
        env=environment,
        cwd=os.getcwd(),
        capture_output=True,
        text=True,
    )
    assert ended.stdout == "retry: /bin/true: cannot be run: Resource temporarily unavailable\n", (
        ended.stderr
    )


def test_out_of_descriptors_is_a_retry(entry):
    """With none free, then one, and so on: each that it wants may be the one that is missing."""
    claimed = entry()
    assert Command(["/bin/true"]).run(claimed) == HANDLED  # and everything is imported
    gc.collect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    taken, verdicts = [], []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        while Verdict.DONE not in verdicts:
            verdicts.append(Command(["/bin/true"], timeout=60).run(claimed).verdict)
            os.close(taken.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert len(verdicts) > 2
    assert set(verdicts[:-1]) == {Verdict.RETRY}


def test_an_entry_that_cannot_be_read_is_a_retry_and_not_the_operators_mistake(entry):
    """Else one bad sector would hold the whole queue."""
    claimed = entry()
    os.close(claimed.parts[0].fd)
    outcome = Command(["/bin/true"]).run(claimed)
    assert outcome.verdict is Verdict.RETRY
    assert "cannot be given to the command" in outcome.reason


def test_no_room_for_a_message_is_a_retry(entry, monkeypatch):
    def memfd_create(_name, _flags):
        raise MemoryError

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    assert Command(["/bin/true"]).run(entry()).verdict is Verdict.RETRY


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps(b"half", 2)])
def test_an_entry_that_cannot_be_decoded_is_rejected_and_the_command_not_run(
    entry, tmp_path, data, queue
):
    claimed = entry()
    (queue / "1.0+ab.pck").write_bytes(data)
    mark = tmp_path / "ran"
    outcome = Command(["/bin/touch", str(mark)]).run(claimed)
    assert outcome.verdict is Verdict.REJECT
    assert outcome.reason == claimed.damage
    assert not mark.exists()


@pytest.mark.usefixtures("no_collection")
def test_many_runs_leave_no_descriptor_behind(entry):
    claimed = entry(metadata={"filler": "x" * INLINE})
    before = os.listdir("/proc/self/fd")
    for argv in (["/bin/true"], ["/bin/false"], ["/nonexistent"]):
        Command(argv, timeout=30).run(claimed)
    assert os.listdir("/proc/self/fd") == before


def test_the_file_that_a_command_is_told_of_is_the_claimed_one_whatever_has_its_name(
    entry, queue, tmp_path
):
    claimed = entry(b"mine", form="raw")
    secret, path = tmp_path / "secret", queue / "1.0+ab.csv"
    secret.write_bytes(b"another's")
    path.unlink()
    path.symlink_to(secret)
    text = "import os; os._exit(open(os.environ['WATCHER_FILE'], 'rb').read() != b'mine')"
    assert Command(python(text)).run(claimed) == HANDLED


def test_the_file_that_a_command_is_told_of_is_read_from_its_beginning(entry):
    """A shell's `cat "$WATCHER_FILE"` after it read standard input, and in a child of its own."""
    claimed = entry(b"from the start", form="raw")
    handler = ["sh", "-c", 'cat > /dev/null; test "$(cat "$WATCHER_FILE")" = "from the start"']
    assert Command(handler).run(claimed) == HANDLED


def test_an_entry_whose_key_takes_long_holds_up_no_other_command(entry, monkeypatch):
    large, small = entry(b"large", form="raw"), entry(b"small", form="raw", stem=b"2.0+ab")
    begun, go_on = threading.Event(), threading.Event()
    computed = Entry.key.fget

    def key(asked):
        if asked is large:
            begun.set()
            assert go_on.wait(30)
        return computed(asked)

    monkeypatch.setattr(Entry, "key", property(key))
    command = Command(["true"])
    outcomes = []
    slow = threading.Thread(target=lambda: outcomes.append(command.run(large)))
    slow.start()
    assert begun.wait(30)
    quick = threading.Thread(target=lambda: outcomes.append(command.run(small)), daemon=True)
    quick.start()
    quick.join(20)
    assert outcomes == [HANDLED]
    go_on.set()
    slow.join(30)
    assert outcomes == [HANDLED, HANDLED]
