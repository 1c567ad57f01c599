"""Killed at every system call, and refused each: a thin slice here, all of it in the slow test.

The matrix itself is `scripts/kill_matrix`; what it found is held by the tests below it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from watcher.claim.take import take
from watcher.claim.take_deferred import take_deferred
from watcher.daemon import worker_loop
from watcher.handle import child_process
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.rules.results import NotClaimed, Reason
from watcher.rules.stamp import Schedule
from watcher.settle import moves, put_back, unlink
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.disk import Disk
from watcher.spool.spool import Spool

ROOT = Path(__file__).parent.parent.parent
MATRIX = ROOT / "scripts" / "kill_matrix"
BROKEN = Path(__file__).parent / "killed_broken.py"
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("WATCHER_")}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "scripts")))
BREAKS = [
    *("unlink-before-the-handler", "no-lease", "copy-and-unlink", "forget-what-is-aside"),
    *("keep-the-lock", "write-one-slot-for-all", "overwrite-the-replacement", "copy-again"),
    *("done-before-it-is-stored", "acknowledge-before-the-handler"),
]
CASES = {
    *("enqueue", "sweep", "sweep-exec", "run", "run-worker", "run-exec", "run-exec-worker"),
    *("threads", "threads-exec", "reload", "left-running"),
    *("raw-sweep", "raw-threads", "raw-archive"),
    *("hold", "release", "requeue", "requeue-archived", "delete"),
}
# Kinds of handlers, tried by the daemon's worker.
KINDS = [
    *("isolate", "batch", "worker", "move", "move-raw", "move-far", "maildir", "lmtp", "http"),
    *("nats", "work"),
]
MODULES = [
    ".".join(path.relative_to(ROOT / "watcher").with_suffix("").parts)
    for path in (ROOT / "watcher").rglob("*.py")
    if path.stem not in ("__init__", "__main__")
]
pytestmark = [pytest.mark.promise2, pytest.mark.promise3, pytest.mark.promise4]


@pytest.fixture(scope="session", autouse=True)
def tracing():
    """Skip where nothing can be traced: no strace, or no permission to attach."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"nothing can be traced here: {tried.stderr.strip()}")


def run(program, *arguments):
    argv = [sys.executable, str(program), *map(str, arguments)]
    return subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True)


def matrix(tmp_path, *arguments):
    """Make a part of the matrix; return what it printed, and the rows: command -> numbers."""
    ended = run(MATRIX, "--jobs", 2, "--dir", tmp_path, *arguments)
    if ended.returncode == os.EX_TEMPFAIL:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = re.findall(r"^([a-z-]+)((?: +[0-9]+)+)$", ended.stdout, re.MULTILINE)
    return ended.stdout, {name: [int(n) for n in numbers.split()] for name, numbers in rows}


def test_killed_now_and_then_nothing_is_lost(tmp_path):
    only = ["enqueue", "sweep", "run-worker", "left-running", "raw-threads"]
    named = [word for name in only for word in ("--only", name)]
    printed, rows = matrix(tmp_path, *named, "--every", 36, "--looking", 18)
    assert rows.keys() == set(only), printed
    for calls, runs, killed, *findings in rows.values():
        assert calls > runs >= killed > 0, printed
        assert not any(findings), printed


def test_refused_now_and_then_nothing_is_lost(tmp_path):
    printed, rows = matrix(tmp_path, "--errors", "--only", "sweep", "--every", 200)
    _calls, runs, refused, _unhealthy, *findings = rows["sweep"]
    assert runs >= refused > 0, printed
    assert not any(findings), printed


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--every", 30, "--looking", 15], id="kill"),
        pytest.param(["--every", 10, "--looking", 6], id="kill more", marks=pytest.mark.long),
        pytest.param(["--errors", "--every", 60], id="more errors", marks=pytest.mark.long),
    ],
)
def test_all_commands(tmp_path, arguments):
    named = [word for name in CASES for word in ("--only", name)]
    printed, rows = matrix(tmp_path, *named, *arguments)
    print(printed)
    assert rows.keys() == CASES, printed
    for _calls, runs, struck, *_rest in rows.values():
        assert runs >= struck > 0, printed


