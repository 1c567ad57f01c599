"""The durable commit: its order as the kernel sees it, every way to die or fail, its readers."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from watcher import commit_one, mailman
from watcher.commit_one import enqueue
from watcher.errors import (
    CannotCreate,
    NoSuch,
    NotPermitted,
    TryAgain,
    Unavailable,
    Usage,
)

STRACE = shutil.which("strace")
PYTHON2 = next(  # an old Python lies where pyenv puts it, if anywhere
    Path("~/.pyenv/versions").expanduser().glob("2.7*/bin/python2.7"), Path("python2.7")
)
NAME = re.compile(r"[0-9]+\.[0-9]{6}\+[0-9a-f]{40}")
METADATA = {
    "listname": "test",
    "tolist": 1,
    "lang": "fran\u00e7ais \U0001f4ec",
    "recips": ["a@example.com", "b@example.com"],
    "nested": {"deep": [None, True, -1.5, (1, b"\xff\x00")]},
    "big": 1 << 80,
}
MESSAGE = bytes(range(256)) * 20

needs_strace = pytest.mark.skipif(STRACE is None, reason="no strace here")


def read(queue, name, suffix=".pck"):
    return (queue / (name + suffix)).read_bytes()


def names(queue):
    return sorted(path.name for path in queue.iterdir())


# -- what is written --------------------------------------------------------------------------


def test_one_file_of_two_pickles_under_the_name_that_is_returned(queue):
    name = enqueue(queue, MESSAGE, METADATA)
    assert NAME.fullmatch(name)
    assert names(queue) == [f"{name}.pck"]
    assert mailman.read_pck(read(queue, name)) == (MESSAGE, METADATA)
    assert enqueue(os.fsencode(queue), b"") != name
    assert enqueue(str(queue), bytearray(b"x")) != name


def test_python_3s_own_pickle_reads_it_as_mailman_3_does(queue):
    name = enqueue(queue, MESSAGE, METADATA)
    with open(queue / f"{name}.pck", "rb") as file:
        assert pickle.load(file) == MESSAGE
        assert pickle.load(file) == METADATA
        assert file.read() == b""


READ_BY_2 = """
import cPickle, json, pickle, sys
for module in (cPickle, pickle):
    with open(sys.argv[1], "rb") as file:
        message, metadata = module.load(file), module.load(file)
        assert file.read() == b""
    assert type(message) is str and type(metadata) is dict, (type(message), type(metadata))
    assert message == "".join(map(chr, range(256))) * 20
    assert metadata["nested"]["deep"] == [None, True, -1.5, (1, "\\xff\\x00")]
    assert type(metadata["nested"]["deep"][3][1]) is str
    assert metadata["lang"] == u"fran\\xe7ais \\U0001f4ec"
    assert metadata["listname"] == "test" and metadata["tolist"] == 1
    assert metadata["recips"] == ["a@example.com", "b@example.com"]
    assert metadata["big"] == 1 << 80
print("read")
"""


@pytest.mark.skipif(not PYTHON2.exists(), reason="no Python 2.7 here")
def test_python_2_reads_a_str_and_a_dict_as_mailman_2_1_does(queue):
    name = enqueue(queue, MESSAGE, METADATA)
    said = subprocess.run(
        [PYTHON2, "-c", READ_BY_2, queue / f"{name}.pck"], capture_output=True, text=True
    )
    assert said.stdout == "read\n", said.stderr


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.binary(), st.dictionaries(st.text(), values, max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_in_comes_out_of_ours_and_pythons_reader(queue, message, metadata):
    data = read(queue, enqueue(queue, message, metadata))
    assert mailman.read_pck(data) == (message, metadata)
    file = io.BytesIO(data)
    assert (pickle.load(file), pickle.load(file), file.read()) == (message, metadata, b"")


@pytest.mark.parametrize("suffix", ["", ".csv", ".pck", "~", "\u00e9"])
def test_a_raw_entry_is_the_message_and_nothing_else(queue, suffix):
    name = enqueue(queue, MESSAGE, raw=True, suffix=suffix)
    assert names(queue) == [name]
    assert name.endswith(suffix)
    assert read(queue, name, "") == MESSAGE


def test_an_ending_of_ones_own_goes_with_raw_only(queue):
    """Mailman's entries end in .pck: another ending, silently not used, would be looked for."""
    with pytest.raises(Usage, match=r"suffix.*raw"):
        enqueue(queue, b"", suffix=".csv")
    assert names(queue) == []


