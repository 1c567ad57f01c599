"""The lines of `watcher list --summary`: a table a state, as qshape(1) of Postfix. PURE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from watcher.cli.entry_lines import short_age, shortened
from watcher.errors import counted, one_line
from watcher.inspect.summary import AGES, Row, Summary
from watcher.rules.lifecycle import state_word

MOST_ROWS = 20  # of a state
_NARROWEST = 20  # columns of a reason
_HEADING = ("TOTAL", *AGES)


def summary_lines(summary: Summary, width: int | None) -> Iterator[str]:
    """Yield the tables; `width`: columns of the terminal, None for lines of any length."""
    first = True
    for state, oldest, rows in summary.states():
        total = sum(row.total for row in rows)
        start = "" if first else "\n"
        first = False
        entries = counted(total, "entry", "entries")
        yield f"{start}{state_word(state)}: {entries}, the oldest for {short_age(oldest)}"
        yield from _table(rows, width)


def summary_record(summary: Summary) -> dict[str, object]:
    """Return the counts for --json."""
    return {
        "ages": list(AGES),
        "states": {
            state_word(state): {
                "total": sum(row.total for row in rows),
                "oldest": round(oldest, 3),
                "reasons": [
                    {"reason": row.reason, "total": row.total, "ages": list(row.ages)}
                    for row in rows
                ],
            }
            for state, oldest, rows in summary.states()
        },
    }


def _table(rows: Sequence[Row], width: int | None) -> Iterator[str]:
    sums = tuple(map(sum, zip(*(row.ages for row in rows), strict=True)))
    wide = max(*map(len, _HEADING), len(str(sum(sums)))) + 1  # the sum is the longest number
    if width is not None and width - wide * len(_HEADING) < _NARROWEST:
        width = wide * len(_HEADING) + _NARROWEST  # the terminal breaks the lines
    yield "".join(f"{word:>{wide}}" for word in _HEADING) + "  REASON"
    if len(rows) > 1:
        yield _line(sums, "(all)", wide, width)
    for row in rows[:MOST_ROWS]:
        yield _line(row.ages, row.reason, wide, width)
    rest = rows[MOST_ROWS:]
    if rest:
        ages = tuple(map(sum, zip(*(row.ages for row in rest), strict=True)))
        yield _line(ages, f"({len(rest)} more kinds of reasons; --json has them)", wide, width)


def _line(ages: Sequence[int], reason: str, wide: int, width: int | None) -> str:
    numbers = "".join(f"{number or '-':>{wide}}" for number in (sum(ages), *ages))
    reason = one_line(reason)
    if width is not None:
        reason = shortened(reason, width - len(numbers) - 2)
    return f"{numbers}  {reason}"
