"""The process of the page (`watcher.web.page_process`): started, fed and restarted by the daemon.

A process of its own, so that neither a client nor the look at a large directory takes the
interpreter from the workers. It has the listening socket, which this process keeps open too: while
it is restarted, connections wait. It is told of the queues through its standard input, a socket
that the kernel closes when this process ends in whatever way; then it ends itself.

Guarantees: nothing here waits for that process, but `close` for `LEAVE` seconds. No wake-up of the
daemon's thread but when that process ends, and when it is due to be started again. Whether it hangs
is looked at whenever the daemon's thread wakes anyway. A handler inherits none of its descriptors.
Fails: `prepare` raises WatcherError; what goes wrong later is in `trouble`, and tried again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import mmap
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator

import watcher
from watcher.config.daemon_settings import DaemonSettings
from watcher.config.page_feed import Feed, encode
from watcher.config.queue_settings import Queue
from watcher.daemon.listening import Listening
from watcher.errors import BadConfiguration, one_line
from watcher.handle.adopted_children import own_children
from watcher.handle.child_process import end_of, stderr_file
from watcher.inspect.daemon_user import user
from watcher.observe import log

FIRST_RETRY, LONGEST_RETRY = 1.0, 300.0  # seconds until it is started again
LIVED = 60.0  # seconds after which its end counts as a first one
HANGS = 60.0  # seconds without a sign of life
LEAVE = 2.0  # seconds for the kernel to end it, which waits for a slow disk
_MOMENT = struct.Struct("d")
_NEEDED = ("waitress", "prometheus_client")
_ENVIRONMENT = frozenset(
    ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
)
_STARTED = time.time()


class WebProcess:
    """The page of one daemon, if its settings have an address. The daemon's thread uses it."""

    def __init__(self, load: Callable[[], DaemonSettings]) -> None:
        self.trouble = ""  # why it is not served now
        self._load = load
        self._settings = DaemonSettings()
        self._listening: Listening | None = None
        self._queues: list[Queue] = []
        self._child: _Child | None = None
        self._failures = 0
        self._start_at = -math.inf  # monotonic
        self._unsent = False

    @property
    def active(self) -> bool:
        """Whether there is anything to look after."""
        return self._listening is not None

    # -- settings -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Load the settings anew; they count if what is done meanwhile raises no error."""
        settings = self._load()
        if settings.http is not None:
            _require_modules(settings.origin)
        before = self._listening
        now = before if before and before.asked == settings.http else None
        if now is None and settings.http is not None:
            now = Listening(settings.http)
        try:
            yield
        except BaseException:
            if now is not None and now is not before:
                now.close()
            raise
        if now is not before:
            self._end_child()
            if before is not None:
                before.close()
            self._failures, self._start_at, self.trouble = 0, -math.inf, ""
            self._listening = now
            self._tell(before)
        self._settings = settings
        self._unsent = True

    def _tell(self, before: Listening | None) -> None:
        if self._listening is not None:
            log.event("", "page", f"the page is served at {self._listening.address}")
        elif before is not None:
            log.event("", "page", "the page is served no more")

    def serve_queues(self, queues: Collection[Queue]) -> None:
        """Show these queues from now on."""
        if self._queues != (now := list(queues)):
            self._queues = now
            self._unsent = True

    # -- the process --------------------------------------------------------------------------

    def filenos(self) -> list[int]:
        """Return the descriptors that become readable when the process has ended."""
        child = self._child
        return [] if child is None or child.pidfd is None else [child.pidfd]

    def tick(self, now: float) -> float:
        """Start it, feed it, see whether it lives; return when to call again (monotonic)."""
        if self._listening is None:
            return math.inf
        if self._child is not None and (why := self._child.ended(now)):
            self._count_failure(now, why)
        if self._child is None:
            if now < self._start_at:
                return self._start_at
            self._start(now, self._listening)
        if self._child is not None:
            self._feed(self._child, self._listening)
            if self._failures and now - self._child.started > LIVED:
                self._failures = 0
        return self._start_at if self._child is None else math.inf

    def _start(self, now: float, listening: Listening) -> None:
        try:
            self._child = _Child(listening.socket, now)
        except OSError as error:
            self._count_failure(now, f"it cannot be started: {error.strerror}")
            return
        self._unsent = True
        self.trouble = ""

    def _count_failure(self, now: float, why: str) -> None:
        self._end_child()
        self._failures += 1
        wait = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(self._failures - 1, 16))
        self._start_at = now + wait
        self.trouble = f"the page is not served: its process {why}"
        log.event("", "page", f"{self.trouble}; the next try in {wait:g} s", logging.WARNING)

    def _feed(self, child: _Child, listening: Listening) -> None:
        if not self._unsent:
            return
        names = listening.address.host_names
        feed = Feed(
            process=os.getpid(),
            host=socket.gethostname(),
            user=user(os.geteuid()),
            started=_STARTED,
            version=watcher.__version__,
            address=str(listening.address),
            host_names=None if names is None else sorted(names),
            token=self._settings.token,
            queues=self._queues,
        )
        self._unsent = not child.send(encode(feed))

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def close(self) -> None:
        """End it: the daemon has ended."""
        self._end_child()
        if self._listening is not None:
            self._listening.close()
            self._listening = None


