"""`watcher enqueue`: commit messages to a queue, durably."""

from __future__ import annotations

import errno
import os
import sys

import click

from watcher.errors import NoSuch, Usage, WatcherError


class Unheard(WatcherError):
    """The entry is on disk, but its name could not be printed."""

    exit_code = os.EX_IOERR  # not 75: trying again would commit it twice


@click.command("enqueue")
@click.argument("queue_dir")
@click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE...|-]")
@click.option("--meta", "pairs", multiple=True, metavar="KEY=VALUE", help="Metadata; repeatable.")
@click.option("--format", "style", type=click.Choice(["mailman", "raw"]), default="mailman")
@click.option("--suffix", default=None, help="With --format raw: the files' ending, e.g. .csv.")
def command(
    queue_dir: str, files: tuple[str, ...], pairs: tuple[str, ...], style: str, suffix: str | None
) -> None:
    """Commit each FILE (or standard input) as an entry; print the names.

    When a name is printed the entry is on disk, whatever happens next.
    """
    from watcher.producer import enqueue

    if suffix is not None and style != "raw":
        raise Usage("--suffix goes with --format raw; Mailman's entries end in .pck")
    if pairs and style == "raw":
        raise Usage("--meta: a raw entry has no metadata")
    if files.count("-") > 1:
        raise Usage("-: standard input can be read once only")
    metadata = dict(_pair(text) for text in pairs)
    for file in files or ("-",):
        message = _read(file)
        if style == "raw":
            name = enqueue(queue_dir, message, raw=True, suffix=suffix or "")
        else:
            name = enqueue(queue_dir, message, metadata)
        _print(name)


def _print(name: str) -> None:
    """Print a committed entry's name; if nobody reads it, the next is committed all the same."""
    try:
        click.echo(name)
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise Unheard(
                f"the entry {name} is committed, but its name cannot be printed: {error.strerror};"
                " later ones are not"
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
