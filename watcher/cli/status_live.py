"""`status --watch`: the status again and again, on a terminal through rich.

rich is an extra of the package (`pip install 'spool-watcher[rich]'`), and this is the only file
that imports it.
Guarantees: Ctrl-C ends it without a traceback, and the terminal is as it was before.
Fails: Unavailable if rich is not installed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import click

from watcher.errors import Unavailable

LEAST = 0.1  # seconds between two looks


def show(screen: Callable[[], Iterator[str]], seconds: float) -> None:
    """Show the lines of `screen` on the whole terminal, again every so many seconds."""
    try:
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        raise Unavailable(
            "--watch needs the package rich: pip install 'spool-watcher[rich]'"
        ) from None

    def text() -> Text:
        head = time.strftime("%Y-%m-%d %H:%M:%S  (Ctrl-C ends)\n\n")
        return Text.from_ansi(head + "\n".join(screen()), no_wrap=True, overflow="ellipsis")

    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(text(), screen=True, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(seconds)
            live.update(text(), refresh=True)


def repeat(screen: Callable[[], Iterator[str]], seconds: float) -> None:
    """Print the lines of `screen` again every so many seconds."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            for line in screen():
                click.echo(line)
            time.sleep(seconds)
