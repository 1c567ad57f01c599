"""`python -P -m watcher.web.page_process LISTENING ALIVE`: the process that serves the page.

The daemon starts it. Standard input is a socket to the daemon: each packet brings the descriptor of
a file with a `Feed`.
LISTENING is the descriptor of the socket on which requests come, ALIVE that of a file into which
this process writes the monotonic time, so that the daemon sees whether it hangs.

Guarantees: it ends when standard input ends, whatever it is doing, so also when the daemon is
killed; if it is stopped then, the kernel kills it. It ignores the signals that end or reload the
daemon: the page is served until the last entry has ended. It opens no file for writing, and has a
low priority: handlers come first.
Fails: exit status 1 if the daemon is not there at the start.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time

from watcher.config import page_feed
from watcher.config.page_feed import Feed
from watcher.spool import libc
from watcher.spool.lease import ignore_sigio
from watcher.web.application import Application
from watcher.web.sampler import Sampler
from watcher.web.server import Server

NICENESS = 10
LARGEST_FILE = 1 << 20  # bytes: what may be written to standard error
_MOMENT = struct.Struct("d")
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(listening: int, alive: int) -> int:
    """Serve until the daemon ends."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    ignore_sigio()
    # A stopped process sees no end of standard input, and would keep the port.
    libc.kill_with_parent()
    _limit_this_process()
    logging.basicConfig(format="%(message)s")
    daemon = socket.socket(fileno=os.dup(0))
    feed = _receive(daemon)
    if feed is None:
        return 1
    sampler = Sampler()
    application = Application(feed, sampler)
    application.configure(feed)
    threading.Thread(target=_follow, args=(daemon, application), daemon=True).start()
    threading.Thread(target=sampler.run, daemon=True).start()
    moment = mmap.mmap(alive, _MOMENT.size)
    server = Server(
        application,
        socket.socket(fileno=listening),
        lambda: _MOMENT.pack_into(moment, 0, time.monotonic()),
    )
    application.is_full = server.is_full
    server.run()
    return 0


def _limit_this_process() -> None:
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _follow(daemon: socket.socket, application: Application) -> None:
    """Take each feed; end the process when the daemon has ended."""
    while (feed := _receive(daemon)) is not None:
        application.configure(feed)
    os._exit(os.EX_OK)


def _receive(daemon: socket.socket) -> Feed | None:
    """Wait for a feed; return None if the daemon has ended."""
    try:
        packet, files, _flags, _address = socket.recv_fds(daemon, 16, 1)
    except OSError:
        return None
    if not packet or not files:
        return None
    with open(files[0], "rb") as file:
        return page_feed.decode(os.pread(file.fileno(), page_feed.LARGEST, 0))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