@pytest.mark.parametrize("suffix", [".tmp", ".csv.tmp", "/x", "/../x", "a\0b"])
def test_an_ending_that_no_watcher_would_look_at_is_refused(queue, suffix):
    """Else the entry would be committed, and never handled."""
    with pytest.raises(Usage, match="suffix"):
        enqueue(queue, b"", raw=True, suffix=suffix)
    assert names(queue) == []


@pytest.mark.parametrize(
    "metadata",
    [{1: 2}, {"x": ...}, {"x": {1: 2}}, {"x": [{"y": {1, 2}}]}, {"x": 1j}, {b"x": 1}],
    ids=repr,
)
def test_metadata_that_no_mailman_would_read_is_refused(queue, metadata):
    with pytest.raises(Usage, match="metadata"):
        enqueue(queue, b"", metadata)
    nested = []
    nested.append(nested)
    with pytest.raises(Usage, match="nested too deeply"):
        enqueue(queue, b"", {"x": nested})
    with pytest.raises(Usage, match="no metadata"):
        enqueue(queue, b"", {"x": 1}, raw=True)
    assert names(queue) == []


# -- names ------------------------------------------------------------------------------------


def test_names_increase_although_the_clock_stands_still_or_goes_back(queue, monkeypatch):
    now = commit_one.time.time_ns()
    steps = iter([now, now, now - 10**12, now - 10**9, now + 5000])
    monkeypatch.setattr(commit_one.time, "time_ns", lambda: next(steps))
    made = [enqueue(queue, b"the same") for _ in range(5)]
    whens = [name.split("+")[0] for name in made]
    assert whens == sorted(set(whens))
    assert made == sorted(made)


def put_many(queue, count, put):
    """Enqueue from one process or thread of several."""
    put([enqueue(queue, b"the same") for _ in range(count)])


