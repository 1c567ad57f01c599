"""`watcher nats`: make the streams of a hand-off, and look whether they keep the promise."""

from __future__ import annotations

import os
from typing import Any

import click

from watcher.cli.server_options import StreamTarget, server_options, streams_for
from watcher.errors import Usage, one_line


@click.group("nats")
def command() -> None:
    """Make the streams of a hand-off to NATS JetStream (init), and look at them (check)."""


@command.command("init")
@server_options
@click.option("--replicas", type=click.IntRange(1, 5), default=1, help="Copies of each stream [1].")
@click.option("--window", metavar="AGE", help="How long the server knows a message [2h].")
@click.option("--max-age", metavar="AGE", default="30d", help="How long an entry is kept [30d].")
@click.option("--max-bytes", metavar="SIZE", help="The largest size of the stream [no limit].")
@click.option("--update", is_flag=True, help="Change what is there and differs.")
@click.option("--dry-run", is_flag=True, help="Print what it would make; change nothing.")
def init(config: str | None, **flags: Any) -> int:
    """Make the stream, its dead letters, its records, and the consumer; for each in FILE, or one.

    What exists is left as it is, and what differs is printed, unless --update is given. No message
    is removed.
    """
    from watcher.jetstream.stream_setup import Wanted

    code = os.EX_OK
    for target in streams_for(config, flags):
        seconds = _duration(flags["window"], "--window") if flags["window"] else target.outage
        wanted = Wanted(
            target.stream,
            (_pattern(target),),
            flags["replicas"],
            seconds,
            _duration(flags["max_age"], "--max-age"),
            _size(flags["max_bytes"]),
        )
        code = max(code, _init(target, wanted, update=flags["update"], dry_run=flags["dry_run"]))
    return code


@command.command("check")
@server_options
@click.option("--outage", metavar="AGE", help="The longest outage that is to be survived [2h].")
@click.option("--monitor", metavar="URL", help="The server's monitoring page, http://HOST:8222.")
@click.option("--strict", is_flag=True, help="Warnings are bad too.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def check(config: str | None, strict: bool, as_json: bool, **flags: Any) -> int:
    """Look at a server and its streams: what keeps and what breaks the promises.

    Nothing is changed. Exit status: 0 if nothing is bad, and with --strict no warning was given;
    else 69, or 78 if the server does not let this program in.
    """
    from watcher.cli.check import show_check
    from watcher.jetstream.look import target_findings
    from watcher.rules.finding import BAD, WARNING

    codes = {os.EX_OK}
    for target in streams_for(config, flags):
        outage = _duration(flags["outage"], "--outage") if flags["outage"] else target.outage
        monitor = flags["monitor"] or target.monitor
        where = f"{target.server.servers} {target.stream}"
        if not as_json:
            click.echo(one_line(where))
        found = target_findings(
            target.server, target.place, target.stream, outage, target.subject, monitor
        )
        for each in found:
            show_check(where, each, as_json)
            if each.grade == BAD:
                codes.add(each.code)
            elif strict and each.grade == WARNING:
                codes.add(os.EX_UNAVAILABLE)
    return max(codes)


def _init(target: StreamTarget, wanted: Any, *, update: bool, dry_run: bool) -> int:
    from watcher.jetstream.calls import calling
    from watcher.jetstream.stream_setup import configurations, make

    if dry_run:
        for each in configurations(wanted):
            click.echo(f"{each.name}: would be made, if it does not exist")
        return os.EX_OK
    with calling(target.server, target.place) as connection:
        result = connection.call(lambda client: make(client, wanted, update=update), 30.0)
    for words, names in (
        ("made", result.made),
        ("changed", result.changed),
        ("is there", result.there),
    ):
        for name in names:
            click.echo(f"{name}: {words}")
    for one in result.differences:
        click.echo(
            f"watcher: {one.where}: {one.what} is {_shown(one.now)}, and not {_shown(one.wanted)}:"
            " --update changes it",
            err=True,
        )
    return os.EX_UNAVAILABLE if result.differences else os.EX_OK


def _shown(value: object) -> str:
    if value is None:
        return "without a limit"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _pattern(target: StreamTarget) -> str:
    """Return the subjects that the stream takes."""
    own = f"{target.stream}.>"
    subject = target.subject
    return own if not subject or subject.startswith(f"{target.stream}.") else subject


def _duration(text: str, option: str) -> float:
    from watcher import durations

    try:
        return durations.parse(text)
    except ValueError as error:
        raise Usage(f"{option}: {error}") from None


def _size(text: str | None) -> int:
    from watcher.rules.option import size

    try:
        return 0 if text is None else size(text)
    except (ValueError, KeyError):
        raise Usage(f"--max-bytes: expected a size like 512M or 10G; got {text!r}") from None
