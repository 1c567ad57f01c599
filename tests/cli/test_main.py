"""The command line as a whole: help, errors in one line, exit codes, tracebacks on request."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys

import click
import pytest

from watcher import __version__, cli
from watcher.errors import NoSuch, TryAgain, WatcherError


@pytest.fixture
def watcher(watcher_command, environment, tmp_path):
    def run(*arguments, **more):
        return subprocess.run(
            [*watcher_command, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            **more,
        )

    return run


def test_without_arguments_it_prints_its_help(watcher, environment, watcher_command):
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(cli.__path__[0]))
    ended = watcher()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == watcher("--help").stdout == watcher("-h").stdout
    for name in cli.COMMANDS:
        assert f"\n  {name} " in ended.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_its_help(watcher, environment, name):
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(cli.__path__[0]))
    ended = watcher(name, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"Usage: watcher {name} ")


@pytest.fixture
def run_main(capfd):
    """Run `main` in this process; return its exit code, output and error lines."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(list(arguments))
        out, err = capfd.readouterr()
        return caught.value.code, out, err.splitlines()

    return run


@pytest.mark.parametrize(
    "arguments",
    [("nosuch",), ("--bogus",), ("enqueue",), ("list",), ("sweep", "a", "--bogus"), ("run", "--x")],
    ids=" ".join,
)
def test_a_usage_error_is_one_line_and_64(run_main, arguments):
    code, out, err = run_main(*arguments)
    assert (code, out) == (os.EX_USAGE, "")
    assert len(err) == 1
    assert err[0].startswith("watcher: ")


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (("nosuch",), "watcher: No such command"),
        (("cat",), "watcher: cat: Missing argument"),
        (("list",), "watcher: list: name a queue directory, or a configuration"),
        (("sweep", "a", "--bogus"), "watcher: sweep: No such option"),
        (("sweep", ".", "--grace-age", "x"), "watcher: sweep: --grace-age: expected a duration"),
        (("check", "--grace-age", "5m"), "watcher: check: --grace-age: goes with QUEUE_DIR"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_usage_error_names_the_command(run_main, arguments, begins):
    code, _, (line,) = run_main(*arguments)
    assert code == os.EX_USAGE
    assert line.startswith(begins)


def test_the_version_is_told_without_a_look_at_what_is_installed(watcher_command, environment):
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(cli.__path__[0]))
    argv = [watcher_command[0], "-X", "importtime", "-P", "-m", "watcher", "--version"]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == f"watcher {__version__}\n"
    assert "watcher.cli" in ended.stderr
    assert "importlib.metadata" not in ended.stderr


class Stand(click.Command):
    """Stands in for a command."""


def stand_in(monkeypatch, action):
    def get_command(_self, _context, _name):
        return Stand("enqueue", callback=action)

    monkeypatch.setattr(cli.Lazy, "get_command", get_command)


def raising(error):
    def action():
        raise error

    return action


FAILURES = [
    (NoSuch("q: no such\nthing"), 66, "watcher: q: no such\\nthing"),
    (TryAgain("full"), 75, "watcher: full"),
    (WatcherError("x\x1b[31m\udcff"), 70, "watcher: x\\x1b[31m\\udcff"),
    (PermissionError(errno.EACCES, "no", "f"), 77, "watcher: f: no (errno 13)"),
    (OSError(errno.ENOSPC, "full"), 75, "watcher: full (errno 28)"),
    (OSError(errno.EMFILE, "many"), 75, "watcher: many (errno 24)"),
    (FileNotFoundError(errno.ENOENT, "none", "f"), 66, "watcher: f: none (errno 2)"),
    (OSError(errno.EIO, "broken"), 74, "watcher: broken (errno 5)"),
    (
        ModuleNotFoundError("No module named 'watcher.sweep'"),
        69,
        (
            "watcher: a file of the program is missing or unreadable:"
            " No module named 'watcher.sweep'; was it installed anew? Start it again"
        ),
    ),
    (
        ZeroDivisionError("a\nb"),
        70,
        "watcher: bug: ZeroDivisionError: a\\nb; `watcher --debug` shows where",
    ),
]


