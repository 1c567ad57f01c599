"""`watcher status`: what a queue is doing, whether its work succeeds, and what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from watcher.cli import chosen, parameters
from watcher.errors import Usage, WatcherError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.inspect.queue_status import QueueStatus
    from watcher.rules.condition import Limits

_SECONDS = "2"  # between two looks of --watch

_LIMITS = (
    click.option("--warn-age", metavar="AGE", help="A warning: the oldest entry waits [10m]."),
    click.option("--crit-age", metavar="AGE", help="Critical: the oldest entry waits [1h]."),
    click.option("--warn-dead", type=click.IntRange(0), help="A warning: dead entries [1]."),
    click.option("--crit-dead", type=click.IntRange(0), help="Critical: dead entries [100]."),
    click.option("--warn-failing", metavar="PERCENT", help="A warning: attempts that fail [50]."),
    click.option("--crit-failing", metavar="PERCENT", help="Critical: attempts that fail [100]."),
)


def _limit_options(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_LIMITS):
        command = option(command)
    return command


class Seen(NamedTuple):
    """One look at all queues: what is known, and which could not be looked at."""

    statuses: list[QueueStatus]
    unknown: dict[str, WatcherError]


@click.command("status")
@click.argument("queue_dir", required=False)
@parameters.queue_options
@click.option("--json", "as_json", is_flag=True, help="One object a line for each queue.")
@click.option("--metrics", is_flag=True, help="The metrics, as Prometheus reads them.")
@click.option("--check", is_flag=True, help="One line and an exit status for monitoring systems.")
@click.option(
    "--watch",
    is_flag=False,
    flag_value=_SECONDS,
    metavar="[SECONDS]",
    help="Look again every 2 seconds, until Ctrl-C.",
)
@_limit_options
def command(
    queue_dir: str | None,
    config: str | None,
    as_json: bool,
    metrics: bool,
    check: bool,
    watch: str | None,
    **flags: Any,
) -> int:
    """Show what a queue is doing and whether its work succeeds, with or without a daemon.

    With --config FILE and no QUEUE_DIR: every queue. Numbers are counted on the disk; what is in
    hand, the attempts and the times are what the running daemon says of itself. For each thing
    that is wrong, the next command to type is named.

    Exit status with --check: 0 healthy, 1 warning, 2 critical, 3 unknown. Else 0 if the queues
    could be looked at.
    """
    from watcher.spool.lease import ignore_sigio

    ignore_sigio()
    if check and (as_json or watch is not None):
        raise Usage("--check goes with neither --json nor --watch")
    if metrics and (as_json or check or watch is not None):
        raise Usage("--metrics goes with none of --json, --check and --watch")
    if watch is not None and queue_dir is None and not _is_number(watch):
        queue_dir, watch = watch, _SECONDS  # `status --watch QUEUE_DIR`
    limits = _limits(flags)
    try:
        queues = chosen.choose(queue_dir, config, flags, with_work=True)
    except WatcherError as error:
        if not check:
            raise
        return _say_check(Seen([], {queue_dir or "configuration": error}), limits)
    if watch is not None:
        return _watch(lambda: _look(queues, limits), watch, as_json=as_json)
    seen = _look(queues, limits)
    if check:
        return _say_check(seen, limits)
    return _say(
        seen, queues, partial(_metrics, queues) if metrics else partial(_output, as_json=as_json)
    )


def _say(seen: Seen, queues: chosen.Chosen, output: Callable[[Seen], Iterable[str | bytes]]) -> int:
    if queues.alone:
        for why in seen.unknown.values():
            raise why
    for line in output(seen):
        click.echo(line, nl=isinstance(line, str))
    for why in seen.unknown.values():
        click.echo(f"watcher: {why}", err=True)
    return max((why.exit_code for why in seen.unknown.values()), default=os.EX_OK)


def _look(queues: chosen.Chosen, limits: Limits) -> Seen:
    """Look at each queue; an error in one of them does not stop the others."""
    from watcher.errors import NoSuch, Unavailable
    from watcher.inspect.queue_status import queue_status

    seen = Seen([], {})
    for number, why in enumerate(queues.trouble):
        seen.unknown[f"{number}"] = NoSuch(why)
    for name, settings in queues.queues.items():
        try:
            spool = parameters.open_spool(settings)
            shown = one_line(settings.name)
            seen.statuses.append(queue_status(spool, shown, limits, stream=settings.stream))
        except WatcherError as error:
            seen.unknown[name] = error
        except OSError as error:
            seen.unknown[name] = Unavailable(f"{settings.path}: cannot be read: {error.strerror}")
    return seen


def _output(seen: Seen, *, as_json: bool) -> Iterator[str]:
    """Yield the lines about all queues."""
    if as_json:
        import json

        from watcher.inspect.status_json import record

        for status in seen.statuses:
            yield json.dumps(record(status))
        return
    from watcher.cli.status_text import lines

    for number, status in enumerate(seen.statuses):
        if number:
            yield ""
        yield from lines(status)


def _metrics(queues: chosen.Chosen, seen: Seen) -> Iterator[bytes]:
    """Yield the metrics of all queues."""
    from watcher.cli.metrics_file import text_of

    yield text_of(seen.statuses, [name for name in seen.unknown if name in queues.queues])


def _say_check(seen: Seen, limits: Limits) -> int:
    from watcher.cli.status_record import check_line

    unknown = {name: str(error) for name, error in seen.unknown.items()}
    severity, line = check_line(seen.statuses, unknown, limits)
    click.echo(line)
    return int(severity)


def _watch(look: Callable[[], Seen], every: str, *, as_json: bool) -> int:
    """Show the status again and again, until Ctrl-C."""
    from watcher.cli import status_live

    seconds = float(every) if _is_number(every) else 0.0
    if seconds < status_live.LEAST:
        raise Usage(f"--watch: expected a number of seconds, {status_live.LEAST} or more")
    if as_json:
        status_live.repeat(lambda: _output(look(), as_json=True), seconds)
        return os.EX_OK
    if not sys.stdout.isatty():
        raise Usage("--watch: standard output is no terminal; --json --watch prints lines for ever")

    def screen() -> Iterator[str]:
        seen = look()
        yield from _output(seen, as_json=False)
        yield from (f"watcher: {error}" for error in seen.unknown.values())

    status_live.show(screen, seconds)
    return os.EX_OK


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


# -- limits ---------------------------------------------------------------------------------------


def _limits(flags: Mapping[str, Any]) -> Limits:
    """Return the limits of the flags, and the defaults for the others; raises Usage."""
    from watcher.rules.condition import Limit, Limits

    default = Limits()
    return Limits(
        *(
            _limit(what, flags, Limit(*getattr(default, what)), read)
            for what, read in (("age", _age), ("dead", float), ("failing", _percent))
        )
    )


def _limit(what: str, flags: Mapping[str, Any], default: Any, read: Callable[[Any], float]) -> Any:
    given = {}
    for word, field in (("warn", "warning"), ("crit", "critical")):
        value = flags[f"{word}_{what}"]
        if value is not None:
            try:
                given[field] = read(value)
            except ValueError as error:
                raise Usage(f"--{word}-{what}: {error}") from None
    limit = default._replace(**given)
    if limit.warning > limit.critical and len(given) == 1:  # the other one follows
        limit = limit._replace(**dict.fromkeys(limit._fields, next(iter(given.values()))))
    if limit.warning > limit.critical:
        raise Usage(f"--warn-{what}: expected at most the value of --crit-{what}")
    return limit


def _age(text: str) -> float:
    from watcher.durations import parse

    return parse(text)


def _percent(text: str) -> float:
    number = text.removesuffix("%")
    if not _is_number(number) or float(number) > 100:  # noqa: PLR2004 - per cent
        raise ValueError(f"expected a number from 0 to 100; got {text!r}")
    return float(number)
