"""How much processor time this process has taken, as the kernel counts it for RLIMIT_CPU.

The kernel has two counts: exact times (getrusage(2), CLOCK_PROCESS_CPUTIME_ID), and the ticks of
its timer that fell into the process, which RLIMIT_CPU and ITIMER_PROF go by. Beside a program that
sleeps at each tick the second count grew 40 % faster than the first. What it is ahead adds up over
the life of the process: a limit that is set from getrusage(2) would at last be in the past.
Source: setrlimit(2), setitimer(2); kernel/time/posix-cpu-timers.c and kernel/sched/cputime.c.

Guarantees: if the function sets ITIMER_PROF for itself, its timer stays; from then on the exact
times are added. The kernel clears the timer in a child that is forked.
Fails: never.
"""

from __future__ import annotations

import resource
import signal

_LONG = 1e8  # seconds: three years of processor time


class ProcessorTime:
    """The count of one process, from the call of this on."""

    def __init__(self) -> None:
        self._exact = _exact()
        self._used = self._exact
        signal.setitimer(signal.ITIMER_PROF, _LONG)
        self._left, _ = signal.getitimer(signal.ITIMER_PROF)  # a tick more than was set

    def used(self) -> float:
        """Return the seconds that this process has taken so far."""
        before, self._exact = self._exact, _exact()
        left, interval = signal.getitimer(signal.ITIMER_PROF)
        if interval or not 0 < left <= self._left:
            self._left = 0.0  # the function has set the timer: it is no measure any more
            self._used += self._exact - before
        else:
            self._used += self._left - left
            self._left = left
        return self._used


def _exact() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
