"""The findings of a run and its recovery: entries lost, early, doubled or unexplained.

`whole` is called when the command has ended, in any way; `final` after the recovery. A finding is
one line that names the entry or the file.
"""

from __future__ import annotations

import enum
import os
import re
from collections import Counter
from typing import NamedTuple

from kill_matrix.handler import VICTIM, Call
from kill_matrix.scenario import Entry, Fate, Scene
from watcher.rules.queue_record import decode
from watcher.spool.daemon_status import decode as decode_status

_SCRATCH = re.compile(r"\.[0-9]+\.[0-9a-f]+\.tmp")
_RECORD_SCRATCH = re.compile(r"\.queue\.json\.[0-9a-f]+\.tmp")
_JOURNAL = re.compile(r"journal(\.[1-8])?")
_NOTES = (".watcher/dead", ".watcher/orphans", ".watcher/deferred", ".watcher/held")


class Harm(enum.Enum):
    """What disturbed a run."""

    NONE = enum.auto()
    REFUSED = enum.auto()  # one call or several failed
    KILLED = enum.auto()


class Allowed(NamedTuple):
    """The entries that may be handled twice.

    If the disk refuses for too long, a sweep gives up and names the entries; they are handled
    again. After a death, the entries that its workers had in hand are handled again.
    """

    given_up: set[str]
    in_hand: int = 1


MOST_DONE = 2  # how often an entry may be done after one death


class Finding(NamedTuple):
    """One error."""

    kind: str  # lost, early, doubled, unexplained, hung, exit
    text: str


def tree(queue: str) -> dict[str, bytes]:
    """Return every file below the queue directory; process directories end in a slash."""
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
    """Return the entries that are neither done nor present with all their bytes."""
    there = set(files.values())
    findings = [
        Finding("lost", f"{entry.name}: not done, and the bytes of {path} are in no file")
        for entry in scene.entries.values()
        for path, data in entry.files.items()
        if (scene.archive or not _done(entry.of(calls))) and data not in there
        if entry.fate is not Fate.DELETED
        if not scene.waits_to_come(entry)
    ]
    findings += [
        Finding("early", f"{entry.name}: handled while its writer had it open")
        for entry in scene.entries.values()
        if entry.open and any(call.phase == VICTIM for call in entry.of(calls))
    ]
    return findings + _touched(scene, files)


def _touched(scene: Scene, files: dict[str, bytes]) -> list[Finding]:
    return [
        Finding("lost", f"{name}: not an entry, but gone or changed")
        for name, data in scene.bystanders.items()
        if files.get(name) != data
    ]


def final(
    scene: Scene, calls: list[Call], files: dict[str, bytes], harm: Harm, allowed: Allowed
) -> list[Finding]:
    """Return what is wrong after the recovery."""
    harmed = harm is not Harm.NONE
    findings = _touched(scene, files) + _strange(scene, calls)
    if harm is Harm.KILLED:
        findings += _more_than_were_in_hand(scene, calls, allowed.in_hand)
    explained = set(scene.bystanders)
    for entry in scene.entries.values():
        of_it = entry.of(calls)
        findings += _given_right(entry, of_it)
        places = {path for path, data in files.items() if data in entry.files.values()}
        explained |= places
        findings += _in_archive(scene.archive, entry, of_it, places)
        findings += _came_out(entry, of_it, _outside(scene.archive, places), harmed=harmed)
        if harm is Harm.NONE:
            findings += _once(entry, of_it)
        elif harm is Harm.KILLED:
            findings += _counted(entry, of_it)
        elif _done(of_it) > 1 and not any(map(entry.has, allowed.given_up)):
            findings.append(Finding("doubled", f"{entry.name}: done more than once"))
    for path in sorted(files.keys() - explained):
        if not _legal(path, files, harmed=harmed):
            findings.append(Finding("unexplained", path))
    return findings


def waiting(scene: Scene, files: dict[str, bytes]) -> list[str]:
    """Return the entries that are ready for a handler and still in the queue or deferred/."""
    ends = [".watcher/dead/", ".watcher/held/", ".watcher/orphans/"]
    ends += [scene.archive] if scene.archive else []
    left = {data for path, data in files.items() if not path.startswith(tuple(ends))}
    return [
        entry.name
        for entry in scene.entries.values()
        if entry.handled and not entry.open and left & set(entry.files.values())
    ]


def _done(calls: list[Call]) -> int:
    return sum(call.word == "done" for call in calls)


def _strange(scene: Scene, calls: list[Call]) -> list[Finding]:
    """Return the calls for a name of several entries with bytes of none of them."""
    shared = {entry.called for entry in scene.entries.values() if entry.called}
    known = {entry.digest for entry in scene.entries.values()}
    return [
        Finding("lost", f"{call.entry}: handled with bytes of no entry")
        for call in calls
        if call.entry in shared and call.digest not in known
    ]


def _more_than_were_in_hand(scene: Scene, calls: list[Call], in_hand: int) -> list[Finding]:
    """Return the doubled entries that one death does not explain: more than were in hand."""
    counts = {entry.name: _done(entry.of(calls)) for entry in scene.entries.values()}
    findings = [
        Finding("doubled", f"{name}: done {count} times after one death")
        for name, count in counts.items()
        if count > MOST_DONE
    ]
    again = [name for name, count in counts.items() if count > 1]
    if len(again) > in_hand:
        findings.append(Finding("doubled", f"{again}: done again; {in_hand} at most were in hand"))
    return findings


