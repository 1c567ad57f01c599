"""Python handlers in worker processes, with real deaths, hangs and limits."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest

from tests.processes import gone
from watcher.durations import LONGEST
from watcher.errors import BadConfiguration
from watcher.handle import child_process
from watcher.handle.child_process import KEPT
from watcher.handle.function import load as load_function
from watcher.handle.handler_kinds import read_handler
from watcher.handle.isolated import process
from watcher.handle.isolated.parent import Isolated, load
from watcher.handle.isolated.process import Limits
from watcher.rules.results import HANDLED, Verdict

MODULE = '''
import ctypes, os, signal, stat, subprocess, sys, threading, time
from watcher import Reject, Retry
from watcher.errors import Undecodable

calls = 0

def act(entry):
    """Do what the message says."""
    global calls
    calls += 1
    program = compile(entry.message, "message", "exec")
    exec(program, globals() | {"entry": entry, "calls": calls})

def here(entry):
    """Say where it runs, in a reason."""
    raise Reject(f"{os.getpid()} {os.getppid()} {calls}")

def to_the_daemon():
    """Find the worker's own socket, as hostile code may."""
    for fd in sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                return fd
        except OSError:
            pass

async def later(entry):
    pass

later_hidden = lambda entry: later(entry)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Put the module of handlers where this process, and by it a worker, finds it."""
    (tmp_path / "isolated_handlers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "isolated_handlers"
    sys.modules.pop("isolated_handlers", None)


@pytest.fixture
def entry(claimed_entry):
    """Make a claimed entry whose message is a program for `act`."""

    def make(program="", *, form="raw", **more):
        program = program if isinstance(program, bytes) else program.encode()
        return claimed_entry(program, {"a": 1}, form=form, **more)

    return make


@pytest.fixture
def isolated(module):
    """Make an isolated handler; whatever it has running is killed at the end."""
    made = []

    def make(name="act", keep=True, **limits):
        made.append(Isolated(f"{module}:{name}", Limits(**limits), keep=keep))
        return made[-1]

    yield make
    for handler in made:
        handler.terminate()
        if process := getattr(handler._mine, "process", None):
            process.end(0.0)


@pytest.fixture(autouse=True)
def _others():
    """Leave out what other tests of this process have started and not reaped."""
    OTHERS.clear()
    OTHERS.update(children())


OTHERS: set[int] = set()


def children():
    """The processes that this one has started in this test and not reaped."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            found |= set(map(int, file.read().split()))
    return found - OTHERS


# -- the same results -------------------------------------------------------------------------

SAME = {
    "returns": "",
    "retry": "raise Retry('busy', after=90)",
    "retry without words": "raise Retry",
    "retry after nonsense": "raise Retry('busy', after=float('nan'))",
    "retry after ages": f"raise Retry('busy', after={LONGEST * 2})",
    "reject": "raise Reject('no such list')",
    "reject in many lines": "raise Reject('one\\ntwo\\x1b[2J \\udcff')",
    "undecodable": "raise Undecodable('damaged: 3 bytes after')",
    "exit": "sys.exit(0)",
    "interrupt": "raise KeyboardInterrupt",
    "no memory": "raise MemoryError",
    "long": "raise ValueError('x' * 5000)",
    "wide": "raise ValueError('\\U0001f600' * 300)",
}


def test_the_outcome_is_that_of_a_call_within_the_process(isolated, module, entry):
    here, handler = load_function(f"{module}:act"), isolated()
    for name, program in SAME.items():
        within, apart = here.run(entry(program)), handler.run(entry(program))
        assert apart == within, name


def test_an_exception_comes_with_its_traceback(isolated, entry):
    outcome = isolated().run(entry("1 / 0"))
    assert (outcome.verdict, outcome.reason) == (
        Verdict.RETRY,
        "ZeroDivisionError: division by zero",
    )
    assert "in act" in outcome.stderr
    assert outcome.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("name", ["later_hidden"])
