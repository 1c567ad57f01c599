"""Take entries out of an archive: claim, move into the process directory, and from there on.

    ARCHIVE/NAME~1.csv  ->  inflight/PID.RANDOM/NAME.csv  ->  QUEUE/NAME.csv, or deferred/

Each step is one rename. If this process dies between the two, the next recovery moves the file on,
as it does with each file aside; so the entry is never in two places, on any file system, and the
journal's line is written when the file has left the archive.
Guarantees: only regular files with one name are moved (any number with `hard_links`), and nothing
is overwritten. The file keeps its time of birth, and with it the entry its key.
Fails: WatcherError if the archive cannot be used; OSError if the kernel refuses a step: the files
that are aside then go back into the archive.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from watcher.claim.claim import add_part
from watcher.errors import NotPermitted, TryAgain
from watcher.inspect.list_entries import EntryInfo
from watcher.inspect.notes_view import stem_of
from watcher.operate.claiming import OperatorClaim, half_of_pair, not_alone
from watcher.operate.select_archived import archive_of
from watcher.rules.archived_names import queue_name
from watcher.rules.form import Form
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import OURS, display
from watcher.rules.results import NotClaimed, Reason
from watcher.spool import process_dir
from watcher.spool.birth import birth_of
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.dirs import exists, inode_of, stat_or_none
from watcher.spool.spool import Spool

_CUT = "a part of its name was cut in the archive: move it back by hand, under its own name"


class FromArchive:
    """The archive of one queue, for one command. Its folders are open until this object goes."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._folders: dict[bytes, int] = {}  # by day; "" is the archive itself
        self._touched: set[int] = set()  # descriptors of folders to sync

    def __del__(self) -> None:
        """Close the folders."""
        for folder in self._folders.values():
            os.close(folder)

    def take(self, entry: EntryInfo, terms: ClaimOptions) -> OperatorClaim | NotClaimed:
        """Claim an archived entry where it is."""
        spool = self._spool
        own = tuple(filter(None, map(queue_name, entry.files)))
        if len(own) < len(entry.files):
            return NotClaimed(Reason.FOREIGN, _CUT)
        try:
            folder = self._folder(entry.day)
        except OSError as error:
            return NotClaimed(Reason.ERROR, f"its folder cannot be used: {error.strerror}")
        claim = Claim(spool, entry.files[0], stem_of(own[0], spool.layout), terms)
        if half_of_pair(own, spool.layout):
            claim.form = Form.HALF
            if (refused := not_alone(spool, folder, entry.files[0])) is not None:
                return refused
        for file, name in zip(entry.files, own, strict=True):
            refused = add_part(claim, file, folder, name)
            if refused is not None:
                claim.release()
                return refused
        return OperatorClaim(claim, State.DONE, folder, entry.files[0], own, 0, None, {})

    @contextlib.contextmanager
    def out(self, taken: OperatorClaim) -> Iterator[OperatorClaim]:
        """Move a claimed entry into the process directory; what is there at the end goes back.

        An entry that is not of an archive stays where it is.
        """
        if taken.state is not State.DONE:
            yield taken
            return
        place = process_dir.process_dir_for(self._spool, sure=True).fd
        if any(exists(name, place) for name in taken.own):
            raise TryAgain(f"{display(taken.own[0])}: a file of its name is in our own directory")
        message = taken.claim.parts[0]
        # A recovery then knows that the file is complete, whatever the queue has under its name.
        noted = message._replace(name=taken.own[0], directory=None, unstamped=None)
        self._spool.ledger.take(self._spool, noted)
        files = tuple(part.name for part in taken.claim.parts)
        try:
            self._set_aside(taken, place)
            aside = taken._replace(directory=place, file=taken.own[0])
            aside.claim.parts = tuple(
                part._replace(name=name, directory=place, unstamped=None)
                for part, name in zip(taken.claim.parts, taken.own, strict=True)
            )
            yield aside
        finally:
            self._give_back(taken, files, place)
            self._spool.ledger.let_go()

    def sync(self) -> None:
        """Make durable that the files are gone from the archive. The caller has synced the rest."""
        for folder in self._touched:
            self._spool.disk.sync(folder)
        self._touched.clear()

    def _folder(self, day: bytes) -> int:
        """Return the descriptor of the folder of a day; raises WatcherError, or OSError."""
        kept = self._folders.get(day)
        if kept is not None:
            return kept
        options, archive = archive_of(self._spool), self._spool.archive
        assert archive is not None  # noqa: S101 - `archive_of` raises
        folder = archive.open_day(self._spool, day)
        self._folders[day] = folder
        if exists(OURS, folder):
            where = f"{options.option} = {display(options.directory)}"
            raise NotPermitted(f"{where}: it is a queue, too: its files wait for its own handler")
        return folder

    def _set_aside(self, taken: OperatorClaim, place: int) -> None:
        """Rename the files into the process directory; raises FileNotFoundError if one is gone.

        The `.db` of a pair first: if the process dies between the two, the message is still in the
        archive, and the `.db` in orphans/, where it joins the message when the command is repeated.
        A power failure must not change that order, so each rename of a pair is synced.
        """
        spool = self._spool
        self._touched.add(taken.directory)
        for part, name in reversed(list(zip(taken.claim.parts, taken.own, strict=True))):
            try:
                spool.disk.move_aside(part.name, taken.directory, place, name)
            except OSError as error:
                if error.errno == errno.EXDEV and spool.archive is not None:
                    raise spool.archive.crossing() from None
                raise
            if inode_of(name, place) != part.ino:  # another file had its name by then
                raise FileNotFoundError
            if len(taken.own) > 1:
                spool.disk.sync(place)
                spool.disk.sync(taken.directory)

    def _give_back(self, taken: OperatorClaim, files: tuple[bytes, ...], place: int) -> None:
        """Move what is still aside back into the archive; what cannot go stays for a recovery."""
        spool = self._spool
        for file, name in zip(files, taken.own, strict=True):
            there = stat_or_none(name, place)
            if there is None:
                continue
            with contextlib.suppress(FileExistsError):
                born = birth_of(name, place) or 0
                spool.disk.archive(name, place, file, taken.directory)
                if name == taken.own[0]:
                    why = "back in the archive"
                    spool.journal.record(State.CLAIMED, Move.FINISH, there.st_ino, name, why, born)
