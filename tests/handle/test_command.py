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
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest

from watcher.entry import Entry, Part
from watcher.handle import child, command as command_module, spawned
from watcher.handle.child import KEPT
from watcher.handle.command import INLINE, Command
from watcher.handle.outcome import DONE, Verdict

BIG = os.urandom(1 << 20) * 5
HELL = b"-\xff\xfe $(touch pwned)\n\x1b[31m caf\xe9"


def python(text, *arguments):
    """Return a command that runs a Python program."""
    return [sys.executable, "-I", "-S", "-c", text, *map(os.fspath, arguments)]


def shell(text, *arguments):
    return ["/bin/sh", "-c", text, "sh", *map(os.fspath, arguments)]


@pytest.fixture
def entry(queue):
    """Make a claimed entry of a given kind."""
    opened = []

    def part(name, data):
        path = os.path.join(os.fsencode(queue), name)
        with open(path, "wb") as file:
            file.write(data)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened.append(fd)
        status = os.fstat(fd)
        return Part(name, fd, status.st_ino, status.st_size, status.st_ctime_ns)

    def make(message=b"message", metadata=None, *, kind="pck", stem=b"1.0+ab", **more):
        if kind == "pck":
            both = pickle.dumps(message, 2) + pickle.dumps(metadata or {}, 2)
            parts = (part(stem + b".pck", both),)
        elif kind == "pair":
            parts = (part(stem + b".msg", message), part(stem + b".db", b"x = 1\n"))
        else:
            parts = (part(stem + b".in", message),)
        directory = os.fsencode(queue)
        return Entry(queue="q", name=stem, directory=directory, parts=parts, kind=kind, **more)

    yield make
    for fd in opened:
        with contextlib.suppress(OSError):
            os.close(fd)


def gone(pid):
    """Whether a process has ended; one that nobody waited for counts."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True


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
        assert outcome == DONE, outcome
        return json.loads(path.read_text())

    return run


@pytest.mark.parametrize("kind", ["raw", "pck", "pair"])
@pytest.mark.parametrize("size", [0, 1, len(BIG)])
def test_the_whole_message_is_on_standard_input_as_a_file(entry, report, kind, size):
    told = report(entry(BIG[:size], kind=kind))
    assert told["regular"]
    assert told["size"] == size
    assert told["sha256"] == hashlib.sha256(BIG[:size]).hexdigest()


@pytest.mark.parametrize("kind", ["raw", "pck", "pair"])
def test_another_attempt_reads_the_message_from_its_beginning(entry, report, kind):
    claimed = entry(b"from the start", kind=kind)
    assert report(claimed) == report(claimed)


@pytest.mark.parametrize("kind", ["raw", "pck"])
def test_a_command_cannot_change_the_message_through_its_input(entry, kind):
    claimed = entry(kind=kind)
    text = "import os\ntry: os.write(0, b'x')\nexcept OSError: os._exit(0)\nos._exit(1)"
    assert Command(python(text)).run(claimed) == DONE
    assert claimed.message == b"message"


def test_names_key_and_attempt_arrive_byte_for_byte(entry, report, queue):
    claimed = entry(stem=HELL, attempt=7)
    told = {key: bytes.fromhex(value) for key, value in report(claimed)["environment"].items()}
    assert told == {
        "WATCHER_QUEUE": b"q",
        "WATCHER_ENTRY": HELL,
        "WATCHER_KEY": claimed.key.encode(),
        "WATCHER_ATTEMPT": b"7",
        "WATCHER_FILE": os.path.join(os.fsencode(queue), HELL + b".pck"),
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
    kinds = ["raw", "pair", "pck"] * 2
    entries = [entry(kind=kind, stem=b"e%d" % number) for number, kind in enumerate(kinds)]
    outcomes = {}

    def run(number):
        own = tmp_path / f"seen{number}"
        outcomes[number] = Command(python(text, own, "6")).run(entries[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == dict.fromkeys(range(6), DONE)
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
    assert time.monotonic() < deadline, "nobody made room"
    time.sleep(0.01)
os.write(2, b" the end")
raise SystemExit(75)
"""


@pytest.mark.parametrize("timeout", [None, 60])
def test_stderr_without_end_does_not_fill_the_memory(entry, monkeypatch, any_kernel, timeout):
    monkeypatch.setattr(child, "LONGEST", 1 << 20)
    outcome = Command(python(RUNAWAY), timeout).run(entry())
    assert outcome.exit_status == os.EX_TEMPFAIL, outcome
    assert outcome.stderr.endswith("xmiddle the end")
    assert len(outcome.stderr) == KEPT


def test_a_file_that_cannot_be_cut_does_not_end_the_wait(entry, tmp_path, monkeypatch):
    tried = tmp_path / "tried"

    def forget(_fd, _size):
        tried.touch()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(child, "_forget", forget)
    monkeypatch.setattr(child, "LONGEST", 1)
    text = 'echo x >&2; echo the end >&2; until [ -e "$1" ]; do sleep 0.02; done; exit 75'
    outcome = Command(shell(text, tried)).run(entry())
    assert outcome.reason == "exit status 75: the end"


def test_a_child_left_behind_with_our_stderr_open_delays_nobody(entry, tmp_path):
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
    assert Command(shell("sleep 0.2"), timeout=60).run(entry()) == DONE


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
    handler.abandon()
    for thread in threads:
        thread.join(60)
    assert [outcome.exit_status for outcome in outcomes] == [-signal.SIGTERM] * 3
    assert {outcome.verdict for outcome in outcomes} == {Verdict.STOPPED}
    assert all(wait_gone(int(pid)) for pid in pids.read_text().split())
    handler.abandon()  # nothing left: no harm


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

    monkeypatch.setattr(spawned, "spawn", refuse)
    outcome = Command(["/bin/true"]).run(entry())
    assert outcome.verdict is Verdict.RETRY
    assert os.strerror(number) in outcome.reason
    assert outcome.given is (number == errno.ENOMEM), "for that the entry may be too large"


def test_a_program_that_is_being_written_is_a_retry(entry, tmp_path):
    path = a_file(tmp_path, b"#!/bin/sh\n", 0o755)
    claimed = entry()
    with open(path, "ab"):
        assert Command([str(path)]).run(claimed).verdict is Verdict.RETRY
    assert Command([str(path)]).run(claimed) == DONE


LIMITED = """
import os, resource, sys
from watcher import contents
from watcher.entry import Entry, Part
from watcher.handle.command import Command
path = sys.argv[1].encode()
fd = os.open(path, os.O_RDONLY)
name = os.path.basename(path)
entry = Entry(queue="q", name=name, directory=b"/", parts=(Part(name, fd, 0, 1, 0),), kind="raw")
os.chdir("/")
contents.to_json({})  # what is imported late, before it may no longer be read
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
    assert Command(["/bin/true"]).run(claimed) == DONE  # and everything is imported
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


def test_many_runs_leave_no_descriptor_behind(entry):
    claimed = entry(metadata={"filler": "x" * INLINE})
    before = os.listdir("/proc/self/fd")
    for argv in (["/bin/true"], ["/bin/false"], ["/nonexistent"]):
        Command(argv, timeout=30).run(claimed)
    assert os.listdir("/proc/self/fd") == before