def test_a_function_that_only_promises_to_work_is_the_operators_mistake(isolated, entry, name):
    outcome = isolated(name).run(entry())
    assert outcome.verdict is Verdict.MISCONFIGURED
    assert "nothing ran" in outcome.reason


@pytest.mark.parametrize("form", ["raw", "pck", "pair"])
def test_the_entry_is_the_same_entry(isolated, entry, tmp_path, form):
    stem = b"-\xff\xfe $(touch x)\n caf\xe9"
    program = (
        "import json; json.dump([entry.name, entry.queue, entry.path, entry.form, entry.key,"
        " entry.attempt, entry.crashes, entry.metadata, entry.message.decode(), entry.limit],"
        f" open({str(tmp_path / 'told')!r}, 'w'))"
    )
    given = entry(program, form=form, stem=stem, attempt=3, crashes=1, limit=12345)
    assert isolated().run(given) == HANDLED
    import json

    told = json.loads((tmp_path / "told").read_text())
    assert told == [
        given.name,
        "q",
        given.path,
        form,
        given.key,
        3,
        1,
        given.metadata,
        program,
        12345,
    ]


def test_the_copy_of_a_message_has_the_key_and_the_metadata_of_the_message(
    isolated, entry, tmp_path
):
    """It had a key of its own: a handler that used the key did its work once more."""
    told = tmp_path / "told"
    program = (
        "import json; json.dump([entry.queue, entry.key, entry.attempt, entry.metadata,"
        f" entry.remembered], open({str(told)!r}, 'w'))"
    )
    facts = {"queue": "in", "key": "the key", "attempt": 3, "metadata": {"lang": "de"}}
    given = entry(program, form="raw")
    given.describe(**facts, crashes=1, remembered={"seen": 1})
    assert isolated().run(given) == HANDLED
    assert told.read_text() == '["in", "the key", 3, {"lang": "de"}, {"seen": 1}]'


def test_damage_is_known_on_both_sides(isolated, entry):
    damaged = entry("", form="pck")
    os.truncate(damaged.path, damaged.parts[0].size - 1)
    outcome = isolated().run(damaged)
    assert outcome.verdict is Verdict.REJECT
    assert damaged.damage == outcome.reason


# -- a crash costs one attempt ----------------------------------------------------------------

CRASHES = {
    "segfault": ("ctypes.string_at(0)", "killed by signal 11 (SIGSEGV)", -11),
    "abort": ("os.abort()", "killed by signal 6 (SIGABRT)", -6),
    "kill": ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9 (SIGKILL)", -9),
    "real-time": ("os.kill(os.getpid(), 40)", "killed by signal 40", -40),
    "exit 0": ("os._exit(0)", "exited with status 0", 0),
    "exit 75": ("os._exit(75)", "exited with status 75", 75),
    "group": ("os.killpg(0, signal.SIGTERM); os._exit(9)", "exited with status 9", 9),
}


@pytest.mark.parametrize(("program", "reason", "status"), CRASHES.values(), ids=CRASHES.keys())
def test_a_death_is_a_crash_and_says_how(isolated, entry, program, reason, status):
    handler = isolated()
    outcome = handler.run(entry("print('last words', file=sys.stderr, flush=True);" + program))
    assert (outcome.verdict, outcome.reason) == (Verdict.CRASHED, reason)
    assert outcome.exit_status == status
    assert outcome.stderr.startswith("last words\n")
    assert handler.run(entry()) == HANDLED  # by another worker


def test_a_segfault_leaves_its_traceback_and_only_its_own(isolated, entry):
    handler = isolated()
    assert handler.run(entry("print('of another entry', file=sys.stderr)")) == HANDLED
    outcome = handler.run(entry("ctypes.string_at(0)"))
    assert "Fatal Python error: Segmentation fault" in outcome.stderr
    assert "in act" in outcome.stderr
    assert "of another entry" not in outcome.stderr
    outcome = handler.run(entry("print('x' * 100_000, file=sys.stderr); ctypes.string_at(0)"))
    assert "Fatal Python error: Segmentation fault" in outcome.stderr
    assert len(outcome.stderr) == KEPT


