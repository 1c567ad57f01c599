"""What became of every entry, and which of that is wrong. PURE.

A second handling after `done` is right if the process of the first was killed at about that time:
no process can know how far it had come. A second handling during the first is always wrong. After
`reject`, a second handling needs an operator's requeue.
Fails: never.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from watcher.torture.account import Handling, handlings
from watcher.torture.event_log import Line

ANSWERS = ("done", "retry", "raise", "reject", "crash")
WRONG = ("lost", "mixed up", "torn", "overwritten", "doubled", "at once")
_ABOUT = 5_000_000_000  # nanoseconds from the end of the handler to the unlink, on a loaded machine


class Account(NamedTuple):
    """The counts, and a line for each error."""

    counts: Counter[str]
    wrong: dict[str, list[str]]


_NUMBER = re.compile(r"~[0-9]+(?=(\.dat)?$)")  # of NAME~N or, in the raw format, of NAME~N.dat


def balance(
    accepted: Sequence[Line],
    handled: Sequence[Line],
    deaths: Mapping[int, int],
    requeues: Sequence[tuple[int, int]],
    left: Mapping[str, str],
) -> Account:
    """Return the account.

    `deaths`: by process, when its kill was ordered. `requeues`: from when to when each operator's
    command ran. `left`: by token, the directory of an entry that is still there. Times are
    monotonic nanoseconds.
    """
    wrong: dict[str, list[str]] = {kind: [] for kind in WRONG}
    names = {line.number: line.rest for line in accepted}
    by_token = handlings(handled, ANSWERS)
    done = {token for token, each in by_token.items() if any(h.answer == "done" for h in each)}
    counts = Counter(line.what for line in handled)
    counts.update(accepted=len(names), distinct=len(done))
    for token, name in names.items():
        if token not in done:
            tried = [handling.answer or "killed" for handling in by_token.get(token, [])]
            where = left.get(token, "nowhere")
            wrong["lost"].append(f"{token} ({name}): lies {where}, handled {tried}")
    for line in handled:
        if line.what == "overwritten" or (line.what == "torn" and line.number in names):
            wrong[line.what].append(f"{line.number} ({line.rest}) in process {line.process}")
    for token, each in by_token.items():
        name = names.get(token, each[0].name)
        other = {handling.name for handling in each} - {name}
        beside = {found for found in other if _NUMBER.sub("", found) == name}
        counts["under a name~N"] += len(beside)  # it was moved while another entry had its name
        if other - beside:
            wrong["mixed up"].append(f"{token} ({name}): handled as {other - beside}")
        for first, second in pairwise(each):
            kind = _kind(first, second, deaths, requeues)
            counts[kind] += 1
            if kind in wrong:
                wrong[kind].append(f"{token} ({first.name}): {first}, then {second}")
    return Account(counts, wrong)


def _kind(
    first: Handling,
    second: Handling,
    deaths: Mapping[int, int],
    requeues: Sequence[tuple[int, int]],
) -> str:
    """Classify the second of two handlings of one entry."""
    death = deaths.get(first.process)
    if first.ended is None:
        return "after a death" if death is not None else "at once"
    if second.began < first.ended:
        return "at once"
    if first.answer in {"retry", "raise", "crash"}:
        return "again as it wished"
    if death is not None and death - first.ended < _ABOUT and second.began > death:
        return "after a death"
    requeued = any(first.ended < to and since < second.began for since, to in requeues)
    if first.answer == "reject" and requeued:
        return "requeued"
    return "doubled"