def test_names_are_unique_over_processes_and_threads_and_increase_in_each(queue):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [
        context.Process(target=put_in_threads, args=(queue, 2, 30, results)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    lists = [results.get() for _ in range(6)]
    for process in processes:
        process.join()
    for made in lists:
        assert made == sorted(made)
        assert len({name.split("+")[0] for name in made}) == 30
    everything = [name for made in lists for name in made]
    assert sorted(f"{name}.pck" for name in everything) == names(queue)
    assert len(everything) == 180


def put_in_threads(queue, threads, count, results):
    running = [
        threading.Thread(target=put_many, args=(queue, count, results.put)) for _ in range(threads)
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


# -- what the kernel sees ---------------------------------------------------------------------


CALLS = "openat,write,fsync,fdatasync,rename,renameat,renameat2,close,unlinkat"


class Traced(NamedTuple):
    """A run of `watcher enqueue`: how it ended, and its calls up to and from its first of ours."""

    ended: subprocess.CompletedProcess[bytes]
    before: list[str]
    lines: list[str]


@pytest.fixture
def strace(queue, tmp_path, watcher_command, environment):
    """Run `watcher enqueue` under strace, with more options for strace."""
    log = tmp_path / "strace"
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}  # each run the same

    def run(*options, message=b"message"):
        argv = [STRACE, "-f", "-qq", "-s", "200", "-o", log, "-e", f"trace={CALLS}", *options]
        ended = subprocess.run(
            [*argv, *watcher_command, "enqueue", str(queue)],
            input=message,
            env=environment,
            capture_output=True,
            timeout=60,
        )
        lines = [line.split(None, 1)[1] for line in log.read_text().splitlines()]
        first = [at for at, line in enumerate(lines) if f'"{queue}", O_RDONLY' in line]
        start = first[0] if first else len(lines)
        return Traced(ended, lines[:start], lines[start:])

    return run


def positions(lines, pattern):
    return [at for at, line in enumerate(lines) if re.search(pattern, line)]


@needs_strace
def test_the_order_is_write_sync_rename_sync_the_directory_and_only_then_the_name(queue, strace):
    ended, _before, lines = strace(message=MESSAGE)
    assert ended.returncode == 0, ended.stderr
    name = ended.stdout.decode().strip()
    directory = lines[0].rsplit("= ", 1)[1]
    (created,) = positions(lines, rf'^openat\({directory}, "{re.escape(name)}\.pck\.tmp".*O_EXCL')
    fd = lines[created].rsplit("= ", 1)[1]
    written = positions(lines, rf"^write\({fd}, ")
    (synced,) = positions(lines, rf"^fsync\({fd}\) += 0")
    (renamed,) = positions(lines, rf'^rename.*{directory}, "{re.escape(name)}\.pck\.tmp", ')
    (settled,) = positions(lines, rf"^fsync\({directory}\) += 0")
    (printed,) = positions(lines, rf'^write\(1, "{re.escape(name)}')
    assert 0 < created < min(written) <= max(written) < synced < renamed < settled < printed
    assert mailman.read_pck(read(queue, name)).message == MESSAGE


@needs_strace
def test_killed_at_each_call_it_leaves_nothing_a_temporary_file_or_the_whole_entry(queue, strace):
    """strace delivers the signal as the call is entered, and the call is not made."""
    whole = strace()
    assert whole.ended.returncode == 0
    own = [line.partition("(")[0] for line in whole.lines if "(" in line]
    (renamed,) = [at for at, call in enumerate(own) if call.startswith("rename")]
    (printed,) = positions(whole.lines, r'^write\(1, "[0-9]')
    (created,) = positions(whole.lines, r"^openat\(.*O_CREAT")
    for at, call in enumerate(own):
        for left in names(queue):
            (queue / left).unlink()
        when = own[:at].count(call) + len(positions(whole.before, rf"^{call}\("))
        killed = strace("-e", f"inject={call}:signal=KILL:when={when + 1}")
        reached = [line.partition("(")[0] for line in killed.lines if "(" in line]
        assert reached == own[: at + 1], "another call than the one that was meant"
        assert bool(killed.ended.stdout) == (at > printed)
        left = names(queue)
        if at > renamed:
            (name,) = left
            assert mailman.read_pck((queue / name).read_bytes()) == (b"message", {})
        else:
            assert [name for name in left if not name.endswith(".pck.tmp")] == []
        assert len(left) == (at > created)


FAILURES = [
    ("fsync", 1, "ENOSPC", 75),
    ("fsync", 1, "EDQUOT", 75),
    ("fsync", 1, "EIO", 73),
    ("fsync", 1, "EACCES", 77),
    ("rename,renameat,renameat2", 1, "ENOSPC", 75),
    ("rename,renameat,renameat2", 1, "EACCES", 77),
    ("rename,renameat,renameat2", 1, "EROFS", 77),
    ("rename,renameat,renameat2", 1, "EIO", 73),
]


@needs_strace
@pytest.mark.parametrize(("calls", "when", "error", "code"), FAILURES)
def test_a_call_that_fails_is_one_line_its_code_and_nothing_left(
    queue, strace, calls, when, error, code
):
    ended, _before, _lines = strace("-e", f"inject={calls}:error={error}:when={when}")
    assert ended.returncode == code
    assert ended.stdout == b""
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith(f"watcher: {queue}: no entry ")
    assert os.strerror(getattr(errno, error)) in line
    assert names(queue) == []


@needs_strace
def test_a_directory_that_cannot_be_synced_leaves_the_entry_and_says_so(queue, strace):
    ended, _before, _lines = strace("-e", "inject=fsync:error=EIO:when=2")
    assert ended.returncode == 69
    assert ended.stdout == b""
    (left,) = names(queue)
    assert NAME.fullmatch(left.removesuffix(".pck"))
    (line,) = ended.stderr.decode().splitlines()
    assert left in line
    assert "may not survive a power failure" in line


# -- each call of ours, failing in turn -------------------------------------------------------

ERRORS = {
    errno.ENOSPC: TryAgain,
    errno.EDQUOT: TryAgain,
    errno.EMFILE: TryAgain,
    errno.ENFILE: TryAgain,
    errno.ENOMEM: TryAgain,
    errno.EACCES: NotPermitted,
    errno.EPERM: NotPermitted,
    errno.EROFS: NotPermitted,
    errno.EIO: CannotCreate,
    errno.ENAMETOOLONG: CannotCreate,
}


def fail_at(monkeypatch, call, when, error):
    """Make the `when`th such call from here on raise."""
    real, calls = getattr(os, call), []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) == when:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(commit_one.os, call, failing)
    return calls


@pytest.mark.parametrize(("call", "when"), [("open", 2), ("write", 1), ("fsync", 1), ("rename", 1)])
@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_whatever_fails_before_the_rename_leaves_nothing(
    queue, monkeypatch, descriptors, call, when, number
):
    before = descriptors()
    calls = fail_at(monkeypatch, call, when, OSError(number, os.strerror(number)))
    with pytest.raises(ERRORS[number], match=re.escape(os.strerror(number))):
        enqueue(queue, b"message")
    assert len(calls) == when
    monkeypatch.undo()
    assert names(queue) == []
    assert descriptors() == before


def test_each_step_waits_for_the_one_before(queue, monkeypatch):
    """The same order as under strace above, where there is none."""
    steps = []

    def note(call, what):
        real = getattr(os, call)

        def noting(*arguments, **options):
            steps.append((call, what(*arguments)))
            return real(*arguments, **options)

        monkeypatch.setattr(commit_one.os, call, noting)

    def opened(fd, *_):
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))

    note("write", opened)
    note("fsync", opened)
    note("rename", lambda scratch, name: (os.fsdecode(scratch), os.fsdecode(name)))
    file = f"{enqueue(queue, b'message')}.pck"
    monkeypatch.undo()
    assert steps == [
        ("write", f"{file}.tmp"),
        ("fsync", f"{file}.tmp"),
        ("rename", (f"{file}.tmp", file)),
        ("fsync", queue.name),
    ]