@pytest.mark.parametrize(("error", "code", "line"), FAILURES, ids=repr)
def test_an_error_is_one_line_and_its_code(run_main, monkeypatch, error, code, line):
    stand_in(monkeypatch, raising(error))
    monkeypatch.setattr(cli, "_discard_output", lambda: None)
    assert run_main("enqueue") == (code, "", [line])


@pytest.mark.parametrize(("error", "code", "line"), FAILURES, ids=repr)
def test_debug_shows_the_traceback_above_the_line_and_keeps_the_code(
    run_main, monkeypatch, error, code, line
):
    stand_in(monkeypatch, raising(error))
    monkeypatch.setattr(cli, "_discard_output", lambda: None)
    ended, out, err = run_main("--debug", "enqueue")
    assert (ended, out, err[-1]) == (code, "", line)
    assert err[0] == "Traceback (most recent call last):"
    assert "in action" in "".join(err)


def test_debug_shows_the_traceback_of_a_real_error(watcher, environment):
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(cli.__path__[0]))
    plain, debug = (watcher(*flag, "enqueue", "nowhere", input="") for flag in ([], ["--debug"]))
    assert plain.returncode == debug.returncode == 66
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert debug.stderr.endswith(plain.stderr)


def test_a_number_that_a_command_returns_is_the_exit_code(run_main, monkeypatch):
    for code in (0, 75):
        stand_in(monkeypatch, lambda code=code: code)
        assert run_main("enqueue") == (code, "", [])


@pytest.mark.parametrize(
    "arguments",
    [("list", "QUEUE"), ("list", "QUEUE", "--json"), ("cat", "QUEUE", "X"), ("--help",)],
    ids=" ".join,
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_is_full_is_named(
    watcher_command, environment, queue, arguments, unbuffered
):
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(cli.__path__[0]))
    environment["PYTHONUNBUFFERED"] = unbuffered
    (queue / "X.pck").write_bytes(pickle.dumps(b"m" * 100_000, 2) + pickle.dumps({}, 2))
    argv = [str(queue) if word == "QUEUE" else word for word in arguments]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*watcher_command, *argv],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    line = b"watcher: standard output: No space left on device (errno 28)\n"
    assert (ended.returncode, ended.stderr) == (os.EX_TEMPFAIL, line)