class _Child:
    """One process of the page; `started` and the sign of life are monotonic."""

    def __init__(self, listening: socket.socket, now: float) -> None:
        self.started = now
        with contextlib.ExitStack() as undo:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(mine.close)
            self._stderr = stderr_file()
            undo.callback(os.close, self._stderr)
            alive = os.memfd_create("alive", os.MFD_CLOEXEC)
            undo.callback(os.close, alive)
            os.truncate(alive, _MOMENT.size)
            self._alive = mmap.mmap(alive, _MOMENT.size)
            given = (listening.fileno(), alive)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "watcher.web.page_process", *map(str, given)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=given,
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,
                )
            undo.pop_all()
        os.close(alive)
        self._daemon = mine
        own_children.add(self._process.pid)
        self.pidfd = _pidfd(self._process.pid)

    def ended(self, now: float) -> str:
        """Return why the process serves no more; "" if it does."""
        status = self._process.poll()
        if status is not None:
            said = end_of(self._stderr).decode("utf-8", "backslashreplace").strip()
            last = one_line(said.rpartition("\n")[2][:200]) or "nothing on standard error"
            how = (
                f"ended with status {status}" if status >= 0 else f"was killed by signal {-status}"
            )
            return f"{how} ({last})"
        (lived,) = _MOMENT.unpack_from(self._alive, 0)
        silent = now - max(lived, self.started)
        return f"gave no sign of life for {silent:.0f} s" if silent > HANGS else ""

    def send(self, data: bytes) -> bool:
        """Send a feed; return False if there is no room: the process has unread ones."""
        file = os.memfd_create("feed", os.MFD_CLOEXEC)
        try:
            with open(os.dup(file), "wb") as out:
                out.write(data)
            socket.send_fds(self._daemon, [b"feed"], [file], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:  # it has ended: `ended` says so
            return True
        finally:
            os.close(file)
        return True

    def end(self) -> None:
        """Kill it: it has nothing to finish."""
        self._daemon.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE)
        own_children.discard(self._process.pid)
        self._alive.close()
        os.close(self._stderr)
        if self.pidfd is not None:
            os.close(self.pidfd)


def _environment() -> dict[str, str]:
    """Return the environment of the page: it needs none of the secrets of handlers."""
    environment = {key: value for key, value in os.environ.items() if key in _ENVIRONMENT}
    package = os.path.dirname(os.path.dirname(os.path.abspath(watcher.__file__)))
    paths = [package, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return {**environment, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths))}


def _require_modules(origin: str) -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BadConfiguration(
            f"{origin}: the page needs {' and '.join(missing)}: pip install 'spool-watcher[page]'"
        )


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:  # no descriptor is free: its end is seen when the daemon wakes
        return None