def test_what_a_crashed_worker_had_started_is_killed(isolated, entry, tmp_path, eventually):
    program = (
        "child = subprocess.Popen(['sleep', '1000']);"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); os._exit(1)"
    )
    assert isolated().run(entry(program)).verdict is Verdict.CRASHED
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: gone(pid))


def test_a_worker_that_hangs_up_and_lives_on_is_a_crash(isolated, entry, monkeypatch):
    monkeypatch.setattr(process, "FOLLOW", 0.2)
    outcome = isolated().run(entry("os.close(to_the_daemon()); time.sleep(1000)"))
    assert (outcome.verdict, outcome.exit_status) == (Verdict.CRASHED, None)
    assert outcome.reason.startswith("closed its connection and went on")


@pytest.mark.parametrize(
    "said", ["nonsense", "[]", '{"verdict": "wonder"}', '{"verdict": "retry", "after": 1e99}', "9"]
)
def test_nonsense_from_a_worker_is_a_crash(isolated, entry, said):
    program = f"os.write(to_the_daemon(), {said.encode()!r}); time.sleep(100)"
    handler = isolated()
    outcome = handler.run(entry(program))
    assert outcome.verdict is Verdict.CRASHED
    assert "makes no sense" in outcome.reason
    assert handler.run(entry()) == HANDLED


# -- limits -----------------------------------------------------------------------------------


def test_a_hang_is_ended_at_its_time_with_its_traceback_and_what_it_started(
    isolated, entry, tmp_path, eventually
):
    handler = isolated(timeout=0.4)
    program = (
        "child = subprocess.Popen(['sleep', '1000']);"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); time.sleep(1000)"
    )
    began = time.monotonic()
    outcome = handler.run(entry(program))
    assert 0.4 <= time.monotonic() - began < 4
    assert outcome.verdict is Verdict.RETRY
    assert outcome.reason == "timeout: still running after 400ms"
    assert "in act" in outcome.stderr
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: gone(pid))
    assert handler.run(entry()) == HANDLED


def test_a_hang_that_ignores_being_told_is_killed(isolated, entry, monkeypatch):
    monkeypatch.setattr(process, "KILL_AFTER", 0.3)
    handler = isolated(timeout=0.3)
    deaf = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); time.sleep(1000)"
    outcome = handler.run(entry(deaf))
    assert (outcome.verdict, outcome.exit_status) == (Verdict.RETRY, -signal.SIGKILL)
    assert handler.run(entry()) == HANDLED


def test_finally_runs_when_a_hang_is_ended(isolated, entry, tmp_path):
    program = (
        f"try: time.sleep(1000)\nfinally: open({str(tmp_path / 'cleaned')!r}, 'w').write('yes')"
    )
    assert isolated(timeout=0.3).run(entry(program)).verdict is Verdict.RETRY
    assert (tmp_path / "cleaned").read_text() == "yes"


def test_memory_has_its_limit_and_running_into_it_is_a_retry(isolated, entry):
    handler = isolated(memory=256 << 20)
    assert handler.run(entry("len(bytes(16 << 20))")) == HANDLED
    outcome = handler.run(entry("global kept; kept = [bytes(1 << 20) for _ in range(1000)]"))
    assert outcome.verdict is Verdict.RETRY
    assert outcome.reason.startswith("MemoryError")
    assert handler.run(entry("len(bytes(64 << 20)); sys.exit(calls)")).reason == "SystemExit: 1"


def test_too_little_memory_to_import_anything_is_the_operators_mistake(module, entry):
    with pytest.raises(BadConfiguration):
        load(f"{module}:act", Limits(memory=16 << 20))


