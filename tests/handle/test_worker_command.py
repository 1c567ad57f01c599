"""Worker commands: real processes that answer, die, hang, and break the protocol.

The usual worker here is a shell that runs each message as a program.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import signal
import sys
import threading
import time

import pytest

from tests.handle.conftest import SHELL
from tests.processes import gone
from watcher.errors import BadConfiguration
from watcher.handle import worker_channel, worker_command, worker_process, worker_request
from watcher.handle.handler_kinds import read_handler
from watcher.rules.results import HANDLED, Verdict

DENIED = Verdict.MISCONFIGURED


@pytest.fixture
def entry(claimed_entry):
    """Make a claimed entry whose message is a program for the shell."""

    def make(program="echo done", **more):
        return claimed_entry(program.encode(), form="raw", **more)

    return make


def pid_of(result):
    """The number in a reason that says where it ran."""
    return int(re.search(r"\d+", result.reason)[0])


# -- answers -----------------------------------------------------------------------------------


def test_each_answer_is_the_result_and_one_process_gives_them_all(worker, entry):
    handler = worker()
    assert handler.run(entry()) == HANDLED
    assert handler.run(entry("echo retry 7 busy")).after == 7.0
    rejected = handler.run(entry('echo "reject $count $$"'))
    assert (rejected.verdict, rejected.reason.split()[0]) == (Verdict.REJECT, "3")
    assert len(handler._running) == 1


def test_the_key_of_the_entry_in_hand_may_be_named_and_no_other(worker, entry):
    handler = worker()
    right = 'key=${line#*\'"key":"\'}; echo "done ${key%%\'"\'*}"'
    assert handler.run(entry(right)) == HANDLED
    result = handler.run(entry("echo done 0123"))
    assert result.verdict is DENIED
    assert "does not name the key" in result.reason


def test_each_thread_has_its_own_process(worker, entry):
    handler, pids = worker(), []
    both = threading.Barrier(2)

    def serve(given):
        both.wait()
        pids.append(pid_of(handler.run(given)))
        both.wait()

    threads = [threading.Thread(target=serve, args=(entry("echo reject $$"),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pids)) == 2
    assert all(gone(pid) for pid in pids), "the end of a thread ends its process"


# -- the request -------------------------------------------------------------------------------


def request_of(worker, given, tmp_path):
    """What a worker gets for an entry, as bytes."""
    copy = tmp_path / "line"
    handler = worker(f'IFS= read -r line; printf "%s\\n" "$line" > {copy}; echo done; read -r line')
    assert handler.run(given) == HANDLED
    return copy.read_bytes()


def test_the_fields_come_in_one_order_and_describe_the_entry(worker, claimed_entry, tmp_path):
    given = claimed_entry(b"the message", {"a": [1, "\u20ac"]}, stem=b"1.5+ab", attempt=3)
    line = request_of(worker, given, tmp_path)
    start = b'{"version":1,"file":"/proc/%d/fd/' % os.getpid()
    assert re.match(re.escape(start) + rb'\d+","key":"[0-9a-f]{64}","attempt":3,', line)
    assert line.isascii()
    fields = json.loads(line)
    del fields["file"]
    assert fields == {
        "version": 1,
        "key": given.key,
        "attempt": 3,
        "queue": "q",
        "entry": "1.5+ab",
        "path": given.path,
        "metadata": {"a": [1, "\u20ac"]},
    }


@pytest.mark.parametrize("form", ["pck", "pair", "pck+db", "raw"])
def test_the_file_is_the_message_from_its_beginning(worker, claimed_entry, tmp_path, form):
    message = b"From: a\n\nbody \xff\0 end"
    given = claimed_entry(message, form=form)
    handler = worker(
        SHELL.replace(". ", f"cat >> {tmp_path}/copy ").replace("done\n", "echo done; done\n")
    )
    for part in given.parts:
        os.lseek(part.fd, 5, os.SEEK_SET)
    assert [handler.run(given), handler.run(given)] == [HANDLED, HANDLED]
    assert (tmp_path / "copy").read_bytes() == message * 2


def test_a_name_that_is_no_text_comes_in_an_exact_form_too(worker, claimed_entry, tmp_path):
    name = b"caf\xe9 \n\x01"
    fields = json.loads(request_of(worker, claimed_entry(stem=name, form="raw"), tmp_path))
    assert fields["entry"] == "caf\\xe9 \\n\\x01"
    assert base64.b64decode(fields["entry_base64"]) == name
    assert base64.b64decode(fields["path_base64"]).endswith(b"/" + name + b".csv")
    fields = json.loads(request_of(worker, claimed_entry(stem="é".encode(), form="raw"), tmp_path))
    assert fields["entry"] == "é"
    assert "entry_base64" not in fields


def test_large_metadata_comes_in_a_file(worker, claimed_entry, tmp_path):
    metadata = {"long": "x" * worker_request.INLINE}
    given = claimed_entry(b"m", metadata)
    copy = tmp_path / "metadata"
    handler = worker(
        r"""IFS= read -r line; file=${line##*'"metadata_file":"'}"""
        f"; cat ${{file%%'\"'*}} > {copy}; echo done; read -r line"
    )
    assert handler.run(given) == HANDLED
    assert json.loads(copy.read_bytes()) == metadata