@pytest.mark.parametrize(("call", "when"), [("write", 1), ("fsync", 1), ("rename", 1)])
def test_an_interruption_leaves_nothing(queue, monkeypatch, call, when):
    fail_at(monkeypatch, call, when, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        enqueue(queue, b"message")
    monkeypatch.undo()
    assert names(queue) == []


def test_a_failed_sync_of_the_directory_is_told_apart(queue, monkeypatch):
    fail_at(monkeypatch, "fsync", 2, OSError(errno.EIO, "broken"))
    with pytest.raises(Unavailable, match="may be there"):
        enqueue(queue, b"message")
    assert len(names(queue)) == 1


def test_short_writes_are_gone_on_with(queue, monkeypatch):
    real = os.write
    monkeypatch.setattr(commit_one.os, "write", lambda fd, data: real(fd, data[:7]))
    name = enqueue(queue, MESSAGE)
    monkeypatch.undo()
    assert mailman.read_pck(read(queue, name)).message == MESSAGE


def test_a_directory_that_is_none_is_no_such(queue, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for place in (tmp_path / "nowhere", file, file / "below"):
        with pytest.raises(NoSuch, match="the queue directory does not exist"):
            enqueue(place, b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_we_may_not_write_is_not_permitted(queue):
    queue.chmod(0o500)
    with pytest.raises(NotPermitted):
        enqueue(queue, b"")


def test_the_file_is_its_owners_and_groups_under_the_umask(queue):
    before = os.umask(0o027)
    try:
        name = enqueue(queue, b"")
    finally:
        os.umask(before)
    assert (queue / f"{name}.pck").stat().st_mode & 0o777 == 0o640


def test_a_directory_called_anything_is_fine(tmp_path):
    place = os.path.join(os.fsencode(tmp_path), b"-\xff\n$(x)")
    os.mkdir(place)
    name = enqueue(place, b"m")
    assert os.listdir(place) == [os.fsencode(f"{name}.pck")]


def test_the_producer_imports_nothing_of_others():
    text = (
        "import sys\nfrom watcher.commit_one import enqueue\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded - set(sys.stdlib_module_names) - {'watcher', '__main__'}))"
    )
    said = subprocess.run([sys.executable, "-S", "-c", text], capture_output=True, text=True)
    assert said.stdout == "[]\n", said.stderr
