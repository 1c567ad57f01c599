"""The history of one entry: its lives by the journal, and where it is now by the disk.

Guarantees: nothing is changed. An entry that moves meanwhile is looked for again before it is
called gone. What the journal does not say is not guessed: see `remarks`.
Fails: NoSuch if neither the journal nor the disk has the name; Usage if several NAMEs begin with
it; NotPermitted; OSError if the journal cannot be read.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.errors import NoSuch, Unavailable, Usage, counted
from watcher.inspect.entry_lines import CANDIDATES, Coverage, EntryLines, Written, find_lines, taken
from watcher.inspect.entry_lives import Life, lives_of
from watcher.inspect.explanation import Explanation
from watcher.inspect.file_facts import Fact
from watcher.inspect.find_entry import EntryLocation, look_up, no_such, own_name, resolve
from watcher.inspect.history_text import local_time, outcome, taken_text
from watcher.inspect.list_entries import EntryInfo, as_claimed, in_queue, listed
from watcher.inspect.notes_view import look, open_state_dir, with_metadata
from watcher.inspect.same_entry import places_after, places_before
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, display, is_stored
from watcher.rules.stamp import without_stamps
from watcher.spool.birth import birth_of
from watcher.spool.dirs import scan_dir
from watcher.spool.journal_files import Place, parse_begin, place_of
from watcher.spool.journal_home import JournalUnreachable
from watcher.spool.spool import Spool, as_watcher_error

LOOKS = 3  # before an entry is called gone
_STATES = (State.READY, *STATE_DIRECTORIES)


class Here(NamedTuple):
    """An entry on the disk, and what identifies its message's file."""

    info: EntryInfo
    inode: int
    birth: int | None  # ns; None: the file system does not say


class LifeNow(NamedTuple):
    """One life, and where the entry is now. Without a life: the journal has no line about it."""

    life: Life | None
    here: Here | None


class EntryHistory(NamedTuple):
    """All that is known of the entries that had one name."""

    name: bytes  # NAME
    lives: list[LifeNow]
    taken: list[Written]
    covers: Coverage
    remarks: list[str]
    candidates: tuple[bytes, ...] = ()  # other NAMEs that begin with what was given


def history(spool: Spool, wanted: bytes, limit: int, until: float = math.inf) -> EntryHistory:
    """Return the history of `wanted`: a file name, NAME, STATE/NAME, or the beginning of a NAME.

    Raises TryAgain if the journal could not be read until the moment `until` (monotonic).
    """
    found = _look(spool, wanted, limit, until)
    if not found.lives and not found.taken:
        begun = _beginning(spool, wanted, found)
        if begun is None:
            raise NoSuch(f"{no_such(spool, wanted, looks=False)}; {'; '.join(found.remarks)}")
        wanted = begun
        found = _look(spool, wanted, limit, until)
    for _ in range(LOOKS - 1):
        if all(each.here or each.life is None or each.life.ended for each in found.lives):
            break
        found = _look(spool, wanted, limit, until)
    return found


def _beginning(spool: Spool, wanted: bytes, found: EntryHistory) -> bytes | None:
    """Return the NAME that begins with `wanted`, in the journal or on the disk; None if none does.

    Raises Usage if several do.
    """
    own = spool.layout.in_state_dir()
    (places,) = resolve(spool, [wanted], _STATES)
    names = {*found.candidates, *(own.stem(own_name(place)) for place in places)}
    if len(names) > 1:
        shown = ", ".join(map(display, sorted(names)[:CANDIDATES]))
        more = ", ..." if len(names) > CANDIDATES else ""
        raise Usage(f"{display(wanted)}: several entries begin so: say more of {shown}{more}")
    return next(iter(names), None)


def _look(spool: Spool, wanted: bytes, limit: int, until: float) -> EntryHistory:
    (places,) = look_up(spool, [wanted], _STATES)  # checks the form of the name, too
    name = wanted.rpartition(b"/")[2]
    if not name:
        raise Usage("an empty name is no entry's")
    lines, moved = _lines(spool, name, until)
    lives = lives_of(lines.lines, spool.layout)
    there = [here for place in places if (here := _here(spool, place, limit)) is not None]
    found = _match(spool, lives, there, moved=moved, limit=limit)
    remarks, vanished = _remarks(spool, lines), taken(lines.lines)
    shown = _shown(name, found, spool)
    return EntryHistory(shown, found, vanished, lines.covers, remarks, lines.candidates)


def _lines(spool: Spool, name: bytes, until: float) -> tuple[EntryLines, bool]:
    """Return the lines, and whether the journal has none since the queue was copied or moved."""
    try:
        state_root = spool.home.open()
    except FileNotFoundError:
        return EntryLines([], Coverage(None, whole=False, lost=0)), False
    except PermissionError as error:
        raise as_watcher_error(error, spool.home.path, "the journal") from None
    try:
        directory = spool.journal_home.files(state_root).directory
        lines = find_lines(state_root, name, spool.layout, directory, until)
        return lines, _moved(lines, place_of(state_root))
    except JournalUnreachable as error:
        raise Unavailable(str(error)) from None
    finally:
        os.close(state_root)


def _moved(lines: EntryLines, place: Place) -> bool:
    begins = [begin for each in lines.lines if (begin := parse_begin(each.line)) is not None]
    return bool(begins) and not begins[-1].state_root.is_same(place)


def _shown(name: bytes, found: list[LifeNow], spool: Spool) -> bytes:
    own = spool.layout.in_state_dir()
    for life, here in found:
        if here is not None:
            return here.info.name
        if life is not None:
            return own.stem(without_stamps(life.last.name))
    return name


