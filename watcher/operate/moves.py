"""Make an operator's moves: claim, tell the journal, write the note, rename or unlink.

Guarantees: safe beside daemons, sweeps and other commands: an entry is moved only under a claim,
and what another has claimed stays; nothing is overwritten; nothing is unlinked but what the
operator named, and the note beside what was moved. What is reported as moved is durable: both
directories are synced once a batch, before its reports are given. One sync does for many, because
each move is a rename by itself: should the power fail before the sync, each entry is where it was
or where it was to go.
Fails: NotPermitted at the first entry that we may not move, and WatcherError where a directory of
ours cannot be had; every entry is then where it was or where it was to go. What keeps a single
entry from its move is in its report.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.claim.take import Refused, Terms
from watcher.errors import NotPermitted, WatcherError
from watcher.inspect.census import Listed, by_process
from watcher.inspect.notes import read_note, stem_of
from watcher.lifecycle import Move, State, after
from watcher.operate.claiming import Claimed, take_for_operator
from watcher.operate.targets import Target, Targets, fits_queue, is_entry
from watcher.operate.who import Who
from watcher.settle import aside, notes
from watcher.spool.layout import STATE_DIRECTORIES, display, note_of, text
from watcher.spool.spool import Spool

BATCH = 1_000  # entries to a sync
_HISTORY = ("attempts", "crashes", "first_failure", "exit_status", "stderr", "next_attempt_ms")
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


class Moved(NamedTuple):
    """What became of one entry: the state that it is in now, None if it was left; and why."""

    entry: Listed
    state: State | None
    why: str = ""


class Moves:
    """One operator's moves in one queue."""

    def __init__(self, spool: Spool, terms: Terms, by: Who) -> None:
        self._spool = spool
        self._terms = terms
        self._by = by
        self._targets = Targets(spool)
        self._touched: set[int] = set()  # directories that are to be synced

    def make(self, move: Move, entries: Sequence[Listed]) -> Iterator[Moved]:
        """Make a move with each entry; say what became of it."""
        for start in range(0, len(entries), BATCH):
            done: list[Moved] = []
            failed: WatcherError | None = None
            try:
                for entry in entries[start : start + BATCH]:
                    done.append(self._one(move, entry))  # noqa: PERF401 - what was done is told
            except WatcherError as error:
                failed = error
            finally:
                self._sync()
                self._spool.journal.flush()  # who reads our reports may take any time
            yield from done
            if failed is not None:
                raise failed

    def preview(self, move: Move, entries: Sequence[Listed]) -> Iterator[Moved]:
        """Say what `make` would come to; change nothing, lock nothing."""
        held = holders()
        for entry in entries:
            taken = take_for_operator(self._spool, entry, self._terms._replace(lock=False))
            if isinstance(taken, Refused):
                yield Moved(entry, None, taken.why)
                continue
            pids = [held.get((self._spool.identity[0], part.ino)) for part in taken.claim.parts]
            taken.claim.release()
            if pid := next((pid for pid in pids if pid is not None), None):
                yield Moved(entry, None, f"claimed {by_process(pid)}")
            else:
                yield self._planned(move, taken, entry)

    def _planned(self, move: Move, taken: Claimed, entry: Listed) -> Moved:
        state = after(taken.state, move)
        if move in (Move.HOLD, Move.DELETE):
            return Moved(entry, state)
        if not is_entry(self._spool, taken):
            return Moved(entry, None, "not an entry's name")
        if move is Move.RELEASE and taken.schedule is not None:
            return Moved(entry, State.DEFERRED)
        if fits_queue(self._spool, taken):
            return Moved(entry, state)
        if taken.half and not taken.own[0].endswith(b".msg"):
            return Moved(entry, None, "the queue has a file of its name")
        return Moved(entry, State.DEFERRED, _beside(taken))

    def _sync(self) -> None:
        for directory in self._touched:
            self._spool.disk.sync(directory)
        self._touched.clear()

    def _one(self, move: Move, entry: Listed) -> Moved:
        taken = take_for_operator(self._spool, entry, self._terms)
        if isinstance(taken, Refused):
            return Moved(entry, None, taken.why)
        try:
            if move is Move.DELETE:
                return self._delete(taken, entry)
            return self._move(move, taken, entry)
        except FileNotFoundError:
            return Moved(entry, None, "no longer there")
        except OSError as error:
            if error.errno in _NOT_OURS:
                name = f"{display(self._spool.path)}: {display(entry.files[0])}"
                raise NotPermitted(
                    f"{name}: cannot be moved: {error.strerror}; check owner and mode"
                ) from None
            return Moved(entry, None, f"{error.strerror} (errno {error.errno})")
        finally:
            taken.claim.release()

    # -- delete -------------------------------------------------------------------------------

    def _delete(self, taken: Claimed, entry: Listed) -> Moved:
        """Unlink the files, message first; a claimed name of ours leads to what was claimed."""
        self._tell(Move.DELETE, taken)
        for part in taken.claim.parts:
            self._touched.add(part.directory)
            with contextlib.suppress(FileNotFoundError):
                self._spool.disk.unlink(part.name, part.directory)
        self._forget_note(taken)
        return Moved(entry, after(taken.state, Move.DELETE))

    # -- moves --------------------------------------------------------------------------------

    def _move(self, move: Move, taken: Claimed, entry: Listed) -> Moved:
        if not is_entry(self._spool, taken):
            return Moved(entry, None, "not an entry's name")
        self._tell(move, taken)
        target = self._transfer(move, taken)
        if target is None:
            return Moved(entry, None, "the queue has a file of its name")
        if taken.state is State.READY and not self._is_ours(taken, target):
            notes.take_back(self._spool, target.directory, target.note, target.names[0])
            return Moved(entry, None, "a newer file took its place")
        taken.claim.release()  # at once: a daemon has seen the rename
        self._forget_note(taken)
        why = _beside(taken) if self._went_aside(move, taken, target) else ""
        return Moved(entry, target.state, why)

    def _transfer(self, move: Move, taken: Claimed) -> Target | None:
        """Rename the files to the first target that has all the names free."""
        parts = taken.claim.parts
        lies = [(part.name, taken.directory) for part in parts]
        for target in self._targets.of(move, taken):
            if target.note:
                self._write_note(move, taken, target)
            order = list(enumerate(target.names))
            if target.state is State.DEFERRED:
                order.reverse()
            try:
                for index, name in order:
                    self._rename(lies[index], (name, target.directory), index)
                    lies[index] = (name, target.directory)
            except FileExistsError:
                continue  # another was quicker; what has moved already moves on from there
            return target
        return None

    def _rename(self, here: tuple[bytes, int], there: tuple[bytes, int], index: int) -> None:
        if here == there:
            return
        self._touched |= {here[1], there[1]}
        try:
            self._spool.disk.move(*here, *there)
        except FileNotFoundError:
            if index == 0:
                raise
            # The message is in the queue already, and its .db was fetched by a daemon.

    def _is_ours(self, taken: Claimed, target: Target) -> bool:
        """Whether it is what was claimed that came; a newcomer to its name goes back."""
        ours = True
        for part, name in zip(taken.claim.parts, target.names, strict=True):
            there = aside.inode(name, target.directory)
            if there is not None and there != part.ino:
                aside.put_back(self._spool, name, target.directory, part.called)
                ours = ours and part is not taken.claim.parts[0]
        return ours

    def _went_aside(self, move: Move, taken: Claimed, target: Target) -> bool:
        """Whether it is in deferred/ because the queue would not do."""
        if target.state is not State.DEFERRED:
            return False
        return move is Move.REQUEUE or taken.schedule is None

    # -- what is told -------------------------------------------------------------------------

    def _tell(self, move: Move, taken: Claimed) -> None:
        part = taken.claim.parts[0]
        detail = f"by {self._by}"
        self._spool.journal.record(taken.state, move, part.ino, part.name, detail)

    def _write_note(self, move: Move, taken: Claimed, target: Target) -> None:
        """Write what is known beside where the entry is to go; a cut name's rest is synced."""
        stem = stem_of(taken.own[0], self._spool.layout)
        note = dict(self._known(taken))
        why = f"{_PAST[move]} by {self._by}"
        if move is Move.REQUEUE:
            for key in _HISTORY:
                note.pop(key, None)
            note["why"] = why
        note.setdefault("why", why)
        note |= notes.told(stem, target.state, taken.claim.parts, target.names)
        note |= {"by": self._by._asdict(), "move": move.value}
        note["at"] = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        whole = target.names[0].endswith(taken.own[0])
        notes.write(self._spool, target.directory, target.note, note, durable=not whole)

    def _known(self, taken: Claimed) -> Mapping[str, object]:
        if taken.note or taken.state not in STATE_DIRECTORIES:
            return taken.note
        return read_note(taken.directory, taken.file, self._spool.layout)

    def _forget_note(self, taken: Claimed) -> None:
        """Remove the note beside what was moved, if it is one: not what is only called so."""
        files = self._known(taken).get("files")
        if not isinstance(files, list) or text(taken.file) not in files:
            return
        with contextlib.suppress(OSError):
            self._spool.disk.unlink(note_of(taken.file, self._spool.layout), taken.directory)


def _beside(taken: Claimed) -> str:
    """Say why an entry waits in deferred/, due now, and not in the queue."""
    if taken.number and len(taken.own) > 1:
        return "through deferred/, under its own name"
    return "through deferred/: the queue has a newer file of its name"


_PAST = {Move.HOLD: "held", Move.RELEASE: "released", Move.REQUEUE: "requeued"}