def test_what_is_left_of_standard_output_is_flushed_nowhere(environment):
    """Where not even /dev/null is to be had for it: the interpreter flushes it at its end."""
    environment["PYTHONUNBUFFERED"] = ""
    script = (
        "import os, sys; from watcher import cli\n"
        "def refuse(*_): raise OSError(24, 'Too many open files')\n"
        "os.dup2 = refuse\n"
        "cli._name_standard_output()\n"
        "sys.stdout.write('left')\n"
        "cli._discard_output()\n"
        "sys.stdout.flush()"
    )
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            cwd=os.getcwd(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (os.EX_OK, b"")


def test_ctrl_c_is_130_and_a_word(run_main, monkeypatch):
    stand_in(monkeypatch, raising(KeyboardInterrupt()))
    assert run_main("enqueue")[::2] == (130, ["watcher: interrupted"])


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_a_command_never_starts_with_a_standard_descriptor_closed(
    watcher_command, environment, queue, fd
):
    """Else the first file it opens gets the number, and what is printed goes into it."""
    handler = ["sh", "-c", 'for n in 0 1 2; do test -e /proc/$$/fd/$n || exit 64; done; cat > "$0"']
    out = queue.parent / "out"
    (queue / "e.in").write_bytes(b"message")
    argv = [*watcher_command, "sweep", str(queue), "--format", "raw", "--grace-age", "0s", "--"]
    ended = subprocess.run(
        [*argv, *handler, str(out)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.close(fd),
        timeout=60,
    )
    assert ended.returncode == 0
    assert out.read_bytes() == b"message"
    assert list(queue.glob("*")) == [queue / ".watcher"] or list(queue.glob("*")) == []


@pytest.mark.parametrize("fds", [[1], [0, 1, 2]], ids=str)
@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["list", "QUEUE"], 0),
        (["list", "QUEUE", "--json"], 0),
        (["explain", "QUEUE/e.pck"], 0),
        (["sweep", "QUEUE", "--dry-run"], 0),
        (["check", "QUEUE", "--json"], 0),
        (["hold", "QUEUE", "ALL", "--dry-run"], 0),
        (["delete", "QUEUE", "held/h"], 64),
        (["audit", "QUEUE"], 66),  # there is no journal yet
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_no_command_needs_the_standard_streams(
    watcher_command, environment, queue, fds, command, status
):
    """A service manager may start us with any of them closed: that is no bug of ours."""
    (queue / "e.pck").write_bytes(b"message")
    (queue / ".watcher/held").mkdir(parents=True, mode=0o700)
    (queue / ".watcher/held/h.pck").write_bytes(b"message")
    ended = subprocess.run(
        [*watcher_command, *(word.replace("QUEUE", str(queue)) for word in command)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: [os.close(fd) for fd in fds],
        timeout=60,
    )
    assert ended.returncode == status


@pytest.mark.parametrize("period", ["25d", "30d", "10000d"])
def test_a_period_longer_than_the_kernels_timeouts_is_no_end_of_the_daemon(
    queue, start_daemon, recorder, period
):
    """poll(2) takes milliseconds in an int: 25 days are too many."""
    daemon = start_daemon(queue, "--sweep-every", period, handler=recorder.argv())
    (queue / "bad.pck.tmp").write_bytes(b"bad")
    (queue / "bad.pck.tmp").rename(queue / "bad.pck")
    daemon.wait_for("reject", entry="bad")
    assert daemon.end() == 0
    assert daemon.stray == []


PLANTED = ("click", "watcher", "json", "msgspec", "pyinotify", "handler")


@pytest.fixture
def planted(tmp_path):
    """A directory in which another program put modules that must not be imported."""
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('planted {name} was imported')\n")
    return tmp_path


def test_python_m_is_refused_in_one_line_before_anything_else_is_imported(tmp_path, environment):
    for name in PLANTED:
        if name != "watcher":  # Python itself would find that one first
            (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')\n")
    argv = [sys.executable, "-m", "watcher", "--version"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == os.EX_USAGE
    assert done.stderr.count(b"\n") == 1
    assert b"use the command watcher, or python -P -m watcher" in done.stderr


def test_nothing_in_the_current_directory_is_imported(planted, watcher_command, environment):
    command = shutil.which("watcher", path=os.path.dirname(sys.executable))
    (planted / "queue").mkdir()
    for begin in (watcher_command, [command] if command else watcher_command):
        for arguments in (["--version"], ["check", "queue"], ["sweep", "queue", "--", "true"]):
            done = subprocess.run(
                [*begin, *arguments], cwd=planted, env=environment, capture_output=True, check=False
            )
            assert (done.returncode, b"planted" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("isolate", ["true", "false"])
def test_a_python_handler_is_not_looked_for_in_the_current_directory(
    planted, watcher_command, environment, isolate
):
    (planted / "queue").mkdir()
    (planted / "queue" / "1.0+ab.pck").write_bytes(b"x")
    handler = f'{{ python = "handler:handle", isolate = {isolate} }}'
    (planted / "w.toml").write_text(f'[queues.q]\npath = "queue"\nhandler = {handler}\n')
    done = subprocess.run(
        [*watcher_command, "sweep", "--config", "w.toml"],
        cwd=planted,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == os.EX_CONFIG, done.stderr
    assert b"planted" not in done.stderr
