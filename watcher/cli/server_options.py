"""The options for a NATS server and a stream, and the streams that they or a configuration name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from watcher.errors import Usage

if TYPE_CHECKING:
    from watcher.jetstream.server_settings import ServerSettings
    from watcher.rules.finding import Check

F = TypeVar("F", bound=Callable[..., Any])

_SERVER = (
    click.option("--config", metavar="FILE", help="Configuration (or WATCHER_CONFIG)."),
    click.option("--server", metavar="URL", help="The servers, e.g. nats://HOST:4222,..."),
    click.option("--stream", metavar="NAME", help="The stream."),
    click.option("--credentials-file", metavar="FILE", help="A .creds file."),
    click.option("--token-file", metavar="FILE", help="A file with a token."),
    click.option("--user", metavar="NAME", help="The user; with --password-file."),
    click.option("--password-file", metavar="FILE", help="A file with the password."),
    click.option("--ca-file", metavar="FILE", help="Certificates to trust (PEM)."),
    click.option("--cert-file", metavar="FILE", help="A certificate to show (PEM)."),
    click.option("--key-file", metavar="FILE", help="Its key (PEM)."),
)


def server_options(command: F) -> F:
    """Add the options for where the server is."""
    for option in reversed(_SERVER):
        command = option(command)
    return command


class StreamTarget(NamedTuple):
    """A stream, and where it is."""

    place: str  # where the options are, for messages
    server: ServerSettings
    stream: str
    subjects: tuple[str, ...] = ()  # that entries are published under, `*` for what differs
    outage: float = 7200.0  # seconds
    monitor: str = ""
    largest: int = 0  # bytes of the largest entry, where a queue says it


def streams_for(config: str | None, flags: Mapping[str, Any]) -> list[StreamTarget]:
    """Return each stream of the configuration once, or the one that the flags name.

    `--stream` alone chooses among those of the configuration. Raises Usage.
    """
    file = config or os.environ.get("WATCHER_CONFIG")
    if flags["server"] is not None:
        not_alone(config, flags)
        return [_named(flags)]
    for name in _SERVER_FLAGS:
        if flags[name] is not None:
            raise Usage(f"--{name.replace('_', '-')}: goes with --server")
    if file is None:
        raise Usage("name --server and --stream, or a configuration with --config FILE")
    stream = flags["stream"]
    found = [one for one in _configured(file) if stream in (None, one.stream)]
    if not found:
        raise Usage(f"--stream: {file} has no stream {stream}")
    return found


_SERVER_FLAGS = (
    *("credentials_file", "token_file", "user", "password_file"),
    *("ca_file", "cert_file", "key_file"),
)


def findings_of(
    target: StreamTarget, *, outage: float | None = None, monitor: str = ""
) -> Iterator[Check]:
    """Yield what is found of a stream and its server."""
    from watcher.errors import BadConfiguration
    from watcher.rules.finding import BAD, Check

    try:
        target.server.check_package(target.place)
    except BadConfiguration as error:
        yield Check(BAD, "server", str(error), error.exit_code)
        return
    from watcher.jetstream.look import Expected, target_findings

    expected = Expected(
        target.outage if outage is None else outage,
        target.subjects,
        monitor or target.monitor,
        target.largest,
    )
    yield from target_findings(target.server, target.place, target.stream, expected)


def not_alone(config: str | None, flags: Mapping[str, Any]) -> None:
    """Raise Usage if `--server` is without a stream, or beside a configuration."""
    if flags["server"] is not None and config is not None:
        raise Usage("--server: not with --config, which says where the server is")
    if flags["server"] is not None and flags["stream"] is None:
        raise Usage("--server: name the stream too, with --stream")


def with_paths(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags with absolute paths: a file may be named from where the command runs."""
    return {
        name: os.path.abspath(value) if name.endswith("_file") and value else value
        for name, value in flags.items()
    }


def _named(flags: Mapping[str, Any]) -> StreamTarget:
    """Return the stream that the flags name."""
    from watcher.jetstream.server_settings import ServerSettings
    from watcher.rules.nats_subject import STREAM_NAME

    stream = flags["stream"]
    if not STREAM_NAME.fullmatch(stream):
        raise Usage(f"--stream: expected letters, digits, - and _, at most 64; got {stream!r}")
    given = with_paths(flags)
    server = ServerSettings(flags["server"], *(given[name] for name in _SERVER_FLAGS))
    if (wrong := server.mistake()) is not None:
        option = f"--{(wrong[0] or 'server').replace('_', '-')}"
        raise Usage(f"{option}: expected {wrong[1]}")
    return StreamTarget("command line", server, stream)


def _configured(file: str) -> Iterator[StreamTarget]:
    """Yield the streams of a configuration, each with what all of its users need."""
    from watcher.config.load import load
    from watcher.config.toml import read_toml
    from watcher.config.work_settings import work_from_file
    from watcher.handle.kinds.hand_to_nats import Nats

    found: dict[tuple[tuple[str, ...], str], StreamTarget] = {}

    def add(one: StreamTarget) -> None:
        key = one.server.urls, one.stream
        before = found.setdefault(key, one)
        found[key] = before._replace(
            subjects=tuple(dict.fromkeys(before.subjects + one.subjects)),
            outage=max(before.outage, one.outage),
            monitor=before.monitor or one.monitor,
            largest=max(before.largest, one.largest),
        )

    tree = read_toml(file)
    for settings in load(file, os.environ).values() if "queues" in tree else ():
        if isinstance(handler := settings.handler, Nats):
            add(
                StreamTarget(
                    f"{settings.origin}handler",
                    handler.server,
                    handler.stream,
                    (handler.template.pattern,),
                    handler.outage,
                    handler.monitor,
                    settings.max_size if settings.capped else 0,
                )
            )
    for settings in work_from_file(file).values() if "work" in tree else ():
        if (source := settings.messages) is not None:
            add(StreamTarget(settings.origin.rstrip("."), source.server, source.stream))
    if not found:
        raise Usage(f"{file}: no queue has a handler nats, and there is no table [work.NAME]")
    yield from found.values()
