"""Run a daemon with a Python handler, and record which Python functions each of its threads calls.

    python trace_calls.py QUEUE TRACE

SIGTERM ends it; TRACE is then a list of [moment, thread, event, name] in JSON. The event is "call"
for a function of the package, "enter" and "leave" for one of `WATCHED`, which are written in C.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import watcher
from watcher.config.queue_settings import Queue
from watcher.daemon.loop import Daemon
from watcher.handle.function import Function
from watcher.handle.handler import Handler
from watcher.observe import log

PACKAGE = str(Path(watcher.__file__).parent)
WATCHED = ("poll", "readv", "unlink")

trace: list[tuple[float, str, str, str]] = []


def profile(frame: FrameType, event: str, argument: Any) -> None:
    """Record a call; `threading.setprofile` and `sys.setprofile` call this."""
    if event == "call":
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return
        kind, name = "call", f"{frame.f_globals['__name__']} {frame.f_code.co_qualname}"
        if "self" in frame.f_code.co_varnames[:1]:  # the object's class, not the one it inherits
            of = type(frame.f_locals["self"]).__name__
            name = f"{frame.f_globals['__name__']} {of}.{frame.f_code.co_name}"
    elif event in ("c_call", "c_return") and argument.__name__ in WATCHED:
        kind, name = "enter" if event == "c_call" else "leave", argument.__name__
    else:
        return
    trace.append((time.monotonic(), threading.current_thread().name, kind, name))


def handle(_entry: watcher.Entry) -> None:
    """Handle an entry: there is nothing to do."""


def load(_settings: Queue) -> Handler:
    """Return the handler of the queue."""
    return Function(handle)


def main() -> int:
    """Serve one queue until SIGTERM, then write the trace."""
    directory, target = sys.argv[1:]
    log.setup("json", "warning")  # a line of the log for each entry is not part of the path
    queues = {"q": Queue(name="q", path=directory, sweep_every=3600.0)}
    threading.setprofile(profile)
    sys.setprofile(profile)
    daemon = Daemon(load)
    daemon.serve(queues)
    status = daemon.run(lambda: queues)
    sys.setprofile(None)
    Path(target).write_text(json.dumps(trace))
    return status


if __name__ == "__main__":
    sys.exit(main())
