"""Mailman 3's own runner, without its database and its lists; run by the Python of `.venv-mailman`.

    mailman3_runner.py DIRECTORY RECORD [--once]

Its loop, its Switchboard and its order are Mailman's. RECORD gets a line for each message: its
`number`. With --once it ends as `runner --once` does, which is after one message; else it is woken
by a trigger (`bench.peers.woken`).
"""

import sys
import types

from mailman.config import config
from mailman.core.runner import Runner
from mailman.core.switchboard import Switchboard

from bench.peers.woken import Woken


class Recording(Runner):
    def __init__(self, directory: str, record: str) -> None:
        self.name, self.status, self._stop = "live", 0, False
        self.sleep_float = 1.0
        self.switchboard = Switchboard("live", directory, recover=True)
        self._record = record

    def _process_one_file(self, msg, msgdata) -> None:  # noqa: ARG002 - Mailman's
        with open(self._record, "a") as record:
            record.write(f"{msgdata['number']}\n")


class WokenRecording(Woken, Recording):
    pass


class Once(Recording):
    def _do_periodic(self) -> None:
        self.stop()  # as `mailman.bin.runner` has it


config.db = types.SimpleNamespace(commit=lambda: None, abort=lambda: None)
kind = Once if "--once" in sys.argv else WokenRecording
runner = kind(sys.argv[1], sys.argv[2])
runner.set_signals()
runner.run()
