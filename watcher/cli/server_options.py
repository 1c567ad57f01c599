"""The options for a NATS server and a stream, and the streams that they or a configuration name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from watcher.errors import Usage

if TYPE_CHECKING:
    from watcher.jetstream.server_settings import ServerSettings

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
    subject: str = ""  # that entries are published under, with `*` for what differs
    outage: float = 7200.0  # seconds
    monitor: str = ""


def streams_for(config: str | None, flags: Mapping[str, Any]) -> Iterator[StreamTarget]:
    """Yield each stream of the configuration once, or the one that the flags name."""
    from watcher.jetstream.server_settings import ServerSettings

    file = config or os.environ.get("WATCHER_CONFIG")
    if flags["server"] is not None or flags["stream"] is not None or file is None:
        if flags["server"] is None or flags["stream"] is None:
            raise Usage("name --server and --stream, or a configuration with --config FILE")
        names = ServerSettings._fields[1:]
        server = ServerSettings(flags["server"], *(flags[name] for name in names))
        if (wrong := server.mistake()) is not None:
            option = f"--{(wrong[0] or 'server').replace('_', '-')}"
            raise Usage(f"{option}: expected {wrong[1]}")
        yield StreamTarget("command line", server, flags["stream"])
        return
    yield from _configured(file)


def _configured(file: str) -> Iterator[StreamTarget]:
    from watcher.config.load import load
    from watcher.config.toml import read_toml
    from watcher.config.work_settings import work_from_file
    from watcher.handle.kinds.hand_to_nats import Nats

    found: dict[tuple[str, str], StreamTarget] = {}
    tree = read_toml(file)
    for settings in load(file, os.environ).values() if "queues" in tree else ():
        if isinstance(handler := settings.handler, Nats):
            target = StreamTarget(
                f"{settings.origin}handler",
                handler.server,
                handler.stream,
                handler.template.pattern,
                handler.outage,
                handler.monitor,
            )
            found.setdefault((handler.nats, handler.stream), target)
    for settings in work_from_file(file).values() if "work" in tree else ():
        if (source := settings.messages) is not None:
            target = StreamTarget(settings.origin.rstrip("."), source.server, source.stream)
            found.setdefault((source.server.servers, source.stream), target)
    if not found:
        raise Usage(f"{file}: no queue has a handler nats, and there is no table [work.NAME]")
    yield from found.values()
