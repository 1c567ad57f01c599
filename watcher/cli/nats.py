"""`watcher nats`: make the streams of a hand-off, and look whether they keep the promise."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.server_options import StreamTarget, findings_of, server_options, streams_for
from watcher.cli.subcommands import Subcommands
from watcher.errors import Usage, one_line

if TYPE_CHECKING:
    from watcher.jetstream.stream_setup import Difference, Made, Wanted

NO_LIMIT = "none"


@click.group("nats", cls=Subcommands)
def command() -> None:
    """Make the streams of a hand-off to NATS JetStream (init), and look at them (check)."""


@command.command("init", short_help="make the streams, and what workers need")
@server_options
@click.option("--replicas", type=click.IntRange(1, 5), help="Copies of each stream [1].")
@click.option("--window", metavar="AGE", help="How long the server knows a message [2h].")
@click.option("--max-age", metavar="AGE", help="How long it keeps an entry; or none [30d].")
@click.option("--max-bytes", metavar="SIZE", help="The largest size of the stream [no limit].")
@click.option("--max-message", metavar="SIZE", help="The largest entry that it takes [no limit].")
@click.option(
    "--max-ack-pending",
    type=click.IntRange(1),
    metavar="N",
    help="Messages that workers have or that wait for another attempt, at most [10000].",
)
@click.option(
    "--handled",
    type=click.Choice(["remove", "keep"]),
    help="What workers do with handled messages that are older than the window [remove].",
)
@click.option("--update", is_flag=True, help="Change what is there and differs.")
@click.option("--dry-run", is_flag=True, help="Print what it would do; change nothing.")
def init(config: str | None, **flags: Any) -> int:
    """Make the stream, its dead letters, its records, and the consumer.

    For each stream of the configuration, or for the one that is named. What exists is left as it
    is, and what differs is printed, unless --update is given. No message is removed. A limit that
    no option names may differ.

    Exit status: 0 if everything is as it should be; 69 if something differs, or if the server
    refuses it.
    """
    targets = [(target, _wanted(target, flags)) for target in streams_for(config, flags)]
    codes = [
        _init(target, wanted, update=flags["update"], dry_run=flags["dry_run"])
        for target, wanted in targets
    ]
    return max(codes)


@command.command("check", short_help="what keeps and what breaks the promises")
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
    from watcher.rules.finding import BAD, WARNING

    codes = {os.EX_OK}
    outage = None if flags["outage"] is None else _duration(flags["outage"], "--outage")
    monitor = _monitor(flags["monitor"])
    for target in streams_for(config, flags):
        where = one_line(f"{target.stream} at {target.server.shown}")
        if not as_json:
            click.echo(where)
        for each in findings_of(target, outage=outage, monitor=monitor):
            show_check(where, each, as_json)
            if each.grade == BAD:
                codes.add(each.code)
            elif strict and each.grade == WARNING:
                codes.add(os.EX_UNAVAILABLE)
    return max(codes)


def _wanted(target: StreamTarget, flags: dict[str, Any]) -> Wanted:
    """Return the streams that the options ask for; raise Usage."""
    from watcher.durations import show

    target.server.check_package(target.place)
    from watcher.jetstream.stream_setup import MAX_AGE, MOST_ON_THE_WAY, WINDOW, Wanted
    from watcher.rules.handled_messages import REMOVE

    given = {
        "num_replicas": flags["replicas"],
        "duplicate_window": flags["window"] and _duration(flags["window"], "--window"),
        "max_age": flags["max_age"] and _max_age(flags["max_age"]),
        "max_bytes": flags["max_bytes"] and _size(flags["max_bytes"], "--max-bytes"),
        "max_msg_size": flags["max_message"] and _size(flags["max_message"], "--max-message"),
        "max_ack_pending": flags["max_ack_pending"],
        "metadata": flags["handled"],
    }
    asked = {name: value for name, value in given.items() if value is not None}
    window = asked.get("duplicate_window", max(WINDOW, target.outage))
    max_age = asked.get("max_age", max(MAX_AGE, window))
    if 0 < max_age < window:
        raise Usage(
            f"--max-age: expected at least the time for which the server knows a message,"
            f" {show(window)} (--window); got {show(max_age)}"
        )
    return Wanted(
        target.stream,
        tuple(dict.fromkeys(_pattern(target.stream, one) for one in target.subjects or ("",))),
        asked.get("num_replicas", 1),
        window,
        max_age,
        asked.get("max_bytes", 0),
        asked.get("max_msg_size", 0),
        asked.get("max_ack_pending", MOST_ON_THE_WAY),
        asked.get("metadata", REMOVE),
        frozenset(asked),
    )


def _init(target: StreamTarget, wanted: Wanted, *, update: bool, dry_run: bool) -> int:
    target.server.check_package(target.place)
    from watcher.jetstream.calls import calling
    from watcher.jetstream.stream_setup import Orders, make

    orders = Orders(update, dry_run)
    with calling(target.server, target.place) as connection:
        result: Made = connection.call(lambda client: make(client, wanted, orders), 30.0)
    would = "would be " * dry_run
    for words, names in (
        (f"{would}made", result.made),
        (f"{would}changed", result.changed),
        ("is there", result.there),
    ):
        for name in names:
            click.echo(f"{name}: {words}")
    for one in result.differences:
        click.echo(f"watcher: {_told(one)}", err=True)
    return os.EX_UNAVAILABLE if result.differences else os.EX_OK


def _told(one: Difference) -> str:
    how = f"cannot be changed: {one.why}" if one.why else "--update changes it"
    now, wanted = _shown(one.what, one.now), _shown(one.what, one.wanted)
    return f"{one.where}: {one.what} is {now}, and not {wanted}: {how}"


def _shown(what: str, value: object) -> str:
    from watcher.durations import show

    if value is None:
        return "without a limit"
    if isinstance(value, float) and what in ("max_age", "duplicate_window"):
        return show(value)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _pattern(stream: str, subject: str) -> str:
    """Return the subjects that the stream takes, for one that entries are published under."""
    return f"{stream}.>" if not subject or subject.startswith(f"{stream}.") else subject


def _duration(text: str, option: str) -> float:
    from watcher import durations

    try:
        seconds = durations.parse(text)
    except ValueError as error:
        raise Usage(f"{option}: {error}") from None
    if seconds < 1:
        raise Usage(f"{option}: expected a duration of at least 1s; got {text!r}")
    return seconds


def _max_age(text: str) -> float:
    return 0.0 if text == NO_LIMIT else _duration(text, "--max-age")


def _size(text: str, option: str) -> int:
    from watcher.rules.option import size

    try:
        return size(text)
    except (ValueError, KeyError):
        raise Usage(f"{option}: expected a size like 512M or 10G; got {text!r}") from None


def _monitor(text: str | None) -> str:
    urls = [url.strip() for url in (text or "").split(",")] if text is not None else []
    if not all(url.startswith(("http://", "https://")) for url in urls):
        raise Usage(f"--monitor: expected a URL like http://HOST:8222; got {text!r}")
    return ",".join(urls)