def need(case):
    """Skip if what a case needs is not installed."""
    if case == "http":
        pytest.importorskip("httpx2")
    if case in ("nats", "work"):
        pytest.importorskip("nats")
        if pytest.importorskip("beyond_one_machine.nats_servers").PROGRAM is None:
            pytest.skip("no nats-server")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--every", 100, "--looking", 50], id="kill"),
        pytest.param(["--every", 2], id="kill more", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_handler_loses_nothing_and_doubles_nothing(tmp_path, kind, arguments):
    """What the target accepted comes twice only if the daemon was killed, and with the same key."""
    need(kind)
    printed, rows = matrix(tmp_path, "--only", kind, *arguments)
    print(printed)
    calls, runs, killed, *findings = rows[kind]
    assert calls > runs >= killed > 0, printed
    assert not any(findings), printed


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name != "no-lease" else []) for name in BREAKS],
)
def test_of_the_test_a_broken_promise_is_found(tmp_path, name):
    need("nats" if name in BREAKS[-2:] else "")
    ended = run(BROKEN, name, tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Finding" in ended.stdout


# -- what it found ----------------------------------------------------------------------------


class Refusing(Disk):
    """A disk that refuses one call on one name, so many times."""

    def __init__(self, call: str, name: bytes, times: int = 1) -> None:
        self._refused = (call, name)
        self._times = times

    def _may(self, call: str, name: bytes) -> None:
        if self._times > 0 and self._refused == (call, name):
            self._times -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def unlink(self, name: bytes, directory: int) -> None:
        self._may("unlink", name)
        super().unlink(name, directory)

    def move(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        self._may("move", name)
        super().move(name, source, target_name, target)


@pytest.fixture
def pair(tmp_path):
    """Claim a pair on a disk that refuses; return the spool and the parts."""
    opened = []

    def claim(disk: Disk) -> tuple[Spool, Claim]:
        queue = tmp_path / "queue"
        queue.mkdir()
        (queue / "x.db").write_bytes(b"metadata")
        (queue / "x.msg").write_bytes(b"message")
        spool = Spool(os.fsencode(queue), Layout(legacy=True), disk)
        claimed = take(spool, b"x.msg", Proof.NONE, TERMS())
        assert isinstance(claimed, Claim)
        opened.append(claimed)
        return spool, claimed

    yield claim
    for each in opened:
        each.release()


def TERMS() -> ClaimOptions:  # noqa: N802 - a value that must be made anew
    return ClaimOptions(0.0, Ages(SystemClock()))


def names(spool: Spool, state: State) -> set[str]:
    return set(os.listdir(os.path.join(os.fsdecode(spool.path), ".watcher", state.value)))


def test_a_done_file_whose_unlink_was_refused_is_removed_by_the_next_try(pair, tmp_path):
    spool, claim = pair(Refusing("unlink", b"x.msg"))
    with pytest.raises(OSError, match="Input/output"):
        moves.remove(spool, claim.parts)
    assert moves.remove(spool, claim.parts)
    assert not list((tmp_path / "queue").rglob("x.*"))


def test_halves_keep_one_name_where_the_second_rename_was_refused(pair):
    spool, claim = pair(Refusing("move", b"x.db"))
    with pytest.raises(OSError, match="Input/output"):
        moves.put_away(spool, State.DEAD, claim.parts, "why", {})
    moves.put_away(spool, State.DEAD, claim.parts, "why", {})
    assert {"x.msg", "x.db", "x.json"} == {
        name for name in names(spool, State.DEAD) if not name.startswith(".")
    }


@pytest.mark.parametrize("state", [State.DEAD, State.DEFERRED])
def test_tries_that_are_refused_leave_no_notes(pair, state):
    spool, claim = pair(Refusing("move", b"x.msg", times=3))

    def put() -> object:
        if state is State.DEAD:
            return moves.put_away(spool, state, claim.parts, "why", {})
        return moves.defer(spool, claim.parts, Schedule(1, attempts=1), "why", {})

    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            put()
    assert names(spool, state) == set()


def test_a_deferred_entry_whose_directory_cannot_be_looked_at_is_refused_not_raised(
    tmp_path, monkeypatch
):
    spool = Spool(os.fsencode(tmp_path), Layout())
    (tmp_path / ".watcher" / "deferred").mkdir(parents=True, mode=0o700)

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(spool, "state_dir", refuse)
    name = b"deferred/20261123T105313.250Z-a1-c0-d30-w0-x.pck"
    refused = take_deferred(spool, name, TERMS())
    assert isinstance(refused, NotClaimed)
    assert refused.refusal is Reason.ERROR


def test_the_end_of_a_deferred_pair_that_was_done_is_an_orphan(tmp_path):
    place = tmp_path / ".watcher" / "deferred"
    place.mkdir(parents=True, mode=0o700)
    lone = "20261123T105313.250Z-a1-c0-d30-w0-x.db"
    (place / lone).write_bytes(b"metadata")
    spool = Spool(os.fsencode(tmp_path), Layout(legacy=True))
    claim = take_deferred(spool, os.fsencode(f"deferred/{lone}"), TERMS())
    assert isinstance(claim, Claim)
    assert claim.action.value == "orphan"
    claim.release()
    (tmp_path / "x.msg").write_bytes(b"message")  # a requeue that was cut short: it will be called
    refused = take_deferred(spool, os.fsencode(f"deferred/{lone}"), TERMS())
    assert isinstance(refused, NotClaimed)
    assert refused.refusal is Reason.YOUNG


def test_standard_error_that_cannot_be_read_does_not_undo_what_a_command_did():
    read_end, write_end = os.pipe()
    try:
        assert child_process.end_of(read_end) == b""  # pread(2) on a pipe: ESPIPE
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_replacement_that_could_not_go_back_goes_back_at_the_next_try(pair, tmp_path):
    spool, claim = pair(Disk())
    queue = tmp_path / "queue"
    (queue / "new").write_bytes(b"new")

    class Full(Disk):
        def move_aside(self, name: bytes, source: int, target: int) -> None:
            os.rename(queue / "new", queue / "x.msg")  # it comes after the look
            super().move_aside(name, source, target)

        def link_and_unlink(self, *_arguments: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool.disk = Full()
    with pytest.raises(OSError, match="No space"):
        unlink.remove(spool, claim.parts[0])
    spool.disk = Disk()
    unlink.remove(spool, claim.parts[0])
    assert (queue / "x.msg").read_bytes() == b"new"


def test_a_worker_whose_imports_are_refused_at_first_goes_on(monkeypatch):
    """Out of descriptors just then, it ended with a traceback, and the daemon never noticed."""
    refusals = [
        OSError(errno.EMFILE, "Too many open files"),
        ImportError("No module named 'email'"),
    ]

    def refuse() -> None:
        if refusals:
            raise refusals.pop(0)

    monkeypatch.setattr(worker_loop, "prepare", refuse)
    monkeypatch.setattr(worker_loop, "LOOK_AGAIN", 0.01)
    said: list[str | None] = []
    health = types.SimpleNamespace(trouble=lambda _about, text: said.append(text))
    worker = types.SimpleNamespace(stopping=threading.Event(), health=health)
    worker_loop.WorkerLoop._prepare(worker)
    first, second, third = said
    assert first == "modules cannot be imported: OSError: [Errno 24] Too many open files"
    assert second == "modules cannot be imported: ImportError: No module named 'email'"
    assert third is None
    assert not refusals


def test_what_cannot_be_unlinked_after_its_link_gets_no_third_name(queue, monkeypatch):
    """EPERM from the unlink is no word about links: each try would make one name more."""
    left = queue / ".watcher" / "inflight" / "4194304.0badcafe"
    left.mkdir(parents=True, mode=0o700)
    (left / "a.csv").write_bytes(b"a")
    spool = Spool(os.fsencode(queue), Layout(b".csv", raw=True))

    def refused(name, *_arguments, **_options):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refused)
        put_back.recover(spool)
    assert [path.name for path in queue.glob("a*")] == ["a.csv"]
    put_back.recover(spool)
    assert [path.name for path in queue.glob("a*")] == ["a.csv"]
    assert (queue / "a.csv").stat().st_nlink == 1
    assert not left.exists()


def test_calls_that_import_a_module_are_not_refused():
    program = f"""if True:
        import os, sys, subprocess
        from kill_matrix.__main__ import warm
        from kill_matrix.trial import can_have
        warm()
        there = {{f"watcher.{{name}}" for name in {MODULES!r}}}
        assert there <= sys.modules.keys(), there - sys.modules.keys()
        for name in ("handle/isolated", "sweep.cpython-311-x86_64-linux-gnu.so", "sweep.py"):
            line = f'newfstatat(AT_FDCWD</q>, "{{"{ROOT}/watcher"}}/{{name}}", 0x7f, 0) = 0'
            assert not can_have("EACCES", line), line
        assert can_have("EACCES", 'newfstatat(3</q>, ".watcher", 0x7f, 0) = 0')
        """
    ended = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_a_refused_call_that_strace_shows_in_two_lines_is_known_by_its_descriptor():
    program = """if True:
        from kill_matrix.trial import can_have
        from kill_matrix.victim import calls_in
        text = b"".join((
            b'1 write(14<pipe:[9]>, "w", 1 <unfinished ...>\\n',
            b'2 openat(3</q>, "x", O_RDONLY) = 4</q/x>\\n',
            b'1 <... write resumed>)   = -1 EIO (Input/output error) (INJECTED)\\n',
        ))
        calls = list(calls_in(text))
        assert [call.name for call in calls] == ["write", "openat"], calls
        (line,) = [call.line for call in calls if "(INJECTED)" in call.line]
        assert not can_have("EIO", line), line
        """
    ended = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
