"""`watcher cat`: what is in one entry."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from watcher.cli import options
from watcher.errors import Undecodable, Usage

if TYPE_CHECKING:
    from watcher.config import Queue
    from watcher.entry import Entry, Part
    from watcher.inspect.lookup import Found


@click.command("cat")
@click.argument("queue_dir")
@click.argument("entry")
@options.queue_options
@click.option("--metadata", is_flag=True, help="The metadata instead of the message.")
@click.option("--raw", is_flag=True, help="The entry's file as it is, not decoded.")
@click.option("--json", "as_json", is_flag=True, help="With --metadata: one JSON object.")
def command(
    queue_dir: str,
    entry: str,
    config: str | None,
    metadata: bool,
    raw: bool,
    as_json: bool,
    **flags: object,
) -> None:
    """Print an entry's message, in any state; ENTRY is NAME, a file name, or STATE/NAME.

    Of a pair --raw prints the message's file; ask for NAME.db by its file name.
    """
    from watcher.inspect.lookup import find, metadata as metadata_of
    from watcher.spool.layout import display

    if raw and metadata:
        raise Usage("--raw and --metadata: one or the other")
    if as_json and not metadata:
        raise Usage("--json: goes with --metadata only")
    settings = options.settings_for(queue_dir, config, flags)
    found = find(options.open_spool(settings), os.fsencode(entry), settings.max_size)
    try:
        if raw:
            _copy(found.parts[0])
        elif metadata:
            _print_metadata(metadata_of(found, settings.max_size), as_json)
        else:
            _print_message(found, settings)
    except Undecodable as error:
        raise Undecodable(f"{display(found.parts[0].name)}: {error}") from None
    finally:
        found.close()


def _print_message(found: Found, settings: Queue) -> None:
    if found.kind == "half":
        raise Usage(f"{settings.path}: this is metadata only: cat --metadata shows it")
    entry = _entry(found, settings)
    if entry.plain:
        _copy(found.parts[0])
    else:
        sys.stdout.buffer.write(entry.message)


def _print_metadata(values: dict[str, object], as_json: bool) -> None:
    from watcher import contents
    from watcher.errors import one_line

    if as_json:
        click.echo(contents.to_json(values))
        return
    for key, value in values.items():
        shown = contents.to_json({"": value}).removeprefix('{"": ').removesuffix("}")
        click.echo(f"{one_line(key)}: {shown}")


def _entry(found: Found, settings: Queue) -> Entry:
    from watcher.entry import Entry

    return Entry(
        queue=settings.name,
        name=found.parts[0].name,
        directory=os.fsencode(settings.path),
        parts=found.parts,
        kind=found.kind,
        limit=settings.max_size,
    )


def _copy(part: Part) -> None:
    """Copy a file as it is, of any size, as far as it reached when it was opened."""
    from watcher.entry import CHUNK

    offset = 0
    while offset < part.size:
        chunk = os.pread(part.fd, min(CHUNK, part.size - offset), offset)
        if not chunk:
            return
        sys.stdout.buffer.write(chunk)
        offset += len(chunk)
