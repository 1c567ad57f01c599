"""Make an operator's moves: claim, write the journal and the note, rename or unlink.

Guarantees: safe beside daemons, sweeps and other commands. An entry is moved only under a claim;
nothing is overwritten; only the entries that the operator named, and the notes of moved entries,
are unlinked. A move that is reported is durable: both directories are synced once a batch, before
its results are yielded. One sync is enough for a batch, because each move is one rename: after a
power failure each entry is where it was or where it was to go.
Fails: NotPermitted at the first entry that this user may not move, and WatcherError if a state's
directory cannot be used; every entry is then where it was or where it was to go. A failure that
concerns one entry is in its MoveResult.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from watcher.claim.holders import holders
from watcher.errors import NotPermitted, WatcherError
from watcher.inspect.list_entries import IN_QUEUE, EntryInfo, by_process
from watcher.inspect.notes_view import stem_of
from watcher.operate.claiming import OperatorClaim, take_for_operator
from watcher.operate.from_archive import FromArchive
from watcher.operate.in_hand import in_hand_words
from watcher.operate.operator import Operator
from watcher.operate.targets import (
    Target,
    Targets,
    fits_queue,
    is_entry,
    keeps_key,
    known_note,
    remembers,
)
from watcher.rules.lifecycle import Move, State, after
from watcher.rules.names import display, in_deferred, text
from watcher.rules.results import NotClaimed
from watcher.settle.put_back import put_back
from watcher.settle.remove_marker import forget_marker
from watcher.spool import notes
from watcher.spool.birth import birth_ns
from watcher.spool.claimed import ClaimOptions
from watcher.spool.dirs import inode_of
from watcher.spool.spool import Spool

BATCH = 1_000  # entries to a sync
_HISTORY = ("attempts", "crashes", "first_failure", "exit_status", "stderr", "next_attempt_ms")
_TAKEN = "the queue has a file of its name"
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


class MoveResult(NamedTuple):
    """The state of one entry after the move, None if it was not moved; and why."""

    entry: EntryInfo
    state: State | None
    why: str = ""


class Moves:
    """One operator's moves in one queue."""

    def __init__(self, spool: Spool, terms: ClaimOptions, by: Operator) -> None:
        self._spool = spool
        self._terms = terms
        self._by = by
        self._targets = Targets(spool)
        self._archive = FromArchive(spool)
        self._touched: set[int] = set()  # descriptors of directories to sync

    def make(self, move: Move, entries: Sequence[EntryInfo]) -> Iterator[MoveResult]:
        """Make the move with each entry and yield the results."""
        for start in range(0, len(entries), BATCH):
            done: list[MoveResult] = []
            failed: WatcherError | None = None
            try:
                for entry in entries[start : start + BATCH]:
                    done.append(self._one(move, entry))  # noqa: PERF401 - kept if one fails
            except WatcherError as error:
                failed = error
            finally:
                self._sync()
                self._spool.journal.flush()  # the reader of the results may be slow
            yield from done
            if failed is not None:
                raise failed

    def preview(self, move: Move, entries: Sequence[EntryInfo]) -> Iterator[MoveResult]:
        """Yield what `make` would do; change nothing, lock nothing."""
        held = holders()
        for entry in entries:
            taken = self._take(entry, self._terms._replace(lock=False))
            if isinstance(taken, NotClaimed):
                yield MoveResult(entry, None, taken.why)
                continue
            pids = [held.get((self._spool.identity[0], part.ino)) for part in taken.claim.parts]
            taken.claim.release()
            if pid := next((pid for pid in pids if pid is not None), None):
                yield MoveResult(entry, None, f"claimed {by_process(pid)}")
            else:
                yield self._planned(move, taken, entry)

    def _planned(self, move: Move, taken: OperatorClaim, entry: EntryInfo) -> MoveResult:
        state = after(taken.state, move)
        if move in (Move.HOLD, Move.DELETE):
            return MoveResult(entry, state)
        if not is_entry(self._spool, taken):
            return self._no_entry(entry)
        if move is Move.RELEASE and taken.schedule is not None:
            return MoveResult(entry, State.DEFERRED)
        if fits_queue(self._spool, taken):
            return MoveResult(entry, state, _missing(taken) or _called(taken))
        if taken.half and not taken.own[0].endswith(b".msg"):
            return MoveResult(entry, None, _TAKEN)
        return MoveResult(entry, State.DEFERRED, _beside(taken))

    def _no_entry(self, entry: EntryInfo) -> MoveResult:
        rules = self._spool.layout.describe()
        return MoveResult(entry, None, f"not an entry's name for {rules}")

    def _sync(self) -> None:
        for directory in self._touched:
            self._spool.disk.sync(directory)
        self._touched.clear()
        self._archive.sync()

    def _take(self, entry: EntryInfo, terms: ClaimOptions) -> OperatorClaim | NotClaimed:
        if entry.lies_in is State.DONE:
            return self._archive.take(entry, terms)
        return take_for_operator(self._spool, entry, terms)

    def _one(self, move: Move, entry: EntryInfo) -> MoveResult:
        taken = self._take(entry, self._terms)
        if isinstance(taken, NotClaimed):
            return MoveResult(entry, None, self._holder(entry) or taken.why)
        try:
            if move is Move.DELETE:
                return self._delete(taken, entry)
            return self._move(move, taken, entry)
        except FileNotFoundError:
            return MoveResult(entry, None, "no longer there")
        except OSError as error:
            if error.errno in _NOT_OURS:
                name = f"{display(self._spool.path)}: {display(entry.files[0])}"
                raise NotPermitted(
                    f"{name}: cannot be moved: {error.strerror}; check owner and mode"
                ) from None
            return MoveResult(entry, None, f"{error.strerror} (errno {error.errno})")
        finally:
            taken.claim.release()

    def _holder(self, entry: EntryInfo) -> str:
        """Say which process has claimed an entry, if any; it may be another program."""
        if entry.lies_in is State.DONE:
            return ""
        if entry.lies_in in (*IN_QUEUE, State.DEFERRED):
            deferred = entry.lies_in is State.DEFERRED
            file = entry.files[0]
            return in_hand_words(self._spool, in_deferred(file) if deferred else file)
        directory = self._spool.make_state_dir(entry.lies_in)
        there = inode_of(entry.files[0], directory)
        pid = holders().get((self._spool.identity[0], there)) if there else None
        return "" if pid is None else f"claimed {by_process(pid)}"

    # -- delete -------------------------------------------------------------------------------

    def _delete(self, taken: OperatorClaim, entry: EntryInfo) -> MoveResult:
        """Unlink the files, message first; in .watcher/ a claimed name cannot change its file."""
        self._record(Move.DELETE, taken)
        for part in taken.claim.parts:
            self._touched.add(taken.directory)
            with contextlib.suppress(FileNotFoundError):
                self._spool.disk.unlink(part.name, taken.directory)
        self._forget_note(taken)
        return MoveResult(entry, after(taken.state, Move.DELETE))

    # -- moves --------------------------------------------------------------------------------

    def _move(self, move: Move, taken: OperatorClaim, entry: EntryInfo) -> MoveResult:
        if not is_entry(self._spool, taken):
            return self._no_entry(entry)
        if taken.state is State.DONE and self._planned(move, taken, entry).state is None:
            return MoveResult(entry, None, _TAKEN)
        with self._archive.out(taken) as here:
            self._record(move, here)
            target = self._transfer(move, here)
        if target is None:
            return MoveResult(entry, None, _TAKEN)
        if taken.state is State.READY and not self._moved_claimed_files(taken, target):
            notes.take_back(self._spool, target.directory, target.note, target.names[0])
            return MoveResult(entry, None, "a newer file took its place")
        went = self._went_to_deferred(move, taken, target)
        why = _beside(taken) if went else _missing(taken) or _called(taken)
        if taken.state is State.READY and self._spool.layout.marker:
            self._sync()  # a power failure must not undo the move, and not the marker's removal
            forget_marker(self._spool, taken.file)
        taken.claim.release()  # at once: a daemon has seen the rename
        self._forget_note(taken)
        return MoveResult(entry, target.state, why)

    def _transfer(self, move: Move, taken: OperatorClaim) -> Target | None:
        """Rename the files to the first target that has all the names free."""
        parts = taken.claim.parts
        lies = [(part.name, taken.directory) for part in parts]
        for target in self._targets.targets_for(move, taken):
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
                continue  # another process took the name: go on from where each file is now
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
            # The message is in the queue already, and a daemon has taken its .db there.

    def _moved_claimed_files(self, taken: OperatorClaim, target: Target) -> bool:
        """Whether the claimed files were moved; a file that replaced one of them goes back."""
        is_claimed = True
        for part, name in zip(taken.claim.parts, target.names, strict=True):
            there = inode_of(name, target.directory)
            if there is not None and there != part.ino:
                put_back(self._spool, name, target.directory, part.queue_name)
                is_claimed = is_claimed and part is not taken.claim.parts[0]
        return is_claimed

    def _went_to_deferred(self, move: Move, taken: OperatorClaim, target: Target) -> bool:
        """Whether the entry is in deferred/ because it could not go to the queue."""
        if target.state is not State.DEFERRED:
            return False
        return move is Move.REQUEUE or taken.schedule is None

    # -- journal and notes --------------------------------------------------------------------

    def _record(self, move: Move, taken: OperatorClaim) -> None:
        part = taken.claim.parts[0]
        detail = f"by {self._by}"
        born = birth_ns(part.fd) or 0
        self._spool.journal.record(taken.state, move, part.ino, part.name, detail, born)

    def _write_note(self, move: Move, taken: OperatorClaim, target: Target) -> None:
        """Write the note at the target; sync it if only the note has the whole name, or more."""
        stem = stem_of(taken.own[0], self._spool.layout)
        note = dict(known_note(self._spool, taken))
        why = f"{_PAST[move]} by {self._by}"
        if move is Move.REQUEUE:
            for key in _HISTORY:
                note.pop(key, None)
            note["why"] = why
        note.setdefault("why", why)
        note |= notes.note_fields(self._spool, stem, target.state, taken.claim.parts, target.names)
        note |= {"by": self._by._asdict(), "move": move.value}
        note["at"] = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        only_here = notes.REMEMBERED in note or not target.names[0].endswith(taken.own[0])
        notes.write(self._spool, target.directory, target.note, note, durable=only_here)

    def _forget_note(self, taken: OperatorClaim) -> None:
        """Remove the note of the moved entry, if it is the entry's note and no other file."""
        files = known_note(self._spool, taken).get("files")
        if not isinstance(files, list) or text(taken.file) not in files:
            return
        notes.remove(self._spool, taken.directory, taken.file)


