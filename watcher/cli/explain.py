"""`watcher explain`: the verdict on a file, and each piece of evidence."""

from __future__ import annotations

import os

import click

from watcher.cli import options


@click.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@options.queue_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(paths: tuple[str, ...], config: str | None, as_json: bool, **flags: object) -> None:
    """Say what a sweep would do with each file now, and why."""
    import json

    from watcher.claim.lease import ignore_sigio
    from watcher.inspect.explanation import explain
    from watcher.spool.layout import OURS, Layout, display

    ignore_sigio()
    for path in paths:
        full = os.path.abspath(os.fsencode(path))
        queue = full.split(b"/" + OURS + b"/")[0] if b"/" + OURS + b"/" in full else None
        directory = queue or os.path.dirname(full) or b"/"
        settings = options.settings_for(os.fsdecode(directory), config, flags)
        layout = Layout(os.fsencode(settings.suffix), settings.format == "raw", settings.legacy)
        found = explain(full, layout, options.terms_for(settings))
        if as_json:
            record = {"path": display(full), "verdict": found.verdict, **dict(found.facts)}
            click.echo(json.dumps(record))
        else:
            click.echo(f"{display(full)}\n  verdict      {found.verdict}")
            for about, what in found.facts:
                click.echo(f"  {about:<12} {what}")
