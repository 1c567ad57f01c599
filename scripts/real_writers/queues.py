"""The watched folders of a run: one for each writer and setting, with the options of each. PURE."""

from __future__ import annotations

from typing import NamedTuple

from real_writers.case import Case
from real_writers.verdict import Setting, Times

SWEEP = 1.0  # seconds between two sweeps


class Queue(NamedTuple):
    """A watched folder: one writer writes into it, with one setting."""

    name: str
    case: Case
    setting: Setting
    times: Times

    def options(self) -> dict[str, object]:
        """Return what the configuration says of it."""
        settles = self.setting is Setting.SETTLE or "companions" in self.case.marker
        settle = {"settle": _milliseconds(self.times.settle)}
        return {
            "format": "raw",
            "grace_age": _milliseconds(self.times.grace),
            "sweep_every": _milliseconds(SWEEP),
            **self.case.options,
            **(settle if settles and self.setting is not Setting.DEFAULTS else {}),
            **(self.case.marker if self.setting is Setting.MARKER else {}),
        }


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def queues(cases: list[Case], settings: list[Setting], times: Times) -> list[Queue]:
    """Return a queue for each writer and setting."""
    return [
        Queue(f"q{number:03}-{setting.value}", case, setting, times._replace(settle=settle))
        for number, case in enumerate(cases)
        for setting in settings
        if case.marker or setting is not Setting.MARKER
        for settle in [times.settle if case.settle is None else case.settle]
    ]
