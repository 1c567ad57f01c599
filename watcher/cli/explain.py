"""`watcher explain`: the verdict on a file, and each piece of evidence."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.cli import options
from watcher.errors import NoSuch, one_line

if TYPE_CHECKING:
    from watcher.inspect.explanation import Explanation


@click.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@options.queue_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(paths: tuple[str, ...], config: str | None, as_json: bool, **flags: object) -> None:
    """Say what a daemon or a sweep would do with each file now, and why. Nothing is touched.

    A PATH that is not there keeps none of the others from being explained.
    """
    from watcher.claim.lease import ignore_sigio
    from watcher.spool.layout import display

    ignore_sigio()
    missing: list[str] = []
    for path in paths:
        full = os.path.abspath(os.fsencode(path))
        try:
            found = _explain(full, config, flags)
        except NoSuch as error:
            missing.append(str(error))
            continue
        if as_json:
            _show_json(display(full), found)
        else:
            _show_text(display(full), found)
    if missing:
        raise NoSuch("; ".join(missing))


def _explain(path: bytes, config: str | None, flags: dict[str, object]) -> Explanation:
    from watcher.inspect.explanation import explain
    from watcher.inspect.ours import queue_of
    from watcher.spool.layout import Layout

    directory = queue_of(path) or os.path.dirname(path) or b"/"
    settings = options.settings_for(os.fsdecode(directory), config, flags)
    layout = Layout(os.fsencode(settings.suffix), settings.format == "raw", settings.legacy)
    return explain(path, layout, options.terms_for(settings))


def _show_json(path: str, found: Explanation) -> None:
    import json

    record: dict[str, object] = {"path": path, "verdict": found.verdict, **dict(found.facts)}
    if found.note:
        record["note"] = found.note
    click.echo(json.dumps(record))


def _show_text(path: str, found: Explanation) -> None:
    click.echo(f"{path}\n  {'verdict':<12} {one_line(found.verdict)}")
    for about, what in found.facts:
        click.echo(f"  {about:<12} {one_line(what)}")
    for key, value in found.note.items():
        click.echo(f"  {'note':<12} {one_line(f'{key}: ' + ' '.join(str(value).split()))}")