def _given_right(entry: Entry, calls: list[Call]) -> list[Finding]:
    findings = []
    for call in calls:
        if not entry.handled:
            findings.append(Finding("early", f"{entry.name}: handled, but must never be"))
        elif call.digest != entry.digest:
            findings.append(Finding("lost", f"{entry.name}: handled with other bytes"))
        elif call.metadata.get("token", "") != entry.token:
            findings.append(Finding("lost", f"{entry.name}: handled without its metadata"))
    if len({call.key for call in calls}) > 1:
        findings.append(Finding("doubled", f"{entry.name}: handled under several keys"))
    return findings


def _outside(archive: str, places: set[str]) -> set[str]:
    """Return the places that are not in the archive."""
    return {path for path in places if not archive or not path.startswith(archive)}


def _in_archive(archive: str, entry: Entry, calls: list[Call], places: set[str]) -> list[Finding]:
    """Return what is wrong in the archive: a done entry is there once, and no other entry."""
    if not archive:
        return []
    there = sorted(places - _outside(archive, places))
    if entry.fate is not Fate.ARCHIVED and not any(call.word == "done" for call in calls):
        return [Finding("early", f"{entry.name}: archived, and not done")] if there else []
    if len(there) == 1:
        return []
    kind = "doubled" if there else "lost"
    return [Finding(kind, f"{entry.name}: done; in the archive: {there or 'nowhere'}")]


def _came_out(entry: Entry, calls: list[Call], places: set[str], *, harmed: bool) -> list[Finding]:
    """Return what is wrong with the final state of an entry."""
    done = any(call.word == "done" for call in calls)
    if entry.fate is Fate.DONE:
        if not done:
            return [Finding("lost", f"{entry.name}: never done; {sorted(places) or 'nowhere'}")]
        # The `.db` of a pair that was done: "the end of one that was done".
        end = all(path.startswith(".watcher/orphans/") and path.endswith(".db") for path in places)
        if places and not (harmed and end):
            return [
                Finding("unexplained", f"{entry.name}: done, but still there: {sorted(places)}")
            ]
        return []
    if entry.fate is Fate.ARCHIVED:
        return [Finding("doubled", f"{entry.name}: also in {sorted(places)}")] if places else []
    if entry.fate in (Fate.ANY, Fate.DELETED):
        return _operated(entry, places, done=done)
    where = f".watcher/{entry.fate.value}/"
    if len(places) != len(entry.files) or not all(path.startswith(where) for path in places):
        return [Finding("lost", f"{entry.name}: must be in {where}; is in {sorted(places)}")]
    if len({path.rpartition(".")[0] for path in places}) > 1:
        return [Finding("unexplained", f"{entry.name}: halves of two names: {sorted(places)}")]
    return []


def _operated(entry: Entry, places: set[str], *, done: bool) -> list[Finding]:
    """Return what is wrong with the final state of an entry that an operator moved."""
    stems = {path.rpartition(".")[0] for path in places}
    put_away = all(path.startswith(".watcher/") for path in places)
    if done and places:
        return [Finding("unexplained", f"{entry.name}: done, but still there: {sorted(places)}")]
    if done or (len(places) == len(entry.files) and len(stems) == 1 and put_away):
        return []
    if entry.fate is Fate.DELETED and all(path.endswith(".db") for path in places) and put_away:
        return []  # the message is unlinked before its `.db`
    return [Finding("lost", f"{entry.name}: neither done nor whole: {sorted(places)}")]


def _once(entry: Entry, calls: list[Call]) -> list[Finding]:
    """Return the entries that were handled again without a death or a refusal."""
    again = [number for number, count in Counter(c.attempt for c in calls).items() if count > 1]
    if again:
        return [Finding("doubled", f"{entry.name}: attempts {again} made more than once")]
    if _done(calls) > 1:
        return [Finding("doubled", f"{entry.name}: done more than once")]
    if calls and entry.attempt and min(call.attempt for call in calls) != entry.attempt:
        return [Finding("doubled", f"{entry.name}: first attempt was not its {entry.attempt}.")]
    return []


def _counted(entry: Entry, calls: list[Call]) -> list[Finding]:
    """Return the attempts with the same number: an attempt that a death ended counts.

    An entry that was done may begin again with 1: its file was in a process directory, and was put
    back as an entry.
    """
    counts = Counter(call.attempt for call in calls if call.word != "done")
    again = [number for number, count in counts.items() if count > 1]
    if again and entry.attempt:
        return [Finding("doubled", f"{entry.name}: attempts {again} were not counted")]
    return []


def _is_record(data: bytes) -> bool:
    """Whether the file in which the queue says what it is is whole."""
    try:
        return bool(decode(data))
    except ValueError:
        return False


def _legal(path: str, files: dict[str, bytes], *, harmed: bool) -> bool:
    """Whether docs/spool-format.md allows this file to be left."""
    directory, _, name = path.rpartition("/")
    if directory == ".watcher" and name == "queue.json":
        return _is_record(files[path])
    if directory == ".watcher" and name == "last-daemon.json":
        return decode_status(files[path]) is not None  # whole, whenever the daemon was killed
    if directory == ".watcher":
        if name == "paused":  # only an operator's commands make and remove it
            return True
        scratch = harmed and _RECORD_SCRATCH.fullmatch(name) is not None
        return scratch or _JOURNAL.fullmatch(name) is not None
    if directory in _NOTES and name.endswith(".json"):
        stem = f"{directory}/{name.removesuffix('.json')}"  # of a raw entry the whole name
        others = (other for other in files if other != path)
        explains = any(other == stem or other.startswith(stem + ".") for other in others)
        return explains or harmed
    return harmed and directory in _NOTES and _SCRATCH.fullmatch(name) is not None
