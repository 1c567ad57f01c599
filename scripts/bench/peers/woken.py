"""The sleep of a Mailman 3 runner that a trigger wakes, in place of a look every second.

A class that inherits from `Woken` and from one of Mailman's runners is a runner of its own. The
environment variable WOKEN_BY names a directory with two FIFOs for it, `wake` and `done`. The
command of the trigger is

    sh -c 'echo >DIRECTORY/wake && read line <DIRECTORY/done'

which returns when the runner has looked at the queue after that and found nothing more. The runner
opens the FIFOs for reading and writing, so that neither of its own calls waits for the command.
"""

from __future__ import annotations

import contextlib
import os

LONGEST = 4096  # bytes that are read at a time; a line is one byte


class Woken:
    """In front of a runner among the base classes: only its sleep is another."""

    _fifos: tuple[int, int] | None = None  # wake, done
    _asked = False

    def _snooze(self, filecnt: int) -> None:
        """Tell the command that nothing is left, and sleep until it wakes this process again."""
        if filecnt:
            return  # look once more at once, as Mailman does
        if self._fifos is None:
            place = os.environ["WOKEN_BY"]
            wake = os.open(os.path.join(place, "wake"), os.O_RDWR)
            self._fifos = wake, os.open(os.path.join(place, "done"), os.O_RDWR | os.O_NONBLOCK)
        wake, done = self._fifos
        if self._asked:
            os.write(done, b"\n")
        os.read(wake, LONGEST)
        with contextlib.suppress(BlockingIOError):
            os.read(done, LONGEST)  # a line for a command that was killed
        self._asked = True