def _called(taken: OperatorClaim) -> str:
    """Say under which name an archived entry goes, if that is not its file's name there."""
    is_other = taken.state is State.DONE and taken.own[0] != taken.file
    return f"as {display(taken.own[0])}" if is_other else ""


def _missing(taken: OperatorClaim) -> str:
    """Say what an orphan lacks, and what happens if that does not come; "" if nothing."""
    if taken.state is not State.ORPHAN or len(taken.own) > 1:
        return ""
    again = "is missing: an orphan again when it is of age, unless that comes"
    if taken.own[0].endswith(b".db"):
        return f"its message {again}"
    queue = shlex.quote(display(taken.claim.spool.path))
    name = shlex.quote(display(taken.own[0]))
    return (
        f"its .db {again}. To make a whole entry of it then: watcher cat {queue} orphan/{name} |"
        f" watcher enqueue {queue} --meta KEY=VALUE -; and delete it"
    )


def _beside(taken: OperatorClaim) -> str:
    """Say why an entry goes to deferred/, due now, and not to the queue."""
    if taken.claim.spool.layout.marker:
        return "through deferred/, where it needs no marker"
    if taken.number and len(taken.own) > 1:
        return "through deferred/, under its own name"
    if remembers(taken.claim.spool, taken):
        return "through deferred/: its note has what the handler remembers of it"
    if not keeps_key(taken):
        return "through deferred/: its file is a copy, and keeps its key there"
    return "through deferred/: the queue has a newer file of its name"


_PAST = {Move.HOLD: "held", Move.RELEASE: "released", Move.REQUEUE: "requeued"}
