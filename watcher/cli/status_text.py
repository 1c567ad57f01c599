"""What `status` prints for one queue: one screen of at most 80 columns.

Guarantees: text from the queue is printed on one line without control characters. Nothing is read.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Sequence

import click

from watcher.durations import show
from watcher.errors import counted, one_line
from watcher.inspect.queue_status import EntryInHand, QueueStatus
from watcher.inspect.state_counts import SHOWN, StateCount
from watcher.inspect.summary import AGES, Row
from watcher.rules.condition import Finding, Severity
from watcher.rules.lifecycle import State
from watcher.spool.daemon_status import DaemonStatus

WIDTH = 80
_LABEL = 11  # columns of the words on the left
_KINDS = 8  # kinds of failures that are shown
_COLUMN = 7  # columns of a number of failures
_IN_HAND = 8  # entries in hand that are shown
_WORDS = {Severity.OK: "healthy", Severity.WARNING: "warning", Severity.CRITICAL: "CRITICAL"}
_COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.CRITICAL: "red"}
_TIMES = ("wait", "handler", "settle")


def lines(status: QueueStatus) -> Iterator[str]:
    """Yield the lines for one queue; their colours are for a terminal."""
    word = click.style(_WORDS[status.severity], fg=_COLOURS[status.severity], bold=True)
    where = "" if status.name == status.path else f" ({status.path})"
    yield f"{status.name}{where}: {word}"
    for finding in status.findings:
        yield from _finding(finding)
    yield from _daemons(status)
    yield from _labelled("paused", status.paused)
    yield from _states(status)
    yield from _in_hand(status.in_hand, status)
    for said in status.daemons:
        yield from _attempts(said, many=len(status.daemons) > 1)
    yield from _labelled("backlog", _backlog(status))
    yield from _failures(status)
    for said in status.daemons:
        yield from _watch(said, status.at)


def _labelled(label: str, text: str) -> Iterator[str]:
    """Yield a text with its label on the left, wrapped; nothing for an empty one."""
    if text:
        wrapped = textwrap.wrap(one_line(text), WIDTH - _LABEL - 2)
        for number, line in enumerate(wrapped):
            yield f"  {'' if number else label:<{_LABEL}}{line}"


def _finding(finding: Finding) -> Iterator[str]:
    word = _WORDS[finding.severity]
    first, *rest = _labelled(word, finding.what)
    yield click.style(first, fg=_COLOURS[finding.severity])
    for line in rest:
        yield click.style(line, fg=_COLOURS[finding.severity])
    yield f"  {'':<{_LABEL}}next: {one_line(finding.next_command)}"  # whole, to be copied


# -- daemons --------------------------------------------------------------------------------------


def _daemons(status: QueueStatus) -> Iterator[str]:
    running = [said for said in status.daemons if said.command == "run"]
    if len(running) > 1:
        yield from _labelled("daemon", f"{len(running)} daemons serve this queue:")
    for said in status.daemons:
        yield from _labelled(
            "daemon" if said.command == "run" else said.command, _daemon(said, status.at)
        )
    for process in status.silent:
        text = f"process {process} is at work, and says nothing of itself"
        yield from _labelled("daemon", text)
    if not status.daemons and not status.silent:
        yield from _labelled("daemon", f"no daemon runs; {_last(status)}")


def _daemon(said: DaemonStatus, now: float) -> str:
    workers = counted(said.concurrency, "worker", "workers")
    timeout = "no timeout" if said.timeout is None else f"timeout {show(said.timeout)}"
    return (
        f"process {said.process} of user {said.user} runs for {_ago(said.started, now)}, since"
        f" {moment(said.started)}; {workers}, {timeout}; last sign of life"
        f" {_ago(said.written, now)} ago"
    )


def _last(status: QueueStatus) -> str:
    last = status.last
    if last is None:
        return "none is known to have run here"
    last_one = f"the last one, process {last.process} of user {last.user},"
    if last.stopped is not None:
        when = f"{moment(last.stopped)}, {_ago(last.stopped, status.at)} ago"
        return f"{last_one} was stopped at {when}"
    when = f"{moment(last.written)}, {_ago(last.written, status.at)} ago"
    return f"{last_one} died; its last sign of life was at {when}"


def moment(seconds: float) -> str:
    """Return a moment as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _ago(then: float, now: float) -> str:
    return show(max(0.0, now - then))


# -- entries --------------------------------------------------------------------------------------


def _states(status: QueueStatus) -> Iterator[str]:
    yield f"  {'entries':<{_LABEL}}{'state':<10}{'number':>9}  {'oldest':>8}"
    for state in SHOWN:
        yield f"  {'':<{_LABEL}}{_state(state, status.states[state])}".rstrip()


def _state(state: State, count: StateCount) -> str:
    number = f"{'' if count.whole else '>'}{count.count}"
    oldest = "" if count.oldest is None else f"{'' if count.all_ages else '>'}{show(count.oldest)}"
    return f"{state.value:<10}{number:>9}  {oldest:>8}  {_note(state, count)}"