def test_a_runaway_is_ended_by_its_processor_time_and_says_where(isolated, entry):
    handler = isolated(cpu=1.0)
    outcome = handler.run(entry("while True: pass"))
    assert outcome.verdict is Verdict.CRASHED
    assert outcome.reason == "killed by signal 24 (SIGXCPU): more than 1s of processor time"
    assert "in act" in outcome.stderr


@pytest.mark.slow
def test_processor_time_is_counted_for_each_entry_anew(isolated, entry):
    handler = isolated(cpu=1.0)
    busy = "end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    assert [handler.run(entry(busy)) for _ in range(4)] == [HANDLED] * 4
    assert handler.run(entry("sys.exit(calls)")).reason == "SystemExit: 5"  # one worker all along


TICK_DODGER = """
import os, time
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
coarse = 6  # CLOCK_MONOTONIC_COARSE, which moves at each tick of the kernel
tick = time.clock_getres(coarse)
print("ready", flush=True)
while True:
    before = time.clock_gettime_ns(coarse)
    while time.clock_gettime_ns(coarse) == before:
        pass
    began = time.monotonic()
    while time.monotonic() - began < 0.7 * tick:
        pass
    time.sleep(max(0.0, began + 1.02 * tick - time.monotonic()))
"""


@pytest.mark.slow
def test_ticks_that_were_charged_to_earlier_entries_end_no_attempt(isolated, entry):
    """A program that sleeps at each tick of the kernel has its time charged to the worker."""
    handler = isolated(cpu=1.0)
    pin = "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})"
    busy = "end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", TICK_DODGER], stdout=subprocess.PIPE) as dodger:
        try:
            dodger.stdout.readline()
            assert handler.run(entry(pin)) == HANDLED
            ended = [handler.run(entry(busy)) for _ in range(20)]
        finally:
            dodger.kill()
    assert ended == [HANDLED] * 20
    assert handler.run(entry("sys.exit(calls)")).reason == "SystemExit: 22"


def test_a_function_may_have_the_profiling_timer_for_itself(isolated, entry):
    handler = isolated(cpu=1.0)
    own = "signal.signal(signal.SIGPROF, signal.SIG_IGN)\n"
    own += "signal.setitimer(signal.ITIMER_PROF, 5, 5)"
    for program in ("pass", own, "pass", "assert signal.getitimer(signal.ITIMER_PROF)[1] == 5"):
        assert handler.run(entry(program)) == HANDLED
    outcome = handler.run(entry("while True: pass"))
    assert outcome.reason == "killed by signal 24 (SIGXCPU): more than 1s of processor time"


# -- whose process, and for how long ----------------------------------------------------------


def where(outcome):
    return [int(word) for word in outcome.reason.split()]


def test_a_worker_is_kept_for_the_next_entry_and_is_another_process(isolated, entry):
    handler = isolated("here")
    (pid, parent, _), (again, _, _) = where(handler.run(entry())), where(handler.run(entry()))
    assert pid == again != parent == os.getpid()
    assert os.getsid(pid) == os.getpgid(pid) == pid


def test_threads_have_a_worker_each_which_goes_with_its_thread(isolated, entry, eventually):
    handler, pids = isolated(), []
    meet = threading.Barrier(4, timeout=20)

    def work(number):
        for turn in range(10):
            meet.wait()
            stem = b"%d-%d" % (number, turn)
            pids.append(handler.run(entry("raise Reject(str(os.getpid()))", stem=stem)).reason)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 40
    assert len(set(pids)) == 4
    eventually(lambda: all(gone(int(pid)) for pid in set(pids)))
    eventually(lambda: not handler._running)
    assert not children() & set(map(int, pids))  # reaped


