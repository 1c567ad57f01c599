"""`watcher cat`: the contents of one entry."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from watcher.cli import parameters
from watcher.errors import Undecodable, Usage
from watcher.rules.form import Form

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue
    from watcher.handle.entry import Entry
    from watcher.inspect.find_entry import OpenEntry
    from watcher.spool.part import Part


@click.command("cat")
@click.argument("queue_dir")
@click.argument("entry")
@parameters.queue_options
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
    """Print an entry's message, in any state; ENTRY is NAME, its beginning, or STATE/NAME.

    For a pair, --raw prints the message's file; give the file name NAME.db for the other.
    """
    from watcher.inspect.find_entry import find, metadata as metadata_of
    from watcher.rules.names import display

    if raw and metadata:
        raise Usage("--raw and --metadata: one or the other")
    if as_json and not metadata:
        raise Usage("--json: goes with --metadata only")
    settings = parameters.settings_for(queue_dir, config, flags)
    found = find(parameters.open_spool(settings), os.fsencode(entry), settings.max_size)
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


def _print_message(found: OpenEntry, settings: Queue) -> None:
    if found.form is Form.HALF:
        raise Usage(f"{settings.path}: this is metadata only: cat --metadata shows it")
    entry = _entry(found, settings)
    if entry.plain:
        _copy(found.parts[0])
    else:
        sys.stdout.buffer.write(entry.message)


def _print_metadata(values: dict[str, object], as_json: bool) -> None:
    from watcher import mailman
    from watcher.errors import one_line

    line = mailman.to_json(values)  # raises if the values are too large to be written
    if as_json:
        click.echo(line)
        return
    for key, value in values.items():
        shown = mailman.to_json({"": value}).removeprefix('{"": ').removesuffix("}")
        click.echo(f"{one_line(key)}: {shown}")


def _entry(found: OpenEntry, settings: Queue) -> Entry:
    from watcher.handle.entry import Entry

    return Entry(
        queue=settings.name,
        name=found.parts[0].name,
        directory=os.fsencode(settings.path),
        parts=found.parts,
        form=found.form,
        limit=settings.max_size,
    )


def _copy(part: Part) -> None:
    """Copy a file of any size to standard output, up to its size when it was opened."""
    from watcher.spool.part import CHUNK

    offset = 0
    while offset < part.size:
        chunk = os.pread(part.fd, min(CHUNK, part.size - offset), offset)
        if not chunk:
            return
        sys.stdout.buffer.write(chunk)
        offset += len(chunk)
