"""All that `status` shows of one queue: from the disk, and what its daemons say of themselves.

Guarantees: nothing is created or changed, and no entry is opened. It works without a daemon. Time
is bounded: `state_counts` and `failure_reasons` say so where a part was read only.
Fails: WatcherError if the queue or its `.watcher/` cannot be read; OSError if a directory cannot.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.inspect.check_daemon import at_work
from watcher.inspect.daemon_user import viewer_of
from watcher.inspect.failure_reasons import Failures, failure_reasons
from watcher.inspect.notes_view import stamp_of
from watcher.inspect.state_counts import HOUR, StateCount, state_counts
from watcher.rules import backlog, condition
from watcher.rules.lifecycle import State
from watcher.rules.names import INFLIGHT, display
from watcher.spool import ledger, paused
from watcher.spool.daemon_status import DaemonStatus, read_all, read_last
from watcher.spool.dirs import open_dir
from watcher.spool.spool import Spool

WINDOWS = {"1m": 60.0, "5m": 300.0, "60m": 3600.0}  # seconds of the windows that a daemon counts
_ENOUGH = 3  # attempts of 5 minutes; if they are fewer, those of the last hour count
_ALL = os.R_OK | os.W_OK | os.X_OK


class EntryInHand(NamedTuple):
    """One entry that a process has in hand now; None: not known."""

    entry: str
    daemon: int
    attempt: int | None = None
    since: float | None = None  # seconds since the epoch
    process: int | None = None  # the handler's child process


class QueueStatus(NamedTuple):
    """What is known of one queue at the moment `at`."""

    name: str
    path: str
    at: float
    daemons: Sequence[DaemonStatus]  # that run, and sweeps by hand
    silent: Sequence[int]  # processes at work that say nothing of themselves
    last: DaemonStatus | None  # that ended last
    paused: str
    states: Mapping[State, StateCount]
    in_hand: Sequence[EntryInHand]
    failures: Failures
    rates: backlog.Rates | None
    done_in: float | None
    free_bytes: int
    free_share: float
    findings: Sequence[condition.Finding]

    @property
    def severity(self) -> condition.Severity:
        """How bad it is."""
        return condition.worst(self.findings)


def queue_status(
    spool: Spool,
    name: str,
    limits: condition.Limits,
    claims: Mapping[tuple[int, int], int] | None = None,
    stream: str = "",
) -> QueueStatus:
    """Read everything about one queue; `claims` is what `holders` said just now, None: ask it.

    `stream` is the one whose messages have their copies there.
    """
    now = time.time()
    held = holders() if claims is None else claims
    alive = [(directory, said) for directory, lives, said in read_all(spool) if lives]
    daemons = _one_each([said for _, said in alive])
    known = {said.process for said in daemons}
    states = state_counts(spool, held)
    ready = states[State.READY]
    rates = _rates(daemons, ready, now)
    space = os.fstatvfs(spool.fd)
    in_hand = list(_in_hand(spool, dict(alive), held))
    status = QueueStatus(
        name=name,
        path=display(spool.path),
        at=now,
        daemons=daemons,
        silent=sorted(at_work(spool) - known),
        last=read_last(spool),
        paused=str(paused.read(spool) or ""),
        states=states,
        in_hand=in_hand,
        failures=failure_reasons(spool),
        rates=rates,
        done_in=backlog.done_in(ready.count, rates),
        free_bytes=space.f_bavail * space.f_frsize,
        free_share=space.f_bavail / space.f_blocks if space.f_blocks else 1.0,
        findings=(),
    )
    facts = _facts(status, _unwritable(spool), space.f_favail if space.f_files else None)
    facts = facts._replace(stream=stream)
    return status._replace(findings=condition.findings(facts, limits))


def _one_each(found: Sequence[DaemonStatus]) -> list[DaemonStatus]:
    """Return what each process says, without its word for settings that it is leaving."""
    serving = {(said.host, said.process) for said in found if not said.leaving}
    return [said for said in found if not said.leaving or (said.host, said.process) not in serving]


def _unwritable(spool: Spool) -> str:
    """Say why the daemon's user could not remove an entry; "" if it can, or if it is not known."""
    directory = os.fstat(spool.fd)
    if os.geteuid() not in (0, directory.st_uid):
        return ""  # this user's rights say nothing of the daemon's
    viewer = viewer_of(directory)
    usable = spool.writable() if viewer.uid == os.geteuid() else viewer.may(directory, _ALL)
    if usable:
        return ""
    mode = stat.S_IMODE(directory.st_mode)
    return f"{viewer.name} may not write to {display(spool.path)} (mode {mode:04o})"


