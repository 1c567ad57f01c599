"""`watcher enqueue`: commit messages to a queue, durably."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import click

from watcher.errors import NoSuch, TryAgain, Usage, WatcherError
from watcher.mailman import MAX_SIZE


class NotPrinted(WatcherError):
    """The entry is committed, but its name cannot be printed."""

    exit_code = os.EX_IOERR  # not 75: a second try would commit it twice


@click.command("enqueue")
@click.argument("queue_dir")
@click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE...|-]")
@click.option("--meta", "pairs", multiple=True, metavar="KEY=VALUE", help="Metadata; repeatable.")
@click.option("--config", metavar="FILE", help="Configuration (or WATCHER_CONFIG).")
@click.option("--format", type=click.Choice(["mailman", "raw"]), help="What entries are [mailman].")
@click.option("--suffix", default=None, help="With --format raw: the files' ending, e.g. .csv.")
@click.option(
    "--match",
    multiple=True,
    metavar="PATTERN",
    callback=lambda _context, _option, given: list(given) or None,
    help="With --format raw: as the daemon has it; the first '*ENDING' is the files' ending.",
)
@click.option("--marker", metavar="TEMPLATE", help="With --format raw: give each entry a marker.")
def command(
    queue_dir: str,
    files: tuple[str, ...],
    pairs: tuple[str, ...],
    config: str | None,
    **flags: object,
) -> None:
    """Commit each FILE (or standard input) as an entry; print the names.

    When a name is printed, the entry is durable. Many FILEs are committed in
    groups that share their syncs, and their names are printed group by group.
    """
    from watcher.commit_many import in_groups

    queue_dir, style, suffix, marker, max_size = _form(queue_dir, config, flags)
    if pairs and style == "raw":
        raise Usage("--meta: a raw entry has no metadata")
    if files.count("-") > 1:
        raise Usage("-: standard input can be read once only")
    metadata = dict(_pair(text) for text in pairs)
    raw = style == "raw"
    messages = _messages(files or ("-",), None if raw else metadata, max_size)
    try:
        for names in in_groups(
            queue_dir, messages, raw=raw, suffix=suffix, max_size=max_size, marker=marker
        ):
            for number, name in enumerate(names):
                _print(name, names[number:])
    except MemoryError:
        raise TryAgain(
            "not enough memory for an entry of this size: nothing was put here"
        ) from None


_ENDING = {"mailman": ".pck", "raw": ""}
_VARIABLES = tuple(f"WATCHER_{name}" for name in ("CONFIG", "FORMAT", "SUFFIX", "MATCH", "MARKER"))


def _form(
    queue_dir: str, config: str | None, flags: Mapping[str, object]
) -> tuple[str, str, str, str, int]:
    """Return the directory, and format, ending, marker and largest size as its daemon knows them.

    `queue_dir` may also be the name of a queue of the configuration.

    If only the queue itself or flags can give them, the configuration's modules are not imported:
    that would take longer than a commit.
    """
    flagged = flags["match"] or flags["marker"] is not None
    told = config is not None or flagged or any(name in os.environ for name in _VARIABLES)
    if not told and (plain := _plain_form(queue_dir, flags)) is not None:
        return queue_dir, *plain, MAX_SIZE
    from watcher.cli import parameters

    settings = parameters.settings_for(queue_dir, config, flags, (), "commit")
    ending = settings.ending()
    return settings.path, settings.format, ending, settings.marker, settings.max_size


def _plain_form(queue_dir: str, flags: Mapping[str, object]) -> tuple[str, str, str] | None:
    """Return format, ending and marker as queue or flags say; None if they contradict each other.

    A writer need not be able to read what the queue says of itself: then the flags count.
    """
    from watcher.rules.patterns import ending_for
    from watcher.spool.queue_file import NotBelieved, read

    style, suffix = flags["format"], flags["suffix"]
    try:
        record = read(os.fsencode(queue_dir))
    except NotBelieved:
        return None
    if record is None:
        if suffix is not None and style != "raw":
            raise Usage("--suffix goes with --format raw; Mailman's entries end in .pck")
        style = str(style or "mailman")
        return style, str(suffix or _ENDING[style]), ""
    if style not in {None, record.format} or suffix is not None:
        return None
    if record.format == "mailman":
        return "mailman", ".pck", ""
    ending = ending_for(record.match, record.ignore, ignore_case=record.ignore_case)
    return None if ending is None else ("raw", ending, record.marker)


def _print(name: str, not_printed: list[str]) -> None:
    """Print a committed entry's name; if the pipe has no reader, the next is still committed."""
    try:
        click.echo(name)
    except OSError as error:
        if error.errno != errno.EPIPE:
            what = "the entry {} is" if len(not_printed) == 1 else "the entries {} are"
            raise NotPrinted(
                f"{what.format(', '.join(not_printed))} committed, but this cannot be printed:"
                f" {error.strerror}; later ones are not"
            ) from None


class _File:
    """A file that is read in pieces; a read error names the file."""

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self._name = name
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Return the next bytes; raises NoSuch."""
        try:
            return self._stream.read(size)
        except OSError as error:
            raise NoSuch(f"{self._name}: cannot be read: {error.strerror}") from None


def _messages(
    files: Sequence[str], metadata: Mapping[str, object] | None, limit: int
) -> Iterator[tuple[bytes | _File, Mapping[str, object] | None]]:
    """Yield each file with its metadata.

    In the raw format, without metadata, the commit reads the file in pieces. In Mailman's format
    the file is read whole, up to `limit` bytes: a queue's daemon reads no more.
    """
    for name in files:
        with _opened(name) as stream:
            file = _File(name, stream)
            yield (file, None) if metadata is None else (_whole(name, file, limit), metadata)


def _whole(name: str, file: _File, limit: int) -> bytes:
    pieces, length = [], 0
    while piece := file.read(1 << 20):
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            raise Usage(
                f"{name}: more than the {limit} bytes that the queue's daemon reads (max_size);"
                " only --format raw has no limit"
            )
    return b"".join(pieces)


def _opened(name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if name == "-":
        if sys.stdin is None:
            raise Usage("standard input is closed; name a FILE, or give it something to read")
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb", buffering=0)
    except OSError as error:
        raise NoSuch(f"{name}: cannot be read: {error.strerror}") from None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Usage(f"--meta {text!r}: expected KEY=VALUE")
    return key, value
