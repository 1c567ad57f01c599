"""`watcher enqueue`: what is printed is on disk, whatever happens to the rest."""

from __future__ import annotations

import os
import pickle
import random
import statistics
import subprocess
import time

import pytest

import watcher
from watcher.spool.new_markers import make_markers


@pytest.fixture
def enqueue(queue, watcher_command, environment):
    """Run `watcher enqueue QUEUE ...`."""

    def run(*arguments, message=b"", place=queue, **more):
        argv = [*watcher_command, "enqueue", os.fsencode(place), *arguments]
        options = {"input": message, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        if "stdin" in options:
            del options["input"]
        return subprocess.run(argv, env=environment, timeout=60, **options)

    return run


def entries(queue):
    """Return the entries by name: (message, metadata)."""
    found = {}
    for path in queue.iterdir():
        with open(path, "rb") as file:
            found[path.name] = pickle.load(file), pickle.load(file)
    return found


def one_line(ended, code):
    assert ended.returncode == code, ended
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("watcher: ")
    return line


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_standard_input_becomes_an_entry_and_its_name_is_printed(queue, enqueue, arguments):
    message = random.Random(1).randbytes(100_000)
    ended = enqueue(*arguments, message=message)
    assert (ended.returncode, ended.stderr) == (0, b"")
    name = ended.stdout.decode().removesuffix("\n")
    assert entries(queue) == {f"{name}.pck": (message, {})}


def test_each_of_many_files_becomes_an_entry_in_order(queue, tmp_path, enqueue):
    files = []
    for number in range(20):
        files.append(tmp_path / f"file {number}")
        files[-1].write_bytes(b"%d" % number)
    ended = enqueue("--meta", "listname=test", "--meta", "note=a=b", *files, "-", message=b"last")
    printed = ended.stdout.decode().split()
    assert printed == sorted(printed)
    found = entries(queue)
    assert [found[f"{name}.pck"][0] for name in printed] == [
        *(b"%d" % number for number in range(20)),
        b"last",
    ]
    assert {str(metadata) for _message, metadata in found.values()} == {
        "{'listname': 'test', 'note': 'a=b'}"
    }


@pytest.mark.parametrize("trouble", ["missing", "directory"])
def test_a_file_that_cannot_be_read_ends_it_and_what_was_committed_is_printed(
    queue, tmp_path, enqueue, trouble
):
    good, bad = tmp_path / "good", tmp_path / "bad\n"
    good.write_bytes(b"good")
    if trouble == "directory":
        bad.mkdir()
    ended = enqueue(good, bad, good)
    line = one_line(ended, os.EX_NOINPUT)
    assert "bad\\n: cannot be read: " in line
    assert list(entries(queue)) == [f"{ended.stdout.decode().strip()}.pck"]


def test_no_such_directory_is_66(tmp_path, enqueue):
    for place in (tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").touch()
        assert "the queue directory does not exist; make it first" in one_line(
            enqueue(place=place), 66
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--meta", "x"),
        ("--meta", "=x"),
        ("--suffix", ".csv"),
        ("--format", "raw", "--meta", "a=b"),
        ("--format", "raw", "--suffix", ".tmp"),
        ("--format", "raw", "--suffix", "/../x"),
        ("--format", "tar"),
        ("--bogus",),
        ("-", "-"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_64_and_commits_nothing(queue, enqueue, arguments):
    one_line(enqueue(*arguments, message=b"x"), os.EX_USAGE)
    assert list(queue.iterdir()) == []


@pytest.mark.parametrize("suffix", [None, ".csv"])
def test_a_raw_entry_is_the_bytes(queue, enqueue, suffix):
    ended = enqueue(
        *("--format", "raw", *(["--suffix", suffix] if suffix else [])), message=b"\x00\xff"
    )
    (path,) = queue.iterdir()
    assert path.name == ended.stdout.decode().strip()
    assert path.name.endswith(suffix or "")
    assert path.read_bytes() == b"\x00\xff"


@pytest.mark.parametrize(
    ("patterns", "ending"),
    [(["*.csv", "*.CSV"], ".csv"), (["in-?*", "*.dat"], ".dat"), (["*"], "")],
)
def test_a_name_has_an_ending_that_a_pattern_asks_for(queue, enqueue, patterns, ending):
    flags = [word for pattern in patterns for word in ("--match", pattern)]
    ended = enqueue("--format", "raw", *flags, message=b"x")
    assert os.listdir(queue) == [ended.stdout.decode().strip()]
    assert os.listdir(queue)[0].endswith(ending)
    line = one_line(enqueue("--format", "raw", "--match", "in-?*"), os.EX_CONFIG)
    assert "say --suffix" in line


@pytest.fixture
def marked(queue, watcher_command, environment):
    """Have the queue record that it has markers; return a sweep of it."""

    def sweep(*options):
        argv = [*watcher_command, "sweep", str(queue), *options, "--", "true"]
        subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=60)
        return sorted(path.name for path in queue.iterdir() if path.name != ".watcher")

    assert sweep("--format", "raw", "--suffix", ".csv", "--marker", "{stem}.ok") == []
    return sweep


def test_an_entry_of_a_queue_with_markers_gets_one_and_is_taken(queue, tmp_path, enqueue, marked):
    files = [tmp_path / str(number) for number in range(3)]
    for file in files:
        file.write_bytes(b"x")
    ended = enqueue(*files)
    assert (ended.returncode, ended.stderr) == (0, b"")
    names = ended.stdout.decode().split()
    there = sorted(path.name for path in queue.iterdir() if path.name != ".watcher")
    markers = [name.removesuffix(".csv") + ".ok" for name in names]
    assert there == sorted([*names, *markers])
    assert marked() == []


def test_the_function_gives_a_marker_too(queue, marked):
    name = watcher.enqueue(queue, b"x", raw=True, suffix=".csv")
    others = watcher.enqueue_many(queue, [(b"y", None)] * 2, raw=True, suffix=".csv")
    markers = [each.removesuffix(".csv") + ".ok" for each in (name, *others)]
    assert all((queue / marker).exists() for marker in markers)
    assert marked() == []


def test_an_entry_that_cannot_get_its_marker_is_not_committed(queue):
    for name in ("a", "b", "c", "b.ok"):
        (queue / name).write_bytes(b"x")
    directory = os.open(queue, os.O_RDONLY)
    try:
        made, error = make_markers(directory, [b"a", b"b", b"c"], b"{name}.ok")
    finally:
        os.close(directory)
    assert (made, type(error)) == ([b"a.ok"], FileExistsError)
    assert sorted(path.name for path in queue.iterdir()) == ["a", "a.ok", "b.ok"]


def test_bytes_that_are_no_text_are_passed_through(queue, tmp_path, enqueue):
    file = os.path.join(os.fsencode(tmp_path), b"caf\xe9\xff")
    with open(file, "wb") as opened:
        opened.write(b"m")
    ended = enqueue(b"--meta", b"k=\xff", file)
    assert ended.returncode == 0, ended.stderr
    assert list(entries(queue).values()) == [(b"m", {"k": "\udcff"})]


# -- streams that are closed, full, or without a reader ---------------------------------------


def test_without_a_reader_of_the_names_every_file_is_committed(queue, tmp_path, enqueue):
    files = [tmp_path / str(number) for number in range(5)]
    for file in files:
        file.write_bytes(file.name.encode())
    reading, writing = os.pipe()
    os.close(reading)
    ended = enqueue(*files, stdout=writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert sorted(message for message, _metadata in entries(queue).values()) == [
        *(b"%d" % number for number in range(5))
    ]


def test_a_name_that_cannot_be_printed_is_said_and_is_no_reason_to_try_again(
    queue, tmp_path, enqueue
):
    (tmp_path / "file").write_bytes(b"m")
    with open("/dev/full", "wb") as full:
        ended = enqueue(tmp_path / "file", tmp_path / "file", stdout=full)
    line = one_line(ended, os.EX_IOERR)
    assert "are committed" in line
    names = [name.removesuffix(".pck") for name in entries(queue)]
    assert len(names) == 2
    assert all(name in line for name in names)


def test_a_file_that_cannot_be_read_costs_none_before_it(queue, tmp_path, enqueue):
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
    files = [tmp_path / "0", tmp_path / "1", tmp_path / "missing", tmp_path / "2"]
    ended = enqueue(*files)
    assert "missing: cannot be read" in one_line(ended, os.EX_NOINPUT)
    told = ended.stdout.decode().split()
    assert [entries(queue)[f"{name}.pck"][0] for name in told] == [b"0", b"1"]
    assert len(entries(queue)) == 2


def closed(fd):
    return {"preexec_fn": lambda: os.close(fd)}


def test_without_a_standard_input_nothing_is_committed(queue, enqueue):
    assert "standard input is closed" in one_line(enqueue(stdin=None, **closed(0)), 64)
    assert list(queue.iterdir()) == []
    with open("/dev/null", "wb") as unreadable:
        assert "-: cannot be read" in one_line(enqueue(stdin=unreadable), 66)
    assert list(queue.iterdir()) == []


def test_without_standard_output_or_error_the_entry_is_whole(queue, tmp_path, enqueue):
    """A file of the queue must not get number 1 or 2 and be written to by other code."""
    file = tmp_path / "file"
    file.write_bytes(b"m" * 100)
    assert enqueue(file, **closed(1)).returncode == 0
    assert enqueue(file, **closed(2)).returncode == 0
    assert enqueue(tmp_path / "none", **closed(2)).returncode == 66
    assert [message for message, _ in entries(queue).values()] == [b"m" * 100] * 2


# -- a queue that is configured ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flag", "variable", "variables"])
def test_it_commits_what_the_daemon_of_the_queue_takes(queue, tmp_path, enqueue, environment, how):
    """A .pck in a drop folder of .csv would never be handled."""
    file = tmp_path / "w.toml"
    file.write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = ["true"] }}\n'
        'format = "raw"\nsuffix = ".csv"\n'
    )
    if how == "variable":
        environment["WATCHER_CONFIG"] = str(file)
    elif how == "variables":
        environment |= {"WATCHER_FORMAT": "raw", "WATCHER_SUFFIX": ".csv"}
    ended = enqueue(*(["--config", str(file)] if how == "flag" else []), message=b"a,b")
    assert (queue / ended.stdout.decode().strip()).read_bytes() == b"a,b"
    refused = enqueue(*(["--config", str(file)] if how == "flag" else []), "--meta", "k=v")
    assert "a raw entry has no metadata" in one_line(refused, os.EX_USAGE)


def test_a_queues_name_stands_for_its_directory_as_in_other_commands(queue, tmp_path, enqueue):
    file = tmp_path / "w.toml"
    table = 'handler = { exec = ["true"] }\nformat = "raw"\n'
    file.write_text(f'[queues.q]\npath = "{queue}"\n{table}[queues.many]\npath = "*"\n{table}')
    for place, directory in (("q", queue), ("many/other", tmp_path / "other")):
        directory.mkdir(exist_ok=True)
        ended = enqueue("--config", str(file), message=b"a,b", place=place)
        assert (directory / ended.stdout.decode().strip()).read_bytes() == b"a,b"
    refused = enqueue("--config", str(file), place="many")
    assert "say which, many/..." in one_line(refused, os.EX_USAGE)


# -- starting fast ----------------------------------------------------------------------------

SLOW = {"watchdog", "tenacity", "pyinotify", "msgspec", "asyncore", "asyncio", "tomllib", "logging"}


def test_it_imports_none_of_what_it_does_not_need(queue, watcher_command, environment):
    argv = [watcher_command[0], "-X", "importtime", *watcher_command[1:], "enqueue", str(queue)]
    ended = subprocess.run(argv, env=environment, input=b"", capture_output=True, timeout=60)
    assert ended.returncode == 0
    imported = {
        line.rsplit("|", 1)[1].strip().split(".")[0]
        for line in ended.stderr.decode().splitlines()
        if line.startswith("import time:")
    }
    assert "watcher" in imported
    assert "click" in imported
    assert imported & SLOW == set()


def test_it_starts_in_less_than_100_ms_beyond_pythons_own_start(
    enqueue, watcher_command, environment
):
    """The median of several, measured against what the machine is able to do just now."""

    def seconds(run):
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    def python():
        subprocess.run([watcher_command[0], "-c", "pass"], env=environment, check=True)

    enqueue()  # compiled and cached from here on
    pairs = [(seconds(python), seconds(enqueue)) for _ in range(7)]
    bare = statistics.median(pair[0] for pair in pairs)
    whole = statistics.median(pair[1] for pair in pairs)
    assert whole - bare < max(0.1, 8 * bare)