def _in_hand(
    spool: Spool, daemons: Mapping[str, DaemonStatus], held: Mapping[tuple[int, int], int]
) -> Iterator[EntryInHand]:
    """Yield the entries in hand by the ledgers of the processes, if the entry is still claimed.

    The ledger is what a process has in hand now; what the daemon published may be older.
    """
    device = spool.identity[0]
    with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
        inflight = spool.home.open(INFLIGHT)
        opened.callback(os.close, inflight)
        for directory, said in daemons.items():
            for slot in _slots(os.fsencode(directory), inflight):
                if (device, slot.inode) not in held:
                    continue
                shown = _name_of(spool, slot)
                known = next((each for each in said.in_hand if each.entry in shown), None)
                yield (
                    EntryInHand(shown[0], said.process)
                    if known is None
                    else EntryInHand(
                        shown[0], said.process, known.attempt, known.since, known.process
                    )
                )


def _slots(directory: bytes, inflight: int) -> list[ledger.InHand]:
    try:
        fd = open_dir(directory, inflight)
    except OSError:  # its process has ended
        return []
    try:
        return ledger.read(fd)
    finally:
        os.close(fd)


def _name_of(spool: Spool, slot: ledger.InHand) -> tuple[str, ...]:
    """Return the names by which the entry in a slot may be shown; the first is what to show."""
    state = State.READY if slot.place == ledger.QUEUE else State.DEFERRED
    own = stamp_of(slot.name, state)[1]
    return display(spool.layout.in_state_dir().stem(own)), display(own), display(slot.name)


# -- what the rules of health look at -------------------------------------------------------------


def _facts(status: QueueStatus, unwritable: str, free_inodes: float | None) -> condition.QueueFacts:
    ready, dead = status.states[State.READY], status.states[State.DEAD]
    last = status.last
    return condition.QueueFacts(
        queue=shlex.quote(status.path),
        daemons=[_daemon_facts(said, status) for said in status.daemons if said.command == "run"],
        others=len(status.silent) + sum(said.command != "run" for said in status.daemons),
        died=last.process if last is not None and last.stopped is None else None,
        paused=status.paused,
        ready=ready.count,
        due=status.states[State.DEFERRED].due,
        oldest=ready.oldest,
        dead=dead.count,
        dead_lately=dead.younger[HOUR],
        unwritable=unwritable,
        free_bytes=status.free_bytes,
        free_share=status.free_share,
        free_inodes=free_inodes,
    )


def _daemon_facts(said: DaemonStatus, status: QueueStatus) -> condition.DaemonFacts:
    span, ended = _window(said)
    reason = max(said.failures, key=lambda each: each.count, default=None)
    return condition.DaemonFacts(
        process=said.process,
        silent=status.at - said.next_by if status.at > said.next_by else None,
        troubles=said.troubles,
        in_hand=[
            condition.Held(each.entry, max(0.0, status.at - each.since), each.process)
            for each in status.in_hand
            if each.since is not None and each.daemon == said.process
        ],
        concurrency=said.concurrency,
        timeout=said.timeout,
        attempts=sum(ended),
        failed=ended[1] + ended[2],
        span=span,
        reason="" if reason is None else reason.reason,
        taken=said.taken,
        last_taken=said.last_taken,
        taken_ago=None if said.last_taken_at is None else max(0.0, status.at - said.last_taken_at),
    )


def _window(said: DaemonStatus) -> tuple[float, tuple[int, int, int]]:
    """Return the window that tells whether work succeeds: seconds; handled, failed, rejected."""
    for name in ("5m", "60m"):
        window = said.windows.get(name)
        ended = (0, 0, 0) if window is None else (window.handled, window.failed, window.rejected)
        if sum(ended) >= _ENOUGH or name == "60m":
            return WINDOWS[name], ended
    return WINDOWS["60m"], (0, 0, 0)


def _rates(daemons: Sequence[DaemonStatus], ready: StateCount, now: float) -> backlog.Rates | None:
    """Return how fast entries leave and arrive; None without a daemon that counts."""
    if not daemons or not ready.all_ages:
        return None
    attempts = dict.fromkeys(WINDOWS.values(), 0)
    for said in daemons:
        for name, window in said.windows.items():
            if name in WINDOWS:
                attempts[WINDOWS[name]] += window.handled + window.failed + window.rejected
    running = now - min(said.started for said in daemons)
    return backlog.rates(ready.younger, ready.oldest, attempts, running)