def test_a_damaged_entry_is_rejected_and_no_process_sees_it(worker, claimed_entry):
    given = claimed_entry(b"m")
    with open(given.path, "r+b") as file:
        file.write(b"\x80\x02damaged")
    handler = worker()
    assert handler.run(given).verdict is Verdict.REJECT
    assert not handler._running


# -- what is no answer ---------------------------------------------------------------------------

WRONG = {
    "nonsense": ("echo ok", "'ok' is no answer"),
    "an empty line": ("echo", "'' is no answer"),
    "two answers": ("printf 'done\\ndone\\n'", "more than one answer"),
    "an answer and half": ("printf 'done\\nret'", "more than one answer"),
    "too long": ("head -c 5000 /dev/zero | tr '\\0' x", "more than 4096 bytes"),
    "too long a line": ("head -c 9000 /dev/zero | tr '\\0' x; echo", "more than 4096 bytes"),
}


@pytest.mark.parametrize(("program", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_answer_is_the_operators_mistake_and_ends_the_process(
    worker, entry, program, said
):
    handler = worker()
    assert handler.run(entry()) == HANDLED
    (pid,) = handler._running
    result = handler.run(entry(program))
    assert result.verdict is DENIED
    assert said in result.reason
    assert gone(pid)
    assert handler.run(entry()) == HANDLED, "with a new process"


def test_an_answer_before_the_request_was_read_is_none(worker, entry):
    handler = worker("echo done; sleep 60")
    result = handler.run(entry())
    assert result.verdict is DENIED
    assert "before it had read the request" in result.reason


def test_a_second_answer_that_comes_later_is_not_taken_for_the_next_entrys(worker, entry):
    handler = worker()
    assert handler.run(entry("echo done; echo done")).verdict in (Verdict.DONE, DENIED)
    if handler._running:  # the second one came after the first was read
        process = handler._mine.process
        while process.idle():
            time.sleep(0.001)
        result = handler.run(entry("echo reject wrong"))
        assert result.verdict is DENIED
        assert "'done\\n' without a request" in result.reason
    assert handler.run(entry("echo reject right")).reason == "right"


DEATHS = {
    "a signal": ("kill -9 $$", Verdict.CRASHED, "killed by signal 9 (SIGKILL)"),
    "exit 0": ("exit 0", Verdict.CRASHED, "exited with status 0"),
    "exit 3": ("echo why >&2; exit 3", Verdict.CRASHED, "exited with status 3: why"),
    "half an answer": ("printf don; exit 0", Verdict.CRASHED, "half an answer: 'don'"),
    "exit 127": ("echo none >&2; exit 127", DENIED, "exit status 127: none"),
    "exit 78": ("exit 78", DENIED, "exit status 78"),
    "its child has its output": ("sleep 60 & kill -9 $$", Verdict.CRASHED, "signal 9"),
    "no output any more": ("exec >&-; sleep 60", Verdict.CRASHED, "closed its connection"),
}


@pytest.mark.parametrize(("program", "verdict", "said"), DEATHS.values(), ids=DEATHS)
def test_a_death_in_an_entrys_hands_is_that_entrys_crash(
    worker, entry, monkeypatch, program, verdict, said
):
    monkeypatch.setattr(worker_process, "FOLLOW", 0.2)
    handler = worker()
    result = handler.run(entry(program))
    assert (result.verdict, said in result.reason) == (verdict, True), result
    assert not handler._running
    assert handler.run(entry()) == HANDLED


def test_an_answer_before_a_death_counts(worker, entry):
    handler = worker()
    assert handler.run(entry("echo done; exit 1")) == HANDLED
    assert handler.run(entry()) == HANDLED


def test_a_process_that_ends_by_itself_between_entries_costs_nothing(worker, entry, tmp_path):
    """It answers, and is gone, or about to be, when the next request comes."""
    handler = worker()
    for _ in range(3):
        assert handler.run(entry("echo done; exec 0<&-; sleep 0.05; exit 0")) == HANDLED
    assert handler.run(entry('echo "reject $count"')).reason == "1"


def test_a_process_that_dies_before_it_reads_is_not_the_entrys_fault(worker, entry):
    result = worker("echo no database >&2; exit 1").run(entry())
    assert result.verdict is DENIED
    assert result.reason == (
        "ended before it had read the request: exited with status 1: no database"
    )


def test_a_command_that_is_not_there_is_misconfigured(worker, entry):
    result = worker(["/no/such/command"]).run(entry())
    assert (result.verdict, result.ran) == (DENIED, False)
    assert "cannot be run" in result.reason


# -- limits --------------------------------------------------------------------------------------


def test_a_late_process_gets_term_and_then_kill_with_its_group(
    worker, entry, monkeypatch, eventually
):
    monkeypatch.setattr(worker_channel, "KILL_AFTER", 0.1)
    handler = worker(timeout=0.3)
    handler.run(entry())
    (pid,) = handler._running
    result = handler.run(entry("trap '' TERM; sleep 60 & echo $! >&2; wait; wait"))
    assert (result.verdict, result.exit_status) == (Verdict.RETRY, -signal.SIGKILL)
    assert "timeout: still running after" in result.reason
    assert gone(pid)
    eventually(lambda: gone(int(result.stderr)))


def test_a_process_that_reads_nothing_is_not_waited_for_without_end(worker, claimed_entry):
    """The request is larger than what its pipe takes."""
    handler = worker("sleep 60", timeout=0.3)
    given = claimed_entry(b"m", {"long": "x" * (worker_request.INLINE - 100)})
    process = handler._process()
    fcntl.fcntl(process._channel.requests, fcntl.F_SETPIPE_SZ, 4096)
    result = handler.run(given)
    assert result.verdict is DENIED
    assert "has not read the request" in result.reason


def test_a_request_larger_than_the_pipe_arrives_whole(worker, claimed_entry):
    handler = worker('sleep 0.05; IFS= read -r line; echo "reject ${#line}"; read -r line')
    given = claimed_entry(b"m", {"long": "x" * (worker_request.INLINE - 100)})
    fcntl.fcntl(handler._process()._channel.requests, fcntl.F_SETPIPE_SZ, 4096)
    result = handler.run(given)
    assert result.verdict is Verdict.REJECT
    assert int(result.reason) > worker_request.INLINE - 100


def test_standard_error_goes_to_the_entry_in_hand_and_is_bounded(worker, entry):
    handler = worker()
    assert handler.run(entry("echo first >&2; echo done")).stderr == "first\n"
    assert handler.run(entry()).stderr == ""
    much = handler.run(entry("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo retry"))
    assert len(much.stderr) == worker_process.end_of.__globals__["KEPT"]
    (pid,) = handler._running
    assert handler.run(entry("echo last >&2; echo retry")).stderr == "last\n"
    assert os.stat(f"/proc/{pid}/fd/2").st_size < 10


def test_a_process_is_replaced_after_so_many_entries(worker, entry):
    handler = worker(max_entries=2)
    counts = [handler.run(entry('echo "reject $count"')).reason for _ in range(5)]
    assert counts == ["1", "2", "1", "2", "1"]
    assert len(handler._running) == 1


def test_after_failures_in_a_row_the_next_start_waits_ever_longer(worker, entry, monkeypatch):
    waits = []

    def wait(seconds):
        waits.append(round(seconds))
        return False

    handler = worker("exit 1")
    monkeypatch.setattr(handler._stop, "wait", wait)
    for _ in range(8):
        assert handler.run(entry()).verdict is DENIED
    assert waits == [0, 0, 1, 2, 4, 8, 10, 10]
    assert worker_command.LONGEST == 10
    handler.argv = ("sh", "-c", SHELL)
    del handler.__dict__["_encoded"]
    assert handler.run(entry()) == HANDLED
    assert handler._failures == worker_command.NONE


# -- the end ---------------------------------------------------------------------------------------


def test_a_process_whose_input_is_closed_has_time_and_then_gets_term(worker, entry, monkeypatch):
    monkeypatch.setattr(worker_channel, "KILL_AFTER", 0.1)
    handler = worker("while :; do read -r line || exec sleep 60; echo done; done")
    assert handler.run(entry()) == HANDLED
    (pid,) = handler._running
    began = time.monotonic()
    handler._drop(0.2)
    assert 0.2 < time.monotonic() - began < 2
    assert gone(pid)


def test_terminate_ends_what_runs_and_starts_nothing_more(worker, entry, tmp_path):
    handler, results = worker(timeout=None), []
    os.mkfifo(tmp_path / "begun")
    given = entry(f"echo > {tmp_path}/begun; sleep 60 & wait")
    thread = threading.Thread(target=lambda: results.append(handler.run(given)))
    thread.start()
    (tmp_path / "begun").read_bytes()
    handler.terminate()
    thread.join()
    assert [result.verdict for result in results] == [Verdict.STOPPED]
    assert handler.run(entry()).verdict is Verdict.STOPPED
    assert not handler._running


def test_the_claim_is_held_by_the_process_until_it_has_answered(worker, entry, tmp_path):
    """While it works, the lock outlives the descriptors of this process."""
    handler = worker(timeout=None)
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "on")
    given = entry(f"echo > {tmp_path}/begun; read go < {tmp_path}/on; echo done")
    results = []
    thread = threading.Thread(target=lambda: results.append(handler.run(given)))
    thread.start()
    (tmp_path / "begun").read_bytes()
    os.close(given.parts[0].fd)
    other = os.open(given.path, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (tmp_path / "on").write_text("go\n")
        thread.join()
        assert results == [HANDLED]
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


def test_a_process_that_it_left_running_keeps_no_file_of_an_entry(worker, entry):
    """It has inherited the socket in whose queue the entry's descriptors lay."""
    handler = worker()
    for program in ("setsid sleep 60 >&- 2>&- & echo reject $!", "setsid sleep 60 >&- & kill $$"):
        given = entry(program)
        handler.run(given)
        os.close(given.parts[0].fd)
        other = os.open(given.path, os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)


THIEF = """
import os, socket, stat, sys
for line in sys.stdin:
    for fd in range(100, 105):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                socket.socket(fileno=os.dup(fd)).recvmsg(9, 99)
        except OSError:
            pass
    print("done", flush=True)
"""


def test_a_process_that_takes_the_descriptors_itself_holds_up_nothing(worker, entry):
    handler = worker([sys.executable, "-I", "-S", "-c", THIEF])
    assert [handler.run(entry()), handler.run(entry())] == [HANDLED, HANDLED]


def test_no_command_that_starts_meanwhile_inherits_the_descriptors(worker, entry, monkeypatch):
    """They are close-on-exec from the moment at which they are taken back."""
    handler, seen = worker(), []
    handler.run(entry())
    inode = (given := entry()).parts[0].ino

    def close(fd, usual=os.close):
        if os.fstat(fd).st_ino == inode:
            seen.append(os.get_inheritable(fd))
        usual(fd)

    monkeypatch.setattr(os, "close", close)
    handler.run(given)
    monkeypatch.undo()
    assert seen == [False]


def test_an_entry_leaves_no_descriptor_open(worker, entry, claimed_entry, descriptors):
    handler = worker()
    handler.run(entry())
    raw, pck = entry(), claimed_entry(b"echo done", {"long": "x" * worker_request.INLINE})
    before = descriptors()
    for _ in range(3):
        assert [handler.run(raw), handler.run(pck)] == [HANDLED, HANDLED]
    assert descriptors() == before
    handler._drop(5.0)
    assert descriptors() == before - 7


# -- settings --------------------------------------------------------------------------------------


def test_the_settings_are_read_and_the_command_looked_for_not_run(tmp_path):
    settings = read_handler({"worker": ["sh", "-c", "exit 1"], "timeout": "2m"}, "handler")
    assert settings.load().timeout == 120.0
    assert [check.what for check in settings.try_target()] == ["is there"]
    script = tmp_path / "script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    (bad,) = read_handler({"worker": [str(script)]}, "handler").try_target()
    assert "/no/interpreter, which cannot be run" in bad.what
    with pytest.raises(BadConfiguration, match=r"handler\.worker: expected a command"):
        read_handler({"worker": ["/no/such"]}, "handler").load()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"worker": []}, "handler.worker: expected a command and its arguments"),
        ({"worker": ["a\0"]}, "handler.worker: expected a command and its arguments"),
        ({"worker": ["a"], "max_entries": 0}, "handler.max_entries: expected a whole number"),
        ({"worker": ["a"], "max_entries": "5"}, "handler.max_entries: expected a whole number"),
    ],
)
def test_wrong_settings_are_named(table, said):
    with pytest.raises(BadConfiguration) as caught:
        read_handler(table, "handler")
    assert said in str(caught.value)
