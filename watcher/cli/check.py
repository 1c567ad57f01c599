"""`watcher check`: what a directory and this machine can do, found by trying."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.cli import chosen, parameters
from watcher.errors import Usage, WatcherError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from watcher.config.queue_settings import Queue
    from watcher.rules.finding import Check

_WORST = (os.EX_NOPERM, os.EX_NOINPUT)  # in this order before EX_UNAVAILABLE


@click.command("check")
@click.argument("queue_dir", required=False)
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@parameters.queue_options
@parameters.archive_options
@click.option("--strict", is_flag=True, help="Warnings are bad too.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(
    queue_dir: str | None,
    handler: tuple[str, ...],
    config: str | None,
    strict: bool,
    as_json: bool,
    **flags: object,
) -> int:
    """Check a queue directory, or every queue of the configuration, and the machine's limits.

    Makes `.watcher/` if it does not exist, to try things in. With a configuration, or a command
    after `--`, the handler is checked too. Exit status: 0 if nothing is bad, and with --strict no
    warning was given; 77 if a permission is bad; 66 if a directory is missing; else 69.
    """
    from watcher.inspect.limits import check_machine
    from watcher.rules.finding import BAD, WARNING, Check
    from watcher.spool.lease import ignore_sigio

    ignore_sigio()
    queues = _queues(queue_dir, handler, config, flags)
    if queue_dir is not None and queues.alone:
        # Named by the caller: if it is missing, that is an error and no finding.
        for settings in queues.queues.values():
            parameters.open_spool(settings)
    groups: list[tuple[str, Iterable[Check]]] = [("this machine", check_machine())]
    if queues.trouble:
        groups.append(("directories", [Check(BAD, "pattern", why) for why in queues.trouble]))
    groups += [(settings.path, _check(settings)) for settings in queues.queues.values()]
    codes = set()
    for where, checks in groups:
        shown = one_line(where)
        if not as_json:
            click.echo(shown)
        for check in checks:
            show_check(shown, check, as_json)
            if check.grade == BAD or (strict and check.grade == WARNING):
                codes.add(check.code if check.grade == BAD else os.EX_UNAVAILABLE)
    if not codes:
        return os.EX_OK
    return next((code for code in _WORST if code in codes), os.EX_UNAVAILABLE)


def _check(settings: Queue) -> Iterator[Check]:
    """Check one queue; if its directory cannot be opened, that is a finding."""
    from watcher.inspect.check_directory import check_directory
    from watcher.rules.finding import BAD, OK, Check

    yield from _handler(settings)
    if (source := settings.messages) is not None:
        from watcher.cli.server_options import StreamTarget, findings_of

        yield from findings_of(
            StreamTarget(settings.origin.rstrip("."), source.server, source.stream), outage=0.0
        )
        if not os.path.isdir(settings.path):
            yield Check(OK, "directory", f"`watcher work` makes {settings.path}")
            return
    try:
        spool = parameters.open_spool(settings)
    except WatcherError as error:
        yield Check(BAD, "directory", str(error), error.exit_code)
        return
    try:
        yield from check_directory(spool, settings.grace_age)
    except WatcherError as error:
        yield Check(BAD, "directory", str(error), error.exit_code)
    except OSError as error:
        denied = isinstance(error, PermissionError)
        code = os.EX_NOPERM if denied else os.EX_UNAVAILABLE
        yield Check(BAD, "directory", f"cannot be read: {error.strerror}", code)


def _handler(settings: Queue) -> Iterator[Check]:
    """Load the handler, if one is configured, and look at its target: a daemon needs both."""
    from watcher.rules.finding import BAD, Check

    handler = settings.handler
    if handler is None:
        return
    try:
        settings.load_handler()
        yield from handler.try_target()
    except WatcherError as error:
        yield Check(BAD, "handler", str(error), error.exit_code)
    except OSError as error:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        what = f"its target cannot be used: {where}{error.strerror or error}"
        denied = isinstance(error, PermissionError)
        yield Check(BAD, "handler", what, os.EX_NOPERM if denied else os.EX_UNAVAILABLE)
    except Exception as error:  # noqa: BLE001 - an import may raise anything
        yield Check(BAD, "handler", f"cannot be loaded: {type(error).__name__}: {error}")


def _queues(
    queue_dir: str | None, handler: tuple[str, ...], config: str | None, flags: dict[str, object]
) -> chosen.Chosen:
    given = [name for name, value in flags.items() if value is not None]
    if queue_dir is None and given:
        raise Usage(f"--{given[0].replace('_', '-')}: goes with QUEUE_DIR; say which")
    if queue_dir is None and config is None and "WATCHER_CONFIG" not in os.environ:
        return chosen.Chosen({}, alone=True)
    return chosen.choose(queue_dir, config, flags, handler, "try", with_work=True)


def show_check(where: str, check: Check, as_json: bool) -> None:
    """Print one finding."""
    import json

    if as_json:
        record = {"where": where, "grade": check.grade, "about": check.about, "what": check.what}
        click.echo(json.dumps(record))
    else:
        click.echo(f"  {check.grade:<8} {check.about:<20} {one_line(check.what)}")