def test_200_entries_and_some_deaths_leak_neither_descriptors_nor_processes(
    isolated, entry, descriptors
):
    handler = isolated()
    given = [entry("", stem=b"%d" % number) for number in range(200)]
    handler.run(given[0])
    count = entry("raise Reject(str(len(os.listdir('/proc/self/fd'))))", stem=b"count")
    ours, its = descriptors(), handler.run(count).reason
    for number, one in enumerate(given):
        if number % 50 == 20:
            assert handler.run(entry("os._exit(1)", stem=b"c%d" % number)).exit_status == 1
        assert handler.run(one) == HANDLED
    assert descriptors() == ours + 4  # the four entries made meanwhile
    assert handler.run(count).reason == its
    assert len(children()) == 1
    handler._mine.process.end()
    assert not children()


def test_a_worker_that_died_in_idleness_is_replaced_without_a_word(isolated, entry):
    handler = isolated()
    assert handler.run(entry()) == HANDLED
    (pid,) = handler._running
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert handler.run(entry()) == HANDLED
    assert handler._running != {pid}


def test_term_and_int_sent_to_all_of_a_service_end_no_work(isolated, entry, tmp_path):
    os.mkfifo(tmp_path / "gate")
    handler, outcomes = isolated(), []
    program = f"open({str(tmp_path / 'gate')!r}).read(); raise Reject('finished')"
    work = threading.Thread(
        target=lambda: outcomes.append(handler.run(entry(program))), daemon=True
    )
    work.start()
    with open(tmp_path / "gate", "w"):  # it is in the function
        (pid,) = handler._running
        os.killpg(pid, signal.SIGTERM)
    work.join()
    assert outcomes[0].reason == "finished"


def test_term_does_not_lose_an_entry_that_is_only_just_handed_over(isolated, entry):
    handler, outcomes = isolated(), []
    assert handler.run(entry()) == HANDLED
    (pid,) = handler._running
    worker, given = handler._mine.process, entry("raise Reject('finished')")
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    work = threading.Thread(target=lambda: outcomes.append(worker.ask(given).result))
    work.start()
    while not handed_over(worker._socket):
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    work.join()
    assert [outcome.reason for outcome in outcomes] == ["finished"]


def handed_over(ours):
    """Whether a packet is on its way: it takes room in the sending socket (SIOCOUTQ)."""
    waiting = array.array("i", [0])
    fcntl.ioctl(ours, termios.TIOCOUTQ, waiting)
    return waiting[0] > 0


def test_a_child_that_the_function_forks_answers_for_no_entry(isolated, entry, tmp_path):
    handler = isolated()
    program = (
        "if os.fork() == 0: sys.exit(3)\n"
        f"open({str(tmp_path / 'status')!r}, 'w').write(str(os.wait()[1] >> 8))\n"
        "raise Reject('finished')"
    )
    assert handler.run(entry(program)).reason == "finished"
    assert (tmp_path / "status").read_text() == str(os.EX_SOFTWARE)
    (pid,) = handler._running
    assert handler.run(entry("raise Reject(str(os.getpid()))")).reason == str(pid)


def test_what_the_function_execs_has_neither_the_claim_nor_our_socket(isolated, entry, tmp_path):
    out = str(tmp_path / "fds")
    program = (
        f"subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=False, stdout=open({out!r}, 'w'))"
    )
    given = entry(program)
    assert isolated().run(given) == HANDLED
    listed = (tmp_path / "fds").read_text()
    assert out in listed
    assert given.path not in listed
    assert "socket:" not in listed


def test_standard_error_takes_no_more_memory_than_its_end(isolated, entry, monkeypatch):
    monkeypatch.setattr(child_process, "LONGEST", 1 << 18)
    program = (
        "print('x' * (1 << 20), file=sys.stderr, flush=True)\n"
        "while os.fstat(2).st_blocks * 512 > (128 << 10): time.sleep(0.01)\n"
        "raise Reject('short again')"
    )
    assert isolated(timeout=20.0).run(entry(program)).reason == "short again"


