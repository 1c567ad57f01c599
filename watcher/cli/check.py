"""`watcher check`: what a directory and this machine can do, by trying."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.cli import options
from watcher.errors import Usage, WatcherError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from watcher.config import Queue
    from watcher.inspect.grade import Check

_WORST = (os.EX_NOPERM, os.EX_NOINPUT)  # in this order before EX_UNAVAILABLE


@click.command("check")
@click.argument("queue_dir", required=False)
@options.queue_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(queue_dir: str | None, config: str | None, as_json: bool, **flags: object) -> int:
    """Check a queue directory, or every queue of the configuration, and the machine's limits.

    Makes `.watcher/` if it is not there, to try things in. Exit status: 0 if nothing is bad;
    77 if a permission is; 66 if a directory is missing; else 69.
    """
    from watcher.claim.lease import ignore_sigio
    from watcher.inspect.grade import BAD
    from watcher.inspect.limits import check_machine

    ignore_sigio()
    places = _queues(queue_dir, config, flags)
    if queue_dir is not None:
        options.open_spool(places[0])  # asked for by name: missing is an error, not a finding
    groups: list[tuple[str, Iterable[Check]]] = [("this machine", check_machine())]
    groups += [(settings.path, _check(settings)) for settings in places]
    codes = set()
    for where, checks in groups:
        shown = one_line(where)
        if not as_json:
            click.echo(shown)
        for check in checks:
            _show(shown, check, as_json)
            if check.grade == BAD:
                codes.add(check.code)
    if not codes:
        return os.EX_OK
    return next((code for code in _WORST if code in codes), os.EX_UNAVAILABLE)


def _check(settings: Queue) -> Iterator[Check]:
    """Check one queue; a directory that cannot be had keeps no other from being checked."""
    from watcher.inspect.grade import BAD, Check
    from watcher.inspect.survey import check_directory

    try:
        spool = options.open_spool(settings)
    except WatcherError as error:
        yield Check(BAD, "directory", str(error), error.exit_code)
        return
    try:
        yield from check_directory(spool, settings.grace_age)
    except OSError as error:
        denied = isinstance(error, PermissionError)
        code = os.EX_NOPERM if denied else os.EX_UNAVAILABLE
        yield Check(BAD, "directory", f"cannot be read: {error.strerror}", code)


def _queues(queue_dir: str | None, config: str | None, flags: dict[str, object]) -> list[Queue]:
    if queue_dir is not None:
        return [options.settings_for(queue_dir, config, flags)]
    given = [name for name, value in flags.items() if value is not None]
    if given:
        raise Usage(f"--{given[0].replace('_', '-')}: goes with QUEUE_DIR; say which")
    file = config or os.environ.get("WATCHER_CONFIG")
    if file is None:
        return []
    from watcher import config as configuration

    return list(configuration.load(file, os.environ).values())


def _show(where: str, check: Check, as_json: bool) -> None:
    import json

    if as_json:
        record = {"where": where, "grade": check.grade, "about": check.about, "what": check.what}
        click.echo(json.dumps(record))
    else:
        click.echo(f"  {check.grade:<8} {check.about:<20} {one_line(check.what)}")
