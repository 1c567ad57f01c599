"""`watcher work`: handle what queues handed over to a stream, on any number of machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.run import log_options, page_options, serve
from watcher.cli.server_options import server_options
from watcher.errors import Usage

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue


class _Work(click.Command):
    """The daemon; or, if the first word says so, a command for the dead letters."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave the words to the command that the first one names."""
        from watcher.cli.work_letters import COMMANDS

        if args and args[0] in COMMANDS:
            ctx.meta["letters"] = args
            return []
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the daemon, or the command for the dead letters."""
        from watcher.cli.work_letters import COMMANDS

        if (words := ctx.meta.get("letters")) is None:
            return super().invoke(ctx)
        with COMMANDS[words[0]].make_context(words[0], words[1:], parent=ctx) as inner:
            return inner.command.invoke(inner)


@click.command("work", cls=_Work)
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@server_options
@click.option("--concurrency", type=int, metavar="N", help="Entries handled at once [1].")
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
    **flags: object,
) -> int:
    """Handle the entries of a stream of NATS JetStream.

    The stream and the command after `--`, or each table [work.NAME] of the configuration. Signals
    are those of `watcher run`.

    `watcher work list`, `requeue` and `delete`, each with --help, are for the dead letters.
    """

    def load() -> Mapping[str, Queue]:
        from watcher.config.work_settings import work_from_file, work_from_flags

        if config is None or flags.get("server") is not None:
            settings = work_from_flags(flags, handler)
            return {settings.name: settings}
        if handler:
            raise Usage("a command after --: only with --server and --stream")
        return work_from_file(config)

    def made() -> Mapping[str, Queue]:
        from watcher.daemon.message_copies import prepare

        queues = load()
        for settings in queues.values():
            prepare(settings.path)
        return queues

    given = {key: flags.pop(key) for key in ("http", "http_token_file")}
    return serve(made, config, given, log_format, log_level)
