"""The settings of one queue, as everything below the commands gets them: one frozen record.

Guarantees: what follows from several options (the layout, where the state directory lies, what a
claim may do) has one home here.
Fails: BadConfiguration, where a method says so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from watcher.errors import BadConfiguration
from watcher.handle.handler_settings import HandlerSettings
from watcher.jetstream.server_settings import ServerSettings
from watcher.rules.journal_keep import DEFAULT_SIZE
from watcher.rules.path_pattern import PathPattern, directory_queue
from watcher.rules.patterns import DEFAULT_IGNORE, compiled, ending_for, without
from watcher.rules.retry import Policy

if TYPE_CHECKING:
    from watcher.handle.handler import Handler
    from watcher.rules.age import Ages
    from watcher.rules.archived_names import ArchiveOptions
    from watcher.rules.journal_keep import Keep
    from watcher.rules.names import Layout
    from watcher.spool.claimed import ClaimOptions
    from watcher.spool.state_home import Outside

EVERY_NAME = ("*",)


class MessageSource(msgspec.Struct, frozen=True):
    """The stream whose messages have their copies in the directory of a queue."""

    server: ServerSettings
    stream: str


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one queue. Times in seconds, sizes in bytes."""

    name: str
    path: str  # with `many`: a pattern, and each directory that matches is a queue (`expand`)
    many: bool = False
    template: str = ""  # the queue whose pattern this directory matches
    below: str = ""  # the part of `path` that matches it
    handler: HandlerSettings | None = None
    legacy: bool = False
    format: str = "mailman"
    suffix: str = ".pck"
    match: tuple[str, ...] = EVERY_NAME
    ignore: tuple[str, ...] = DEFAULT_IGNORE
    ignore_case: bool = False
    marker: str = ""
    companions: tuple[str, ...] = ()
    grace_age: float = 300.0
    sweep_every: float = 60.0
    canary: float = 60.0  # 0: off
    concurrency: int = 1
    exclusive: bool = False
    warn_after: float = 600.0  # 0: never
    breaker: int = 20  # 0: off
    retry: Policy = Policy()
    source: str = "auto"
    writers: str = "any"
    settle: float = 0.0  # 0: off
    hard_links: bool = False
    max_size: int = 256 << 20
    capped: bool = False  # whether max_size was set: without it a raw entry may be larger
    state_dir: str = ""  # with `template`: that of each directory lies below it
    journal: bool = True
    journal_dir: str = ""  # with `template`: that of each directory lies below it
    journal_keep: str = DEFAULT_SIZE
    archive: str | None = None  # relative: to the queue directory
    archive_dated: bool = False
    archive_for: float | None = None
    messages: MessageSource | None = None  # None: writers put the entries there
    origin: str = ""  # where the settings came from, for messages

    @property
    def stream(self) -> str:
        """The stream whose messages have their copies in the directory; "" if writers fill it."""
        return self.messages.stream if self.messages is not None else ""

    def of_directory(self, path: str, below: str) -> Queue:
        """Return the queue of one directory that this pattern matches; `below` is its part."""
        return msgspec.structs.replace(
            self,
            name=directory_queue(self.name, below),
            path=path,
            many=False,
            template=self.name,
            below=below,
        )

    @property
    def outside(self) -> Outside | None:
        """Where the state directory lies if it is not in the queue; None: it is there."""
        return self._outside(self.state_dir)

    def _outside(self, path: str) -> Outside | None:
        from watcher.spool.state_home import Outside

        if not path:
            return None
        base, below = (path, self.below) if self.template else os.path.split(path)
        return Outside(os.fsencode(base), os.fsencode(below))

    @property
    def journal_outside(self) -> Outside | None:
        """Where the journal lies if it is not in `.watcher`; None: it is there."""
        return self._outside(self.journal_dir)

    @property
    def kept(self) -> Keep:
        """How much of the journal is kept, and how long."""
        from watcher.rules.journal_keep import parse

        return parse(self.journal_keep)

    @property
    def place(self) -> str:
        """The directory that must be there: the queue's, or the one above those that match."""
        return PathPattern.parse(self.path).root if self.many else self.path

    @property
    def largest(self) -> int | None:
        """How large an entry may be, whether it is read into memory or not; None: no limit."""
        return self.max_size if self.capped or self.format != "raw" else None

    @property
    def archived(self) -> ArchiveOptions | None:
        """Where handled entries go; None: they are removed."""
        if self.archive is None:
            return None
        from watcher.rules.archived_names import ArchiveOptions

        # An absolute path inside the queue is a relative one: other users may write there.
        path = os.path.normpath(self.archive)
        inside = os.path.join(self.path, "")
        path = path.removeprefix(inside) if path.startswith(inside) else path
        return ArchiveOptions(os.fsencode(path), self.archive_dated, self.archive_for)

    @property
    def target(self) -> bytes | None:
        """Where its handler has the files of done entries moved to; None: nowhere."""
        directory = None if self.handler is None else self.handler.moves_to()
        return None if directory is None else os.fsencode(directory)

    @property
    def layout(self) -> Layout:
        """How the names of the queue's files are read."""
        from watcher.rules.names import Layout

        suffix = os.fsencode(self.suffix)
        if self.format != "raw":
            return Layout(suffix, legacy=self.legacy, hard_links=self.hard_links)
        match = (
            None
            if self.match == EVERY_NAME
            else compiled(self.match, ignore_case=self.ignore_case, numbered=True)
        )
        ignore = compiled(self.ignored, ignore_case=self.ignore_case) if self.ignored else None
        return Layout(
            suffix,
            raw=True,
            hard_links=self.hard_links,
            match=match,
            ignore=ignore,
            marker=os.fsencode(self.marker),
            companions=tuple(map(os.fsencode, self.companions)),
        )

    @property
    def ignored(self) -> tuple[str, ...]:
        """The patterns of `ignore`; the default ones without those that `match` contradicts."""
        if self.ignore != DEFAULT_IGNORE:
            return self.ignore
        return without(DEFAULT_IGNORE, (*self.match, f"*{self.suffix}"))

    def ending(self) -> str:
        """Return the ending of the files that `enqueue` makes; raises BadConfiguration."""
        if self.format != "raw" or self.match == EVERY_NAME:
            return self.suffix
        ending = ending_for(self.match, self.ignored, ignore_case=self.ignore_case)
        if ending is not None:
            return ending
        raise BadConfiguration(
            f"{self.origin or 'enqueue: '}match: none of its patterns is an ending such as"
            " '*.csv', which a new name could have; say --suffix"
        )

    def claim_options(self, ages: Ages) -> ClaimOptions:
        """Return how the queue's entries are claimed; `ages` are those of the caller's clock."""
        from watcher.spool.claimed import ClaimOptions

        return ClaimOptions(
            self.grace_age,
            ages,
            self.max_size,
            largest=self.largest,
            renames=self.writers == "rename",
            settle=self.settle,
        )

    def load_handler(self) -> Handler | None:
        """Return the queue's handler, None if it has none; raises BadConfiguration."""
        if self.handler is None:
            return None
        try:
            return self.handler.load()
        except BadConfiguration as error:
            raise BadConfiguration(f"{self.origin}{error}") from None
