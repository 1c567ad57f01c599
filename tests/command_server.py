"""Run `watcher` commands in children of a process that has imported the program already.

A command is a process of its own, as when it is started anew, but costs a fork instead of the start
of an interpreter: a tenth of a second of processor time. That a command can be started anew is for
tests/cli/test_main.py to show.

`run_command` takes the place of `subprocess.run`. The server is started at the first call and ends
with the test run, when its standard input is closed. For each request it forks a waiting process,
which forks the command: so commands may run side by side.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

COMMAND = [sys.executable, "-P", "-m", "watcher"]
ANSWER = struct.Struct("ii")  # the command's process, then its status as `waitpid` has it


# -- the side of the tests --------------------------------------------------------------------


@functools.cache
def server(environment: tuple[tuple[str, str], ...]) -> str:
    """Start the server; return the address that it listens at."""
    directory = tempfile.TemporaryDirectory(prefix="commands")  # its end removes it
    address = os.path.join(directory.name, "socket")
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, address],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        with process:  # closes its standard input, and waits
            directory.cleanup()

    atexit.register(end)
    return address


def of_python(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what an interpreter reads of its environment when it starts."""
    names = ("PYTHON", "LC_", "LANG")
    return tuple(sorted(item for item in environment.items() if item[0].startswith(names)))


def run_command(
    argv: Sequence[str | bytes | os.PathLike[str]],
    *,
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    text: bool = False,
    timeout: float = 60.0,
    input: bytes | str | None = None,  # noqa: A002 - as subprocess.run has it
    check: bool = False,
    capture_output: bool = True,
) -> subprocess.CompletedProcess[Any]:
    """Run one command to its end, as `subprocess.run` does with these arguments."""
    assert capture_output
    words = [os.fsdecode(word) for word in argv]
    assert words[: len(COMMAND)] == COMMAND
    request = {
        "arguments": words[len(COMMAND) :],
        "environment": dict(env),
        "directory": os.fspath(cwd) if cwd is not None else os.getcwd(),
        "processors": [*os.sched_getaffinity(0)],
    }
    data = input.encode() if isinstance(input, str) else input
    with contextlib.ExitStack() as stack:
        out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        given = 0
        if data is not None:
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write(data)
            file.seek(0)
            given = file.fileno()
        link = stack.enter_context(socket.socket(socket.AF_UNIX))
        link.connect(server(of_python(env)))
        socket.send_fds(link, [b"\0"], [given, out.fileno(), err.fileno()])
        link.sendall(json.dumps(request).encode())
        link.shutdown(socket.SHUT_WR)
        status, timed_out = _wait(link, timeout)
        out.seek(0)
        err.seek(0)
        printed, complained = (file.read().decode() if text else file.read() for file in (out, err))
    if timed_out:
        raise subprocess.TimeoutExpired(argv, timeout, printed, complained)
    ended = subprocess.CompletedProcess[Any](
        argv, os.waitstatus_to_exitcode(status), printed, complained
    )
    if check:
        ended.check_returncode()
    return ended


def _wait(link: socket.socket, timeout: float) -> tuple[int, bool]:
    """Return the command's status, and whether it had to be killed for its time was over."""
    with link.makefile("rb") as answers:
        pid, _ = ANSWER.unpack(answers.read(ANSWER.size))
        over = threading.Event()

        def kill() -> None:
            over.set()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        alarm = threading.Timer(timeout, kill)
        alarm.start()
        try:
            return ANSWER.unpack(answers.read(ANSWER.size))[1], over.is_set()
        finally:
            alarm.cancel()


# -- the side of the server -------------------------------------------------------------------


def preload() -> None:
    """Import all of the program that a command may need."""
    import watcher

    for module in pkgutil.walk_packages(watcher.__path__, "watcher."):
        if not module.name.endswith((".__main__", ".worker")):
            importlib.import_module(module.name)


def serve(address: str) -> None:
    """Accept requests; return in the process of a command only. Ends with standard input."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([listening, 0], [], [])
        if 0 in readable:
            os._exit(0)
        link, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _command(link)
            return
        link.close()


def _command(link: socket.socket) -> None:
    """Fork the command and report its end; return in the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, fds, _, _ = socket.recv_fds(link, 1, 3)
    with link.makefile("rb") as stream:
        request = json.loads(stream.read())
    pid = os.fork()
    if pid != 0:
        link.sendall(ANSWER.pack(pid, 0))
        _, status = os.waitpid(pid, 0)
        link.sendall(ANSWER.pack(pid, status))
        os._exit(0)
    link.close()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(request["directory"])
    os.sched_setaffinity(0, request["processors"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]


if __name__ == "__main__":
    preload()
    gc.freeze()  # no collection copies what the children share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the waiting processes
    serve(sys.argv[1])
    from watcher.cli import main

    main()
