"""What a command said about single entries of its batch, on descriptor 3: one JSON line each. PURE.

    {"index": 2, "result": "retry", "after": 60, "reason": "mailbox locked"}

The entry is named by its `index` in the call (from 0), by its `entry` or by its `file`, as on the
line about it on standard input. `result` is "done", "retry" or "reject".
Guarantees: nothing is guessed, and only so many lines are read (`LINES_EACH`). An entry is to be
tried again if a line about it makes no sense, or if two lines differ. If a line names no entry,
`unclear` says so: no entry without a word may count as done then, because the line may have been
about it.
Fails: never.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from watcher.durations import LONGEST
from watcher.rules.results import HANDLED, HandlerResult, Verdict, shortened

MOST = 4 << 20  # bytes of descriptor 3
LINES_EACH = 10  # lines for each entry; reading millions would take the daemon a minute
SHOWN = 80  # characters of a line that makes no sense
_RESULTS = {"done": Verdict.DONE, "retry": Verdict.RETRY, "reject": Verdict.REJECT}
_UNSAID = {
    Verdict.RETRY: "the handler asks for a retry",
    Verdict.REJECT: "rejected by the handler",
}


class Named(NamedTuple):
    """By what a line may name an entry, besides its number."""

    entry: str
    file: str


class Words(NamedTuple):
    """The results that were said, by the number of the entry, and what was not understood."""

    results: Mapping[int, HandlerResult]
    unclear: str = ""


def read_words(data: bytes, entries: Sequence[Named]) -> Words:
    """Read what was said about some entries."""
    results: dict[int, HandlerResult] = {}
    unclear = ""
    if len(data) > MOST:
        unclear = f"descriptor 3: more than {MOST} bytes"
    most = LINES_EACH * len(entries)
    lines = data[:MOST].split(b"\n", most)
    if len(lines) > most and lines.pop():
        unclear = unclear or f"descriptor 3: more than {most} lines"
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        shown = line[:SHOWN].decode("utf-8", "backslashreplace")
        where = f"descriptor 3, line {number}: {shown!r}"
        said = _object(line)
        found = None if said is None else _entry(said, entries)
        if said is None or found is None:
            unclear = unclear or shortened(f"{where}: expected a JSON object that names one entry")
            continue
        word = _result(said, where)
        if results.setdefault(found, word) != word:
            results[found] = _senseless(f"{where}: another line says something else")
    return Words(results, unclear)


def _object(line: bytes) -> dict[str, object] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _entry(said: Mapping[str, object], entries: Sequence[Named]) -> int | None:
    """Return the number of the one entry that all of a line's names name; None if there is none."""
    numbers = set(range(len(entries)))
    named = False
    if "index" in said:
        index, named = said["index"], True
        numbers &= {index} if type(index) is int else set()
    for key in Named._fields:
        if key in said:
            name, named = said[key], True
            numbers &= {number for number, each in enumerate(entries) if getattr(each, key) == name}
    return numbers.pop() if named and len(numbers) == 1 else None


def _result(said: Mapping[str, object], where: str) -> HandlerResult:
    result, after, reason = said.get("result"), said.get("after"), said.get("reason", "")
    verdict = _RESULTS.get(result) if isinstance(result, str) else None
    if verdict is None or not isinstance(reason, str):
        return _senseless(f"{where}: expected result done, retry or reject, and reason a text")
    if after is not None and not (
        verdict is Verdict.RETRY and type(after) in (int, float) and 0 <= after <= LONGEST  # type: ignore[operator]
    ):
        return _senseless(f"{where}: expected after with retry alone, a number of seconds")
    if verdict is Verdict.DONE:
        return HANDLED
    seconds = None if after is None else float(after)  # type: ignore[arg-type]
    return HandlerResult(verdict, shortened(reason) or _UNSAID[verdict], seconds)


def _senseless(why: str) -> HandlerResult:
    return HandlerResult(Verdict.RETRY, shortened(why))
