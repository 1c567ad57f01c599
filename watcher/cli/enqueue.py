"""`watcher enqueue`: commit messages to a queue, durably."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping

import click

from watcher.errors import NoSuch, Usage, WatcherError


class Unheard(WatcherError):
    """The entry is on disk, but its name could not be printed."""

    exit_code = os.EX_IOERR  # not 75: trying again would commit it twice


@click.command("enqueue")
@click.argument("queue_dir")
@click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE...|-]")
@click.option("--meta", "pairs", multiple=True, metavar="KEY=VALUE", help="Metadata; repeatable.")
@click.option("--config", metavar="FILE", help="Configuration (or WATCHER_CONFIG).")
@click.option("--format", type=click.Choice(["mailman", "raw"]), help="What entries are [mailman].")
@click.option("--suffix", default=None, help="With --format raw: the files' ending, e.g. .csv.")
def command(
    queue_dir: str,
    files: tuple[str, ...],
    pairs: tuple[str, ...],
    config: str | None,
    **flags: str | None,
) -> None:
    """Commit each FILE (or standard input) as an entry; print the names.

    When a name is printed the entry is on disk, whatever happens next. Many FILEs are committed in
    groups that share their syncs, and their names are printed group by group.
    """
    from watcher.groups import in_groups

    style, suffix = _form(queue_dir, config, flags)
    if pairs and style == "raw":
        raise Usage("--meta: a raw entry has no metadata")
    if files.count("-") > 1:
        raise Usage("-: standard input can be read once only")
    metadata = dict(_pair(text) for text in pairs)
    messages = ((_read(file), None if style == "raw" else metadata) for file in files or ("-",))
    for names in in_groups(queue_dir, messages, raw=style == "raw", suffix=suffix):
        for number, name in enumerate(names):
            _print(name, names[number:])


_ENDING = {"mailman": ".pck", "raw": ""}
_VARIABLES = ("WATCHER_CONFIG", "WATCHER_FORMAT", "WATCHER_SUFFIX")


def _form(queue_dir: str, config: str | None, flags: Mapping[str, str | None]) -> tuple[str, str]:
    """Return the format and the ending of the queue's entries, as its daemon knows them.

    Where nothing but flags can say so, the configuration's modules are not imported: they cost more
    than a commit.
    """
    if config is not None or any(name in os.environ for name in _VARIABLES):
        from watcher.cli import options

        settings = options.settings_for(queue_dir, config, flags)
        return settings.format, settings.suffix
    style, suffix = flags["format"] or "mailman", flags["suffix"]
    if suffix is not None and style != "raw":
        raise Usage("--suffix goes with --format raw; Mailman's entries end in .pck")
    return style, suffix or _ENDING[style]


def _print(name: str, unheard: list[str]) -> None:
    """Print a committed entry's name; if nobody reads it, the next is committed all the same."""
    try:
        click.echo(name)
    except OSError as error:
        if error.errno != errno.EPIPE:
            what = "the entry {} is" if len(unheard) == 1 else "the entries {} are"
            raise Unheard(
                f"{what.format(', '.join(unheard))} committed, but this cannot be printed:"
                f" {error.strerror}; later ones are not"
            ) from None


def _read(file: str) -> bytes:
    if file == "-" and sys.stdin is None:
        raise Usage("standard input is closed; name a FILE, or give it something to read")
    try:
        if file == "-":
            return sys.stdin.buffer.read()
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise NoSuch(f"{file}: cannot be read: {error.strerror}") from None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Usage(f"--meta {text!r}: expected KEY=VALUE")
    return key, value
