"""What an open queue does to the program's process, to its end, and to the children it forks."""

from __future__ import annotations

import os
import signal

import pytest

import watcher

RAW = {"format": "raw", "writers": "rename"}
PATIENCE = 30.0  # seconds


def taken(queue_dir):
    """Take the entry there from another process: return its attempt and its crashes, settled."""
    with watcher.entries(queue_dir, retry={"initial": "10ms"}, **RAW) as queue:
        entry = queue.take(PATIENCE)
        assert entry is not None
        assert entry.done()
        return entry.attempt, entry.crashes


TAKE = """
queue = watcher.entries(queue_dir, **options).__enter__()
entry = queue.take(20)
print(entry.name, flush=True)
input()
"""


def test_a_killed_program_counts_as_a_crash_for_the_entry_in_hand(queue_dir, put, start):
    put("a")
    program = start(TAKE)
    assert program.stdout.readline() == "a\n"
    program.kill()
    program.wait()
    assert taken(queue_dir) == (2, 1)


def test_a_program_that_ends_without_closing_gives_the_entry_back(queue_dir, put, start):
    put("a")
    program = start(TAKE + "sys.exit('the program fails')")
    assert program.stdout.readline() == "a\n"
    _, said = program.communicate("\n", PATIENCE)
    assert said == "the program fails\n"
    assert os.listdir(queue_dir / ".watcher" / "inflight") == []
    assert taken(queue_dir) == (1, 0)


@pytest.mark.slow
def test_a_program_whose_thread_waits_for_entries_ends(queue_dir, start):
    program = start(
        "queue = watcher.entries(queue_dir, **options).__enter__()\n"
        "thread = threading.Thread(target=lambda: list(queue), daemon=True); thread.start()\n"
    )
    assert program.wait(PATIENCE) == 0


FORK = """
import warnings; warnings.simplefilter("ignore", DeprecationWarning)
with watcher.entries(queue_dir, **options) as queue:
    entry = queue.take(20)
    own = open(os.path.join(queue_dir, "a"))
    child = os.fork()
    if child == 0:
        for use in (lambda: entry.message, entry.done, queue.take, lambda: own.read() == "a"):
            try:
                print(use())
            except watcher.errors.WatcherError as error:
                print(type(error).__name__)
        queue.close()
        inside = []
        for number in os.listdir("/proc/self/fd"):
            try:
                there = os.readlink("/proc/self/fd/" + number)
            except OSError:
                continue
            if int(number) != own.fileno() and (queue_dir in there or "inotify" in there):
                inside.append(there)
        print([one for one in inside if not one.endswith("/.fault")], flush=True)
        signal.pause()
    input()
"""


def test_a_forked_child_takes_no_claim_along(queue_dir, put, start):
    put("a")
    program = start("import watcher.errors" + FORK)
    answers = [program.stdout.readline().strip() for _ in range(5)]
    try:
        assert answers == ["EntryEnded", "Usage", "Usage", "True", "[]"]
        program.kill()  # its child lives
        program.wait()
        assert taken(queue_dir) == (2, 1)
    finally:
        for child in children_of_the_group(program):
            os.kill(child, signal.SIGKILL)


def children_of_the_group(program):
    """Return the processes that the program left: those with its arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read()
        except OSError:
            continue
        if words == b"\0".join(map(os.fsencode, program.args)) + b"\0":
            found.append(int(name))
    return found


@pytest.mark.slow
def test_a_forked_child_opens_a_queue_of_its_own(queue_dir, put, start):
    put("a", "b")
    program = start(
        'import warnings; warnings.simplefilter("ignore", DeprecationWarning)\n'
        "with watcher.entries(queue_dir, **options) as queue:\n"
        "    entry = queue.take(20)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        with watcher.entries(queue_dir, **options) as own:\n"
        "            os._exit(0 if own.take(20).done() else 1)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), entry.done())\n"
    )
    out, _ = program.communicate(timeout=PATIENCE)
    assert out == "0 True\n"
    assert not any(one.is_file() for one in queue_dir.iterdir())


UNCHANGED = """
import faulthandler, gc, resource
faulthandler.enable(sys.stdout)
os.umask(0o027)

def facts():
    mask = os.umask(0o027)
    return (
        [signal.getsignal(number) for number in {*range(1, 32)} - {9, 19, signal.SIGIO}],
        mask, os.getcwd(), resource.getrlimit(resource.RLIMIT_NOFILE), gc.get_freeze_count(),
        signal.pthread_sigmask(signal.SIG_BLOCK, ()), faulthandler.is_enabled(), sys.excepthook,
    )

before = facts()
with watcher.entries(queue_dir, **options) as queue:
    queue.take(20).done()
    during = facts()
print(before == during == facts(), flush=True)
signal.raise_signal(signal.SIGIO)
os.abort()
"""


def test_nothing_else_of_the_process_changes(queue_dir, put, start):
    put("a")
    program = start(UNCHANGED)
    out, _ = program.communicate(timeout=PATIENCE)
    assert out.startswith("True\nFatal Python error: Aborted"), "faulthandler is the program's"
    assert program.returncode == -signal.SIGABRT


@pytest.mark.slow
def test_a_broken_lease_kills_no_program_that_opens_its_queue_in_another_thread(
    queue_dir, put, start
):
    put("a")
    program = start(
        "def handle():\n"
        "    with watcher.entries(queue_dir, wait=False, **options) as queue:\n"
        "        print([entry.name for entry in queue if entry.done()], flush=True)\n"
        "thread = threading.Thread(target=handle); thread.start(); thread.join()\n"
        "os.kill(os.getpid(), signal.SIGIO)\n"
        "print('lives')\n"
    )
    assert program.communicate(timeout=PATIENCE)[0] == "['a']\nlives\n"


def test_a_signal_handler_may_end_the_iteration(queue_dir, put, start):
    put("a")
    program = start(
        "with watcher.entries(queue_dir, **options) as queue:\n"
        "    signal.signal(signal.SIGTERM, lambda *_: queue.stop())\n"
        "    for entry in queue:\n"
        "        print(entry.name, entry.done(), flush=True)\n"
        "print('closed')\n"
    )
    assert program.stdout.readline() == "a True\n"
    program.send_signal(signal.SIGTERM)
    assert program.communicate(timeout=PATIENCE)[0] == "closed\n"
    assert program.returncode == 0


@pytest.mark.slow
def test_the_import_of_the_package_alone_loads_nothing_of_it(start):
    program = start("print(sorted(name for name in sys.modules if name.startswith('watcher')))")
    assert program.communicate(timeout=PATIENCE)[0] == "['watcher']\n"
