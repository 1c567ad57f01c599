"""A row of the table: what became of a writer's files with each setting, and what is wrong. PURE.

| when             | with the defaults, or a marker | with `settle`                               |
|------------------|--------------------------------|---------------------------------------------|
| at once          | before half of the grace age   | before nine tenths of `settle`              |
| within settle    |                                | before the middle of it and the grace age   |
| at the grace age | later                          | later                                       |

The time counts from the file's last write, close or rename, or from its marker. Only what was
written in place may wait for the grace age, only with the defaults. Companions go with `settle`.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from real_writers.case import ANY_NAME, Case, Expected
from real_writers.observer import Event, last_change

_S = 1_000_000_000


class Setting(enum.Enum):
    """What the queue of a column has."""

    DEFAULTS = "defaults"
    SETTLE = "settle"
    MARKER = "marker"


class When(enum.Enum):
    """When the last of a writer's files was taken."""

    AT_ONCE = "at once"
    WITHIN_SETTLE = "within settle"
    AT_GRACE_AGE = "at the grace age"
    LEFT_ALONE = "left alone"  # there was nothing to take
    NEVER = "never whole"


class Times(NamedTuple):
    """What the queues of a run have, in seconds."""

    grace: float
    settle: float


class Handled(NamedTuple):
    """One call of the handler."""

    queue: str
    name: str
    began: int  # nanoseconds
    size: int
    sha: str


class Outcome(NamedTuple):
    """What became of a writer's files with one setting."""

    when: When
    seconds: float = 0.0
    early: tuple[int, ...] = ()  # bytes that the handler got of an unfinished file
    twice: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    late: bool = False  # it was renamed or linked, or there is `settle`, and it waited
    held_up: float = 0.0  # seconds for which the machine held the writer up, if that made it early

    @property
    def wrongs(self) -> tuple[str, ...]:
        """What is not as it should be."""
        return (
            *(["never whole"] if self.when is When.NEVER else []),
            *(["early"] if self.early else []),
            *(["twice"] if self.twice else []),
            *(["foreign file"] if self.foreign else []),
            *(["late"] if self.late else []),
        )

    def __str__(self) -> str:
        """Return the text of a column."""
        timed = self.when not in {When.NEVER, When.LEFT_ALONE}
        return ", ".join(
            (
                self.when.value + (f" {self.seconds:.1f} s" if timed else ""),
                *(f"early: {size} bytes" for size in self.early),
                *(f"twice: {name}" for name in self.twice),
                *(f"foreign: {name}" for name in self.foreign),
            )
        )


def judge(
    case: Case,
    setting: Setting,
    expected: Expected,
    handled: Sequence[Handled],
    events: list[Event],
    times: Times,
) -> Outcome:
    """Judge what one writer did with one setting; `times.settle` is that of its queue."""
    expected = named(expected, handled, events)
    wanted = {name: [_sha(data) for data in each] for name, each in expected.items()}
    counts = Counter((one.name, one.sha) for one in handled)
    early = [one for one in handled if one.name in wanted and one.sha not in wanted[one.name]]
    never = any(not counts[name, shas[-1]] for name, shas in wanted.items())
    last = [one for one in handled if one.name in wanted and one.sha == wanted[one.name][-1]]
    seconds = max((_waited(case, setting, one, events) for one in last), default=0.0)
    settles = setting is Setting.SETTLE or (
        setting is Setting.MARKER and "companions" in case.marker
    )
    when = _when(seconds, times, settles=settles)
    paused = max((_longest_pause(events, one.name, one.began) for one in early), default=0.0)
    allowed = times.settle if settles else times.grace
    if never or not wanted:
        when = When.NEVER if never else When.LEFT_ALONE
    return Outcome(
        when,
        seconds,
        tuple(one.size for one in early),
        tuple(sorted({name for (name, _), number in counts.items() if number > 1})),
        tuple(sorted({one.name for one in handled} - wanted.keys())),
        late=when is When.AT_GRACE_AGE
        and not case.waits
        and (setting is not Setting.DEFAULTS or _committed(expected, events)),
        held_up=paused if paused > allowed else 0.0,
    )


def named(expected: Expected, handled: Sequence[Handled], events: list[Event]) -> Expected:
    """Put the name that the writer drew in the place of `ANY_NAME`."""
    if ANY_NAME not in expected:
        return expected
    names = [one.name for one in handled] or [event.name for event in events if event.name]
    return {
        names[0] if name == ANY_NAME and names else name: each for name, each in expected.items()
    }


def verdict(case: Case, outcomes: Mapping[Setting, Outcome]) -> str:
    """Return what is wrong with a row, or that it is good."""
    wrongs, excuses = [], []
    for setting, outcome in outcomes.items():
        told = [wrong for wrong in outcome.wrongs if not _unknown(case, setting, wrong)]
        if told and outcome.held_up:
            excuses.append(f"this machine let the writer pause {outcome.held_up:.1f} s")
        elif told:
            wrongs.append(f"{setting.value}: {', '.join(told)}")
    if wrongs:
        return "wrong: " + "; ".join(wrongs)
    if case.unknown:
        cure = f"; `{next(iter(case.marker))}` tells" if case.marker else ""
        return f"cannot know: {case.unknown}{cure}"
    return ", but ".join(["good", *excuses[:1]])


def count(case: Case, outcome: Outcome, setting: Setting) -> str:
    """Return the one word under which the summary counts a writer."""
    for wrong in outcome.wrongs:
        if wrong in {"early", "twice"} and _unknown(case, setting, wrong):
            return "cannot be known"
        if wrong != "late":
            return wrong
    return outcome.when.value


def _unknown(case: Case, setting: Setting, wrong: str) -> bool:
    """Whether nothing but the options of the last column can prevent this."""
    unseen = {"early", "twice", "foreign file"}
    return bool(case.unknown) and setting is not Setting.MARKER and wrong in unseen


def _when(seconds: float, times: Times, *, settles: bool) -> When:
    if not settles:
        return When.AT_ONCE if seconds < times.grace / 2 else When.AT_GRACE_AGE
    if seconds < times.settle * 0.9:
        return When.AT_ONCE
    return When.WITHIN_SETTLE if seconds < (times.settle + times.grace) / 2 else When.AT_GRACE_AGE


def _waited(case: Case, setting: Setting, one: Handled, events: list[Event]) -> float:
    """Return how long a file waited after its last change, or after its marker, in seconds."""
    since = last_change(events, one.name, one.began)
    if setting is Setting.MARKER and "marker" in case.marker:
        stem = one.name.rpartition(".")[0]
        marker = str(case.marker["marker"]).format(name=one.name, stem=stem)
        if any(event.name == marker for event in events):
            since = max(since, last_change(events, marker, one.began))
    return (one.began - since) / _S


def _committed(expected: Expected, events: list[Event]) -> bool:
    """Whether every file was renamed or linked into place."""
    for name in expected:
        whats = {event.what for event in events if event.name == name}
        if "IN_MOVED_TO" not in whats and whats & {"IN_MODIFY", "IN_CLOSE_WRITE"}:
            return False
    return bool(expected)


def _longest_pause(events: list[Event], name: str, taken: int) -> float:
    """Return the longest pause of a writer, in seconds, that was not over when it was taken."""
    later = [event.at for event in events if event.name == name and event.at > taken]
    before = last_change(events, name, taken)
    return (min(later) - before) / _S if later else 0.0


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
