"""`watcher cat`: what is in one entry."""

from __future__ import annotations

import os
import sys

import click

from watcher.cli import options
from watcher.errors import Usage


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
    """Print an entry's message; ENTRY is NAME, a file name, or STATE/NAME as in dead/NAME."""
    from watcher import contents
    from watcher.entry import Entry, read_part
    from watcher.inspect.lookup import find
    from watcher.spool.layout import display

    if raw and metadata:
        raise Usage("--raw and --metadata: one or the other")
    settings = options.settings_for(queue_dir, config, flags)
    spool = options.open_spool(settings)
    found = find(spool, os.fsencode(entry))
    if raw:
        sys.stdout.buffer.write(read_part(found.parts[0], settings.max_size))
        return
    if found.kind == "half":
        if not metadata:
            raise Usage(f"{entry}: only the metadata half is there: cat --metadata shows it")
        values = contents.read_db(read_part(found.parts[0], settings.max_size))
    else:
        name = spool.layout.stem(found.parts[0].name)
        decoded = Entry(
            queue=settings.name,
            name=name,
            directory=spool.path,
            parts=found.parts,
            kind=found.kind,
            limit=settings.max_size,
        )
        if not metadata:
            sys.stdout.buffer.write(decoded.message)
            return
        values = decoded.metadata
    if as_json:
        click.echo(contents.to_json(values))
        return
    for key, value in values.items():
        click.echo(f"{display(os.fsencode(key))}: {contents.to_json({'': value})[5:-1]}")