def test_standard_output_is_the_daemons(entry, tmp_path, module):
    program = (
        "import sys; sys.path[:0] = [%r, *%r]\n"
        "from tests_entry import entry\n"
        "from watcher.handle.isolated.parent import Isolated\n"
        "handler = Isolated('%s:act')\n"
        "print(handler.run(entry).verdict.name, flush=True)\n"
        "handler.terminate()\n"  # what was printed is out already
    )
    (tmp_path / "tests_entry.py").write_text(
        "import os\nfrom watcher.handle.entry import Entry\nfrom watcher.spool.part import Part\n"
        "from watcher.rules.form import Form\n"
        f"fd = os.open({str(tmp_path / 'e')!r}, os.O_RDONLY)\n"
        "entry = Entry(queue='q', name=b'e', directory=b'/', form=Form.RAW,"
        " parts=(Part(b'e', fd, 1, os.fstat(fd).st_size, 0, 0),))\n"
    )
    (tmp_path / "e").write_text("print('from the worker')")
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program % (str(tmp_path), sys.path, module)],
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == ["from the worker", "DONE"]
    assert ended.stderr == ""


HOLDER = """
import fcntl, os, sys
sys.path[:] = eval(sys.argv[1])
from watcher.handle.entry import Entry
from watcher.rules.form import Form
from watcher.spool.part import Part
from watcher.handle.isolated.parent import Isolated
fd = os.open(sys.argv[2], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
part = Part(b"x.csv", fd, 1, os.fstat(fd).st_size, 0, 0)
entry = Entry(queue="q", name=b"x", directory=b"/", form=Form.RAW, parts=(part,))
handler = Isolated("isolated_handlers:act")
handler.run(entry)
"""


def test_a_worker_holds_the_claim_when_the_daemon_is_killed_and_ends_after_its_work(
    module, queue, tmp_path, eventually
):
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    (queue / "x.csv").write_text(
        f"open({str(tmp_path / 'in')!r}, 'w').write(str(os.getpid()));"
        f"open({str(tmp_path / 'out')!r}).read();"
        f"open({str(tmp_path / 'end')!r}, 'w')"
    )
    daemon = subprocess.Popen([sys.executable, "-c", HOLDER, repr(sys.path), queue / "x.csv"])
    with open(tmp_path / "in") as file:
        pid = int(file.read())
    daemon.kill()
    daemon.wait()
    fd = os.open(queue / "x.csv", os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(tmp_path / "out", "w"):
            pass
        eventually(lambda: gone(pid))
        assert (tmp_path / "end").exists()
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def test_an_idle_worker_ends_when_the_daemon_is_killed(module, tmp_path, queue, eventually):
    (queue / "x.csv").write_text(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))")
    program = HOLDER + "print(flush=True); sys.stdin.read()\n"
    daemon = subprocess.Popen(
        [sys.executable, "-c", program, repr(sys.path), queue / "x.csv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with daemon:
        daemon.stdout.readline()
        pid = int((tmp_path / "pid").read_text())
        assert not gone(pid)
        daemon.kill()
    eventually(lambda: gone(pid))


def test_abandon_kills_what_runs_and_counts_no_crash(isolated, entry, tmp_path):
    os.mkfifo(tmp_path / "gate")
    handler, outcomes = isolated(), []
    program = f"open({str(tmp_path / 'gate')!r}).read(); time.sleep(1000)"
    work = threading.Thread(
        target=lambda: outcomes.append(handler.run(entry(program))), daemon=True
    )
    work.start()
    with open(tmp_path / "gate", "w"):
        handler.terminate()
    work.join(20)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.STOPPED]


# -- what cannot be started -------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["os:", "no_such_module_here:f", "os:sep", "a\0b:c", "x" * 10**6])
def test_a_function_that_cannot_be_imported_is_the_operators_mistake(spec, entry):
    with pytest.raises(BadConfiguration) as refused:
        load(spec, Limits())
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 5000
    outcome = Isolated(spec).run(entry())
    assert outcome.verdict in (Verdict.MISCONFIGURED, Verdict.RETRY)
    assert not children()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "import os; os.kill(os.getpid(), 11)",
            "killed by signal 11 (SIGSEGV) before it was ready",
        ),
        ("import os; os._exit(0)", "exited with status 0 before it was ready"),
        ("raise SystemExit", "cannot be imported (SystemExit"),
        ("x = 1 / 0", "cannot be imported (ZeroDivisionError"),
    ],
)
def test_a_module_that_dies_when_imported_ends_no_other_process(tmp_path, monkeypatch, body, said):
    (tmp_path / "deadly.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadConfiguration) as refused:
        load("deadly:f", Limits())
    assert said in str(refused.value)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC])