def _note(state: State, count: StateCount) -> str:
    words = []
    if state is State.DEFERRED and count.count:
        words += [f"{count.due} due now"] if count.due else []
        words += [] if count.next_due is None else [f"next due in {show(count.next_due)}"]
    if state is State.DEAD and count.younger[3600.0]:
        words.append(f"{count.younger[3600.0]} in the last hour")
    if not count.whole:
        words.append("counted in part")
    return ", ".join(words)


def _in_hand(in_hand: Sequence[EntryInHand], status: QueueStatus) -> Iterator[str]:
    for number, each in enumerate(in_hand[:_IN_HAND]):
        words = [] if each.attempt is None else [f"attempt {each.attempt}"]
        words += [] if each.since is None else [f"for {_ago(each.since, status.at)}"]
        words.append(f"daemon {each.daemon}" if each.process is None else f"process {each.process}")
        text = f"{middle(each.entry, 40)}  {', '.join(words)}"
        yield f"  {'' if number else 'in hand':<{_LABEL}}{text}"
    if len(in_hand) > _IN_HAND:
        yield f"  {'':<{_LABEL}}and {len(in_hand) - _IN_HAND} more"


def middle(name: str, width: int) -> str:
    """Return a name that fits the width: the middle of a longer one is left out."""
    if len(name) <= width:
        return name
    end = (width - 3) // 2
    return f"{name[: width - 3 - end]}...{name[-end:]}"


# -- attempts -------------------------------------------------------------------------------------


def _attempts(said: DaemonStatus, *, many: bool) -> Iterator[str]:
    if not said.windows:
        return
    label = f"of {said.process}" if many else "attempts"
    windows = [said.windows.get(name) for name in ("1m", "5m", "60m")]
    yield f"  {label:<{_LABEL}}{'':<10}{'1 min':>9}{'5 min':>9}{'60 min':>9}"
    for word in ("handled", "failed", "rejected"):
        numbers = "".join(f"{getattr(each, word, 0):>9}" for each in windows)
        yield f"  {'':<{_LABEL}}{word:<10}{numbers}"
    times = [(name, said.times[name]) for name in _TIMES if name in said.times]
    if any(each.count for _, each in times):
        yield f"  {'times':<{_LABEL}}{'':<10}{'median':>9}{'99 %':>9}   of the last hour"
        for name, each in times:
            yield f"  {'':<{_LABEL}}{name:<10}{show(each.p50):>9}{show(each.p99):>9}"


def _backlog(status: QueueStatus) -> str:
    ready, rates = status.states[State.READY].count, status.rates
    if not ready or rates is None:
        return ""
    speed = f"{_rate(rates.leaving)} leave, {_rate(rates.arriving)} arrive"
    if status.done_in is not None:
        return f"done in {show(status.done_in)} at this rate ({speed})"
    return f"not shrinking ({speed})"


def _rate(per_second: float) -> str:
    if per_second >= 1 or per_second == 0:
        return f"{per_second:.0f}/s"
    return f"{per_second * 60:.0f}/min" if per_second * 60 >= 1 else f"{per_second * 3600:.0f}/h"


# -- failures -------------------------------------------------------------------------------------


def _failures(status: QueueStatus) -> Iterator[str]:
    found = status.failures
    if not found.kinds:
        return
    head = "".join(f"{word:>{_COLUMN}}" for word in ("all", *AGES))
    yield f"  {'failures':<{_LABEL}}{'state':<10}{head}"
    for state, row in found.kinds[:_KINDS]:
        yield from _kind(state, row)
    if len(found.kinds) > _KINDS:
        yield f"  {'':<{_LABEL}}and {len(found.kinds) - _KINDS} more kinds: watcher list --summary"
    if not found.whole:
        yield from _labelled("", f"of the {found.read} notes that were read; there are more")


def _kind(state: State, row: Row) -> Iterator[str]:
    numbers = "".join(f"{number or '.':>{_COLUMN}}" for number in (row.total, *row.ages))
    yield f"  {'':<{_LABEL}}{state.value:<10}{numbers}"
    reason = one_line(row.reason)
    for line in textwrap.wrap(reason, WIDTH - _LABEL - 4, max_lines=2, placeholder=" ..."):
        yield f"  {'':<{_LABEL}}  {line}"


def _watch(said: DaemonStatus, now: float) -> Iterator[str]:
    words = [f"by {said.watch}"] if said.watch else ["the directory is not watched"]
    if said.last_sweep is not None:
        found = counted(said.last_sweep.found, "entry", "entries")
        words.append(
            f"the last sweep, {_ago(said.last_sweep.at, now)} ago, found {found} that no event"
            " had reported"
        )
    if said.overflows:
        words.append(f"events were lost {counted(said.overflows, 'time', 'times')}")
    if said.command == "run":
        yield from _labelled("watched", "; ".join(words))
