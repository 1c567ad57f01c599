"""What a run and its recovery came to: what was lost, early, doubled, unexplained.

`whole` is asked when the command has ended, however it did; `final` when recovery has been. A
finding is one line that names the entry or the file.
"""

from __future__ import annotations

import enum
import os
import re
from collections import Counter
from typing import NamedTuple

from kill_matrix.handler import Call
from kill_matrix.scenario import Entry, Fate, Scene

VICTIM, RECOVERY = "victim", "recovery"
_SCRATCH = re.compile(r"\.[0-9]+\.[0-9a-f]+\.tmp")
_JOURNAL = re.compile(r"journal(\.[1-8])?")
_NOTES = (".watcher/dead", ".watcher/orphans", ".watcher/deferred", ".watcher/held")


class Harm(enum.Enum):
    """What was done to a run."""

    NONE = enum.auto()
    REFUSED = enum.auto()  # a call, or some, failed
    KILLED = enum.auto()


class Finding(NamedTuple):
    """One thing that may not be."""

    kind: str  # lost, early, doubled, unexplained, hung, exit
    text: str


def tree(queue: str) -> dict[str, bytes]:
    """Return every file below the queue directory; directories of processes end in a slash."""
    found: dict[str, bytes] = {}
    for directory, names, files in os.walk(queue):
        below = os.path.relpath(directory, queue)
        prefix = "" if below == "." else below + "/"
        for name in files:
            with open(os.path.join(directory, name), "rb") as file:
                found[prefix + name] = file.read()
        if below == ".watcher/inflight":
            found.update({f"{prefix}{name}/": b"" for name in names})
    return found


def whole(scene: Scene, calls: list[Call], files: dict[str, bytes]) -> list[Finding]:
    """Return what is neither done nor there with all its bytes."""
    there = set(files.values())
    done = {call.entry for call in calls if call.word == "done"}
    findings = [
        Finding("lost", f"{entry.name}: not done, and {path} is nowhere")
        for entry in scene.entries.values()
        for path, data in entry.files.items()
        if entry.name not in done and data not in there and entry.fate is not Fate.DELETED
    ]
    findings += [
        Finding("early", f"{call.entry}: handled while its writer had it open")
        for call in calls
        if call.phase == VICTIM and call.entry in scene.entries and scene.entries[call.entry].open
    ]
    return findings + _touched(scene, files)


def _touched(scene: Scene, files: dict[str, bytes]) -> list[Finding]:
    return [
        Finding("lost", f"{name}: not an entry, yet gone or changed")
        for name, data in scene.bystanders.items()
        if files.get(name) != data
    ]


def final(
    scene: Scene, calls: list[Call], files: dict[str, bytes], harm: Harm, given_up: set[str]
) -> list[Finding]:
    """Return what is wrong when recovery has been.

    A sweep by hand that a disk refuses for too long gives up and says of which entries
    (`given_up`): those are handled again.
    """
    harmed = harm is not Harm.NONE
    findings = _touched(scene, files)
    explained = set(scene.bystanders)
    for entry in scene.entries.values():
        of_it = [call for call in calls if call.entry == entry.name]
        findings += _given_right(entry, of_it)
        places = {path for path, data in files.items() if data in entry.files.values()}
        explained |= places
        findings += _came_out(entry, of_it, places, harmed=harmed)
        if harm is Harm.NONE:
            findings += _once(entry, of_it)
        elif _done(of_it) > 1 and harm is Harm.REFUSED and entry.name not in given_up:
            findings.append(Finding("doubled", f"{entry.name}: done more than once"))
    for path in sorted(files.keys() - explained):
        if not _legal(path, files, harmed=harmed):
            findings.append(Finding("unexplained", path))
    return findings


def _done(calls: list[Call]) -> int:
    return sum(call.word == "done" for call in calls)


def _given_right(entry: Entry, calls: list[Call]) -> list[Finding]:
    findings = []
    for call in calls:
        if not entry.handled:
            findings.append(Finding("early", f"{entry.name}: handled, and should never be"))
        elif call.digest != entry.digest:
            findings.append(Finding("lost", f"{entry.name}: handled with other bytes"))
        elif call.metadata.get("token") != entry.token:
            findings.append(Finding("lost", f"{entry.name}: handled without its metadata"))
    if len({call.key for call in calls}) > 1:
        findings.append(Finding("doubled", f"{entry.name}: handled under several keys"))
    return findings


def _came_out(entry: Entry, calls: list[Call], places: set[str], *, harmed: bool) -> list[Finding]:
    """Return what is wrong with where an entry ended."""
    done = any(call.word == "done" for call in calls)
    if entry.fate is Fate.DONE:
        if not done:
            return [Finding("lost", f"{entry.name}: never done; {sorted(places) or 'nowhere'}")]
        # The `.db` of a pair that was done: "the end of one that was done".
        end = all(path.startswith(".watcher/orphans/") and path.endswith(".db") for path in places)
        if places and not (harmed and end):
            return [Finding("unexplained", f"{entry.name}: done, yet there: {sorted(places)}")]
        return []
    if entry.fate in (Fate.ANY, Fate.DELETED):
        return _operated(entry, places, done=done)
    where = f".watcher/{entry.fate.value}/"
    if len(places) != len(entry.files) or not all(path.startswith(where) for path in places):
        return [Finding("lost", f"{entry.name}: belongs in {where}; {sorted(places)}")]
    if len({path.rpartition(".")[0] for path in places}) > 1:
        return [Finding("unexplained", f"{entry.name}: halves of two names: {sorted(places)}")]
    return []


def _operated(entry: Entry, places: set[str], *, done: bool) -> list[Finding]:
    """Return what is wrong with where an operator's entry ended."""
    stems = {path.rpartition(".")[0] for path in places}
    put_away = all(path.startswith(".watcher/") for path in places)
    if done and places:
        return [Finding("unexplained", f"{entry.name}: done, yet there: {sorted(places)}")]
    if done or (len(places) == len(entry.files) and len(stems) == 1 and put_away):
        return []
    if entry.fate is Fate.DELETED and all(path.endswith(".db") for path in places) and put_away:
        return []  # message, then `.db`: all of it is gone, or this is the end of it
    return [Finding("lost", f"{entry.name}: neither done nor whole: {sorted(places)}")]


def _once(entry: Entry, calls: list[Call]) -> list[Finding]:
    """Return what was handled again though nothing had happened."""
    again = [number for number, count in Counter(c.attempt for c in calls).items() if count > 1]
    if again:
        return [Finding("doubled", f"{entry.name}: attempts {again} made more than once")]
    if calls and entry.attempt and min(call.attempt for call in calls) != entry.attempt:
        return [Finding("doubled", f"{entry.name}: first attempt was not its {entry.attempt}.")]
    return []


def _legal(path: str, files: dict[str, bytes], *, harmed: bool) -> bool:
    """Whether a file that is no entry's may be left, by docs/spool-format.md."""
    directory, _, name = path.rpartition("/")
    if directory == ".watcher":
        return _JOURNAL.fullmatch(name) is not None
    if directory in _NOTES and name.endswith(".json"):
        stem = f"{directory}/{name.removesuffix('.json')}."
        explains = any(other.startswith(stem) and other != path for other in files)
        return explains or harmed
    return harmed and directory in _NOTES and _SCRATCH.fullmatch(name) is not None
