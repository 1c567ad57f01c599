"""A command that is several: the group, and how errors name the one that ran."""

from __future__ import annotations

import click

from watcher.errors import Usage

NAME = "watcher.subcommand"  # of click's `meta`: the second word of the command that runs


class Subcommands(click.Group):
    """A group of commands with one word in front of them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the name of the command; without one, say which there are."""
        if not args and not ctx.resilient_parsing:
            names = " or ".join(self.list_commands(ctx))
            raise Usage(f"expected {names}; see `{ctx.command_path} --help`")
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that runs, and note its name for errors."""
        name, command, rest = super().resolve_command(ctx, args)
        ctx.meta[NAME] = name
        return name, command, rest