def test_want_of_something_is_a_retry(isolated, entry, monkeypatch, number):
    handler = isolated()

    def fail(*_arguments, **_more):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(process.subprocess, "Popen", fail)
        outcome = handler.run(entry())
    assert outcome.verdict is Verdict.RETRY
    assert os.strerror(number) in outcome.reason
    assert outcome.attempted is (number in {errno.ENOMEM, errno.ENOSPC})
    assert handler.run(entry()) == HANDLED


@pytest.mark.usefixtures("no_collection")
def test_running_out_of_descriptors_at_any_step_is_a_retry_and_leaks_none(isolated, entry):
    import resource

    handler, given = isolated(keep=False), entry()
    handler.run(given)
    before = sorted(os.listdir("/proc/self/fd"), key=int)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [number for number in range(1000) if str(number) not in before]
    verdicts = []
    try:
        for spare in range(10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], hard))
            verdicts.append(handler.run(given).verdict)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert verdicts[0] is Verdict.RETRY
    assert verdicts[-1] is Verdict.DONE
    assert set(verdicts) <= {Verdict.RETRY, Verdict.DONE}
    assert sorted(os.listdir("/proc/self/fd"), key=int) == before
    assert not children()


def test_a_function_that_leaks_descriptors_gets_a_new_worker_in_the_end(isolated, entry):
    handler = isolated()
    leak = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "try:\n while True: os.dup(0)\nexcept OSError: pass"
    )
    assert handler.run(entry(leak)) == HANDLED
    short = handler.run(entry(form="pair"))  # one descriptor was free again
    assert (short.verdict, short.reason) == (
        Verdict.RETRY,
        "the worker process is out of file descriptors",
    )
    assert handler.run(entry()) == HANDLED


def test_descriptors_that_one_entry_leaked_cost_the_next_one_attempt_at_most(isolated, entry):
    """What is left is enough to hand over an entry, and not for the function to work with."""
    handler = isolated()
    leak = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "try:\n while True: os.dup(0)\nexcept OSError: raise Reject('full')"
    )
    work = "try: open('/dev/null').close()\nexcept OSError: raise ValueError('in its own words')"
    assert handler.run(entry(leak)).reason == "full"
    assert handler.run(entry(work)) == HANDLED
    quiet = leak.replace("raise Reject('full')", "pass")
    assert handler.run(entry(quiet)) == HANDLED
    assert handler.run(entry(work)).reason == "ValueError: in its own words"
    assert handler.run(entry(work)) == HANDLED


# -- suspects ---------------------------------------------------------------------------------


def test_an_entry_that_saw_a_process_die_is_handled_in_one_of_its_own(module, entry):
    handler = read_handler({"python": f"{module}:here"}, "").load()
    assert where(handler.run(entry()))[0] == os.getpid()
    first, second = (where(handler.run(entry(crashes=1))) for _ in range(2))
    assert first[0] != second[0]
    assert first[1] == second[1] == os.getpid()
    assert not children()


def test_a_suspect_that_kills_again_is_a_crash_and_not_our_death(module, entry):
    handler = read_handler({"python": f"{module}:act"}, "").load()
    outcome = handler.run(entry("ctypes.string_at(0)", crashes=2))
    assert (outcome.verdict, outcome.reason) == (Verdict.CRASHED, "killed by signal 11 (SIGSEGV)")
    handler.terminate()