def _remarks(spool: Spool, lines: EntryLines) -> list[str]:
    """Return what limits the meaning of the lines."""
    covers, words = lines.covers, []
    if covers.since is None:
        words.append("the journal has no lines" if spool.journal.enabled else "no journal is kept")
    elif covers.whole:
        words.append(f"the journal begins on {local_time(covers.since)}, with the first start here")
    else:
        words.append(f"the journal begins on {local_time(covers.since)}; what was before is gone")
    if covers.since is not None and not spool.journal.enabled:
        words.append("no journal is kept now (journal = false)")
    if covers.lost:
        number = counted(covers.lost, "line", "lines")
        words.append(f"{number} of it could not be written, so steps may be missing")
    if lines.left_out:
        words.append(f"{counted(lines.left_out, 'older line', 'older lines')} not shown")
    return words


# -- for `explain` -----------------------------------------------------------------------------


def paths_of(spool: Spool, name: bytes) -> list[bytes]:
    """Return the path of each file in the queue that is called `name`, whatever its state."""
    (places,) = look_up(spool, [name], _STATES)
    return [_path(spool, state, files[0]) for state, files, _ in places]


def paths_now(spool: Spool, found: EntryHistory) -> list[bytes]:
    """Return the path of each entry of a history that is on the disk."""
    there = [each.here.info for each in found.lives if each.here is not None]
    return [_path(spool, info.lies_in, info.files[0]) for info in there]


def _path(spool: Spool, state: State, file: bytes) -> bytes:
    if state in STATE_DIRECTORIES:
        return os.path.join(spool.home.path, STATE_DIRECTORIES[state], file)
    return os.path.join(spool.path, file)


def explain_by_history(spool: Spool, found: EntryHistory) -> Explanation:
    """Explain entries that have no file any more, by what the journal says became of them."""
    facts = []
    for life, here in found.lives:
        verdict = outcome(life, None if here is None else here.info)
        facts.append(Fact("history", verdict))
    facts += [Fact("taken", taken_text(each.line)) for each in found.taken]
    *earlier, last = facts
    earlier.append(Fact("advice", f"watcher history {display(spool.path)} {display(found.name)}"))
    earlier += [Fact("journal", remark) for remark in found.remarks]
    return Explanation(last.what, earlier, {})


# -- the disk ---------------------------------------------------------------------------------


def _here(spool: Spool, place: EntryLocation, limit: int) -> Here | None:
    """Return what is known about an entry on the disk; None if it is gone."""
    state, files, _ = place
    if state not in STATE_DIRECTORIES:
        status, birth = look(spool.fd, files[0]), birth_of(files[0], spool.fd)
        info = in_queue(spool, files[0], holders(), limit)
        return None if status is None or info is None else Here(info, status.st_ino, birth)
    directory = open_state_dir(spool, state)
    if directory is None:
        return None
    try:
        status = look(directory, files[0])
        if status is None:
            return None
        info = listed(spool, state, directory, files, status, explained=True)
        if state is State.DEFERRED:
            holder = holders().get((status.st_dev, status.st_ino))
            info = info if holder is None else as_claimed(info, holder)
        return Here(info, status.st_ino, birth_of(files[0], directory))
    finally:
        os.close(directory)


def _match(
    spool: Spool, lives: list[Life], there: list[Here], *, moved: bool, limit: int
) -> list[LifeNow]:
    """Return each life with its file, then the files that have no line."""
    left = list(there)
    found: dict[int, Here] = {}
    for number, life in reversed([*enumerate(lives)]):
        here = next((each for each in left if _is_file_of(life, each)), None)
        if here is not None:
            left.remove(here)
            found[number] = here
    lost = [number for number, life in enumerate(lives) if number not in found and not life.ended]
    if lost:
        elsewhere = [
            here
            for place in _with_inodes(spool, {lives[number].last.inode for number in lost})
            if (here := _here(spool, place, limit)) is not None
        ]
        for number in lost:
            here = next((each for each in elsewhere if _is_file_of(lives[number], each)), None)
            if here is None and moved:
                here = next((each for each in left if _may_be(lives[number], each)), None)
                left = [each for each in left if each is not here]
            if here is not None:
                found[number] = here
    result = [LifeNow(life, found.get(number)) for number, life in enumerate(lives)]
    used = {here.inode for here in found.values()}
    return result + [LifeNow(None, here) for here in left if here.inode not in used]


def _is_file_of(life: Life, here: Here) -> bool:
    """Whether a file is that of the life's last line."""
    if life.last.inode != here.inode:
        return False
    birth = life.tracked.birth
    return birth == here.birth if birth and here.birth is not None else not life.ended


def _may_be(life: Life, here: Here) -> bool:
    """Whether a file of a copied queue is where the life's last line left the entry."""
    place = STATE_DIRECTORIES.get(here.info.lies_in, b"")
    return place in places_after(life.last) | places_before(life.last)


def _with_inodes(spool: Spool, inodes: set[int]) -> Iterator[EntryLocation]:
    """Yield the files in the queue and in its state directories that have one of these numbers."""
    for state in _STATES:
        directory = os.dup(spool.fd) if state is State.READY else open_state_dir(spool, state)
        if directory is None:
            continue
        try:
            for item in scan_dir(directory):
                if item.inode() not in inodes:
                    continue
                name = os.fsencode(item.name)
                status = look(directory, name)
                if status is None or not stat.S_ISREG(status.st_mode):
                    continue
                if state is State.READY:
                    yield EntryLocation(state, (name,))
                elif is_stored(name, spool.layout):
                    yield EntryLocation(state, with_metadata(directory, name, spool.layout))
        finally:
            os.close(directory)
