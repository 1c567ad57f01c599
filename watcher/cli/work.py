"""`watcher work`: handle what queues handed over to a stream, on any number of machines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from watcher.cli import parameters
from watcher.cli.run import log_options, page_options, serve
from watcher.cli.server_options import not_alone, server_options, with_paths
from watcher.cli.subcommands import NAME
from watcher.errors import Usage

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from watcher.config.queue_settings import Queue


class _Work(click.Command):
    """The daemon; or, if the first word says so, a command for the dead letters."""

    @property
    def commands(self) -> Mapping[str, click.Command]:
        """The commands for the dead letters."""
        from watcher.cli.work_letters import COMMANDS

        return COMMANDS

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave the words to the command that the first one names."""
        if not args or args[0] not in self.commands:
            return super().parse_args(ctx, args)
        name, *rest = args
        ctx.meta[NAME] = name
        # A sibling of this context, and no child of it: its usage has no argument of the daemon.
        ctx.obj = self.commands[name].make_context(
            f"{ctx.info_name} {name}",
            rest,
            parent=ctx.parent,
            resilient_parsing=ctx.resilient_parsing,
        )
        return []

    def invoke(self, ctx: click.Context) -> Any:
        """Run the daemon, or the command for the dead letters."""
        if (inner := _inner(ctx)) is None:
            return super().invoke(ctx)
        with inner:
            return inner.command.invoke(inner)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the options, and the commands where one may stand."""
        from click.shell_completion import CompletionItem

        if (inner := _inner(ctx)) is not None:
            return inner.command.shell_complete(inner, incomplete)
        begun = any(ctx.params.get(name) for name in ("handler", "config", "server", "stream"))
        names = () if begun else self.commands
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found + super().shell_complete(ctx, incomplete)


def _inner(ctx: click.Context) -> click.Context | None:
    return ctx.obj if isinstance(ctx.obj, click.Context) else None


@click.command("work", cls=_Work)
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@server_options
@click.option("--concurrency", type=int, metavar="N", help="Entries handled at once [1].")
@parameters.timeout_option
@click.option("--max-size", metavar="SIZE", help="Larger entries go to the dead letters [256M].")
@click.option("--directory", metavar="DIR", help="Where copies lie while they are handled.")
@click.option("--warn-after", metavar="AGE", help="Warn of attempts that last so long [10m].")
@click.option("--breaker", type=int, metavar="N", help="Failures alike until one is tried [20].")
@page_options
@log_options
def command(
    handler: tuple[str, ...],
    config: str | None,
    log_format: str,
    log_level: str,
    **flags: Any,
) -> int:
    """Handle the entries of a stream of NATS JetStream, which queues handed over to it.

    The stream and the command after `--`, or each table [work.NAME] of the configuration; with
    --stream, the tables of that stream. Signals are those of `watcher run`.

    While an entry is handled, a copy of it lies in the directory NAME in /run/watcher/work, or in
    $XDG_RUNTIME_DIR/watcher/work. `watcher status`, `list`, `explain`, `abort`, `pause`, `resume`
    take that directory. What waits at the server: `watcher nats check`.

    `watcher work list`, `requeue` and `delete`, each with --help, are for the dead letters.
    """

    def load() -> Mapping[str, Queue]:
        queues = _queues(handler, config, flags)
        for settings in queues.values():
            if settings.messages is not None:
                settings.messages.server.check_package(settings.origin.rstrip(".: "))
        from watcher.daemon.message_copies import prepare

        for settings in queues.values():
            prepare(settings.path)
        return queues

    page = {key: flags.pop(key) for key in ("http", "http_token_file")}
    return serve(load, config, page, log_format, log_level)


def _queues(
    handler: tuple[str, ...], config: str | None, flags: Mapping[str, Any]
) -> Mapping[str, Queue]:
    """Return the settings that the flags or the configuration say."""
    from watcher.config.work_settings import work_from_file, work_from_flags

    file = config or os.environ.get("WATCHER_CONFIG")
    if flags["server"] is not None or file is None:
        not_alone(config, flags)
        settings = work_from_flags(with_paths(flags), handler)
        if flags["timeout"] is not None:
            settings = parameters.with_timeout(settings, flags["timeout"])
        return {settings.name: settings}
    if handler:
        raise Usage("a command after --: only with --server and --stream")
    given = [name for name, value in flags.items() if value is not None and name != "stream"]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise Usage(f"{options}: only with --server and --stream; set it in {file} instead")
    stream = flags["stream"]
    found = {
        name: settings
        for name, settings in work_from_file(file).items()
        if settings.messages is not None and stream in (None, settings.messages.stream)
    }
    if not found:
        raise Usage(f"--stream: {file} has no table [work.NAME] of the stream {stream}")
    return found
