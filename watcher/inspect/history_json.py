"""What `history --json` and the page say of one entry, as JSON knows it. PURE."""

from __future__ import annotations

from watcher.errors import one_line
from watcher.inspect.entry_history import EntryHistory, LifeNow
from watcher.inspect.entry_lines import Written
from watcher.inspect.history_text import local_time, outcome, step_text
from watcher.rules.names import display
from watcher.spool.attempt_detail import parse_detail


def record(found: EntryHistory) -> dict[str, object]:
    """Return the history of one entry; moments are seconds since 1970."""
    return {
        "entry": display(found.name),
        "lives": [_life(each) for each in found.lives],
        "taken": [each.line.time for each in found.taken],
        "journal_since": found.covers.since,
        "remarks": found.remarks,
    }


def _life(found: LifeNow) -> dict[str, object]:
    life, here = found
    ended = life is not None and life.ended
    return {
        "committed": None if life is None else life.committed,
        "attempts": None if life is None else life.attempts,
        "steps": [] if life is None else [_step(each) for each in life.steps],
        "state": None if here is None else here.info.state.value,
        "ended": life.last.move.decode() if life is not None and ended else None,
        "result": outcome(life, None if here is None else here.info),
    }


def _step(written: Written) -> dict[str, object]:
    line, host = written
    said = parse_detail(line.detail)
    return {
        "time": line.time,
        "local_time": local_time(line.time),
        "process": line.pid,
        "host": None if host is None else display(host),
        "state": line.state.decode(),
        "move": line.move.decode(),
        "file": display(line.name),
        "attempt": said.attempt,
        "took": said.took,
        "waited": said.wait,
        "exit_status": said.exit_status,
        "next_in": said.next_in,
        "why": said.text,
        "text": one_line(step_text(line)),
    }
