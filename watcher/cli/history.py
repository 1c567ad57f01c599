"""`watcher history`: what became of an entry, step by step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.cli import parameters

if TYPE_CHECKING:
    from watcher.inspect.entry_history import EntryHistory


@click.command("history")
@click.argument("queue_dir")
@click.argument("entry")
@parameters.queue_options
@click.option("--json", "as_json", is_flag=True, help="One object.")
def command(queue_dir: str, entry: str, config: str | None, as_json: bool, **flags: object) -> None:
    """Print every step of an entry, also of one that is done or gone, and where it is now.

    ENTRY is a name as `list`, the log or a file has it, or the beginning of one. The steps are
    those of the journal: when, which attempt, how long it took, why, which process on which host.
    If the name was used several times, each entry is told from its commit to its end. Nothing is
    changed. Exit status: 66 if neither the journal nor the queue has the name.
    """
    from watcher.inspect.entry_history import history

    settings = parameters.settings_for(queue_dir, config, flags)
    spool = parameters.open_spool(settings)
    found = history(spool, os.fsencode(entry), settings.max_size)
    if as_json:
        _json(found)
    else:
        _text(found)


def _text(found: EntryHistory) -> None:
    from watcher.errors import one_line
    from watcher.inspect.history_text import (
        local_time,
        outcome,
        step_text,
        taken_text,
        written_by,
    )
    from watcher.rules.names import display

    many = len(found.lives) > 1
    click.echo(display(found.name))
    for number, each in enumerate(found.lives, 1):
        if many:
            click.echo(f"the {number}. of {len(found.lives)} entries of this name:")
        life = each.life
        if life is not None and life.committed is not None:
            click.echo(f"  {local_time(life.committed)}  committed")
        for line, host in () if life is None else life.steps:
            words = one_line(f"{step_text(line)}; {written_by(line, host)}")
            click.echo(f"  {local_time(line.time)}  {words}")
        click.echo(one_line(outcome(life, None if each.here is None else each.here.info)))
    for written in found.taken:
        click.echo(one_line(taken_text(written.line)))
    for remark in found.remarks:
        click.echo(f"({remark})")


def _json(found: EntryHistory) -> None:
    import json

    from watcher.inspect.history_json import record

    click.echo(json.dumps(record(found)))
