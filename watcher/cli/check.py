"""`watcher check`: what a directory and this machine can do, by trying."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watcher.config import Queue
    from watcher.inspect.trial import Check


@click.command("check")
@click.argument("queue_dir", required=False)
@options.queue_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(queue_dir: str | None, config: str | None, as_json: bool, **flags: object) -> int:
    """Check a queue directory, or every queue of the configuration, and the machine's limits.

    Makes `.watcher/` if it is not there, to try things in. Exit status: 0 if nothing is bad;
    77 if a permission is, else 69.
    """
    from watcher.claim.lease import ignore_sigio
    from watcher.inspect.trial import BAD, check_directory, check_machine

    ignore_sigio()
    bad = set()
    places = _queues(queue_dir, config, flags)
    opened = [(settings, options.open_spool(settings)) for settings in places]
    groups: list[tuple[str, Iterable[Check]]] = [("this machine", check_machine())]
    groups += [
        (settings.path, check_directory(spool, settings.grace_age)) for settings, spool in opened
    ]
    for where, checks in groups:
        if not as_json:
            click.echo(where)
        for check in checks:
            _show(where, check, as_json)
            if check.grade == BAD:
                bad.add(check.about)
    if not bad:
        return os.EX_OK
    return os.EX_NOPERM if "permission" in bad else os.EX_UNAVAILABLE


def _queues(queue_dir: str | None, config: str | None, flags: dict[str, object]) -> list[Queue]:
    if queue_dir is not None:
        return [options.settings_for(queue_dir, config, flags)]
    file = config or os.environ.get("WATCHER_CONFIG")
    if file is None:
        return []
    from watcher import config as configuration

    return list(configuration.load(file, os.environ).values())


def _show(where: str, check: Check, as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps({"where": where, **check._asdict()}))
    else:
        click.echo(f"  {check.grade:<8} {check.about:<20} {check.what}")
