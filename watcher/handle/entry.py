"""The argument of a handler: one claimed entry, decoded when an attribute is first read.

Guarantees: all reads go through the claim's descriptors, so a handler sees the file that was
claimed, even if another file has its name by now. Nothing found in a file is executed (the
decoders are in `watcher.mailman`). After `end` no thread reads through the descriptors: their
numbers may belong to another entry by then.
Fails: `message` and `metadata` raise Undecodable if the contents are damaged or larger than
`limit`, OSError if the disk cannot be read, and EntryEnded after `end`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading

from watcher import mailman
from watcher.errors import EntryEnded, Undecodable
from watcher.rules.form import Form
from watcher.rules.names import Layout
from watcher.spool.notes import read_note, remembered_in
from watcher.spool.part import WHOLE, Part, digest_into, identity_of, read_part


class Entry:
    """One claimed entry. `parts[0]` is the message half; a legacy pair has its `.db` as `parts[1]`.

    Attributes
    ----------
    queue:    the queue's name
    attempt:  1 for the first time a handler sees this entry
    crashes:  how many processes died while they handled it
    damage:   why the contents could not be decoded, after a read that failed; else None
    lent:     whether another process has the claim's descriptors too
    form:     which files it has (`Form`)
    layout:   how the name of its note is read; None: it has no note
    process:  the child process that handles it, while one does; None: a function in this process
    is_unique_name: whether its writer made up the name and never uses it again
    """

    __slots__ = (
        "_digest",
        "_directory",
        "_ended",
        "_given",
        "_identity",
        "_key",
        "_key_name",
        "_lock",
        "_message",
        "_metadata",
        "_stem",
        "attempt",
        "crashes",
        "damage",
        "form",
        "is_unique_name",
        "layout",
        "lent",
        "limit",
        "parts",
        "process",
        "queue",
    )

    def __init__(  # noqa: PLR0913 - a record: each is one fact of the entry, all keyword-only
        self,
        *,
        queue: str,
        name: bytes,
        directory: bytes,
        parts: tuple[Part, ...],
        form: Form,
        attempt: int = 1,
        crashes: int = 0,
        limit: int = mailman.MAX_SIZE,
        is_unique_name: bool = True,
        identity: int = 0,
        key_name: bytes | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.queue = queue
        self._stem = name
        self._key_name = name if key_name is None else key_name
        self._directory = directory
        self.parts = parts
        self.form = form
        self.attempt = attempt
        self.crashes = crashes
        self.limit = limit
        self._lock = threading.RLock()  # for reads through the descriptors, and for what they found
        self._ended = False
        self.lent = False
        self.layout = layout
        self.process: int | None = None
        self._message: bytes | None = None
        self._digest: bytes | None = None  # of a message whose bytes were given up
        self._metadata: dict[str, object] | None = {} if form is Form.RAW else None
        self.is_unique_name = is_unique_name
        self._identity = identity
        self._key: str | None = None
        self._given: dict[str, object] | None = None  # what an earlier attempt remembered
        self.damage: str | None = None

    def describe(
        self,
        *,
        queue: str,
        key: str,
        metadata: dict[str, object],
        attempt: int,
        crashes: int,
        remembered: dict[str, object],
    ) -> None:
        """Say what the file does not: it is a copy of a message, which has the key and the rest.

        Called before a handler has the entry.
        """
        self.queue, self.attempt, self.crashes = queue, attempt, crashes
        self._key, self._metadata, self._given = key, metadata, remembered

    @property
    def is_described(self) -> bool:
        """Whether `describe` was called: the file says neither the key nor the metadata."""
        return self._given is not None

    @property
    def name(self) -> str:
        """The entry's name (undecodable bytes as surrogate escapes: os.fsencode undoes them)."""
        return os.fsdecode(self._stem)

    @property
    def key_name(self) -> bytes:
        """The part of the name that goes into the key (`Layout.key_name`)."""
        return self._key_name

    @property
    def path(self) -> str:
        """The absolute path of the message's file.

        A handler that reads it may open the file: the key is computed now, for `is_as_read`.
        """
        if not (self.is_unique_name or self.lent or self._given is not None):
            with self._lock, contextlib.suppress(OSError, EntryEnded):
                if self._message is None:
                    _ = self.key
        return os.fsdecode(os.path.join(self._directory, self.parts[0].name))

    @property
    def message(self) -> bytes:
        """The message's bytes; raises Undecodable, OSError, or EntryEnded after the handler."""
        with self._lock:
            return self._decode()[0] if self._message is None else self._message

    def give_up_message(self) -> None:
        """Keep a digest of the message in place of its bytes: the handler needs them no more."""
        with self._lock:
            if self._message is not None:
                self._digest, self._message = hashlib.sha256(self._message).digest(), None

    @property
    def metadata(self) -> dict[str, object]:
        """The writer's metadata (empty for raw); raises as `message`."""
        with self._lock:
            return self._decode()[1] if self._metadata is None else self._metadata

    @property
    def remembered(self) -> dict[str, object]:
        """What an earlier attempt remembered (`HandlerResult.remembered`); {} if nothing.

        It is read from the note beside a deferred entry, at each access.
        """
        if self._given is not None:
            return self._given
        message = self.parts[0]
        if self.layout is None or message.directory is None:
            return {}
        with self._lock:
            self._check_not_ended()
            return remembered_in(read_note(message.directory, message.name, self.layout))

    @property
    def key(self) -> str:
        """The idempotency key, 64 hex digits, the same for every attempt in every process.

        For a unique name it is the SHA-256 of the name and of the message file's bytes. Any other
        name may come again, even with the same bytes and mtime (`cp -p`, `rsync -t`), so the key
        includes the commit's identity too. It does not include the `.db`, which another runner may
        rewrite. Bytes written to the file after an attempt change it: they were not handled yet.
        Raises OSError, or EntryEnded after the handler.
        """
        with self._lock:
            if self._key is None:
                self._check_not_ended()
                self._key = self._compute_key()
            return self._key

    @property
    def known_key(self) -> str:
        """The key if it was asked for before, else "": no file is read."""
        return self._key or ""

    def _compute_key(self) -> str:
        if self.is_unique_name:
            hashed = hashlib.sha256(self._key_name + b"\0")
            digest_into(hashed.update, self.parts[0])
            return hashed.hexdigest()
        bytes_of = hashlib.sha256()
        digest_into(bytes_of.update, self.parts[0])
        head = b"%s\0%x\0" % (self._key_name, self.identity)
        return hashlib.sha256(head + bytes_of.digest()).hexdigest()

    def is_as_read(self) -> bool | None:
        """Whether the message's file still holds what was read of it; raises OSError.

        None if that is not known: neither key, message nor path was read; or the message was not
        read, and the file is so large that the key covers only samples of it; or the file is a copy
        (`describe`), which has no writer.
        """
        if self._given is not None:
            return None
        with self._lock:
            if self._key is not None and self._compute_key() != self._key:
                return False
            if self._message is None and self._digest is None:  # else it may be older than the key
                return True if self._key is not None and self.parts[0].size <= WHOLE else None
            try:
                message, metadata = self._read()
            except Undecodable:
                return False
            if self._message is None:
                message, was = hashlib.sha256(message).digest(), self._digest
            else:
                was = self._message
            return message == was and metadata == self._metadata

    @property
    def identity(self) -> int:
        """A number that differs between two commits of one name; 0 for a unique name.

        It is the file's birth time, which neither a rename nor a new mtime changes; on a file
        system without birth times, the mtime. A deferred entry has it in its stamp.
        """
        with self._lock:
            if not self._identity and not self.is_unique_name:
                self._check_not_ended()
                self._identity = identity_of(self.parts[0])
            return self._identity

    @property
    def plain(self) -> bool:
        """Whether the message's file is the message, byte for byte (raw, or a `.msg` half)."""
        return self.form in (Form.RAW, Form.PAIR)

    def end(self) -> None:
        """Forbid further reads through the claim's descriptors: the handler has returned.

        Waits for a thread of the handler that is reading.
        """
        with self._lock:
            self._ended = True

    def forbid(self) -> None:
        """Forbid reads in a forked child, whose copies of the descriptors are gone."""
        self._lock = threading.RLock()  # another thread of the parent may have it
        self._ended = True

    def _check_not_ended(self) -> None:
        if self._ended:
            raise EntryEnded(
                f"{self.name}: read after its handler returned; read what is needed before"
            )

    def _decode(self) -> mailman.Contents:
        self._check_not_ended()
        try:
            decoded = self._read()
        except Undecodable as error:
            self.damage = str(error)
            raise
        if self._given is not None and self._metadata is not None:
            decoded = mailman.Contents(decoded.message, self._metadata)
        self._message, self._metadata = decoded
        return decoded

    def _read(self) -> mailman.Contents:
        head = read_part(self.parts[0], self.limit)
        match self.form:
            case Form.RAW:
                return mailman.Contents(head, {})
            case Form.PCK:
                return mailman.read_pck(head)
            case Form.PAIR | Form.PCK_DB | Form.HALF:
                metadata = mailman.read_db(read_part(self.parts[1], self.limit))
                message = mailman.read_pck_message(head) if self.form is Form.PCK_DB else head
                return mailman.Contents(message, metadata)
