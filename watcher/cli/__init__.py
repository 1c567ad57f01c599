"""The command line: a file a command, each imported only when it is the one that is run.

Guarantees: an error the operator can do something about is one line on standard error and the
exit code of design section 8; a traceback is shown with `--debug` only.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import NoReturn

import click

from watcher.errors import WatcherError

COMMANDS = {
    "run": "the daemon: watch queue directories and handle what arrives",
    "sweep": "one pass over a queue directory by hand",
    "enqueue": "commit messages or files to a queue, durably",
    "list": "the entries of a queue, by state",
    "cat": "an entry's message, metadata or file",
    "explain": "why a file is or is not ready, with the evidence",
    "check": "what a directory and this machine can do, by trying",
}


class Lazy(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"watcher.cli.{cmd_name}").command
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def group(ctx: click.Context, debug: bool) -> None:
    """Watch queue directories and never lose a message."""
    ctx.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments[:1]
    try:
        code = group.main(arguments, prog_name="watcher", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        _fail(error.format_message(), os.EX_USAGE)
    except click.exceptions.Abort:
        _fail("interrupted", 128 + 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains at its end
        sys.exit(0)
    except WatcherError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except OSError as error:
        if debug:
            raise
        _fail(f"{error.filename or ''}: {error.strerror} (errno {error.errno})", _code(error))
    sys.exit(code if isinstance(code, int) else 0)


def _code(error: OSError) -> int:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return os.EX_NOPERM
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EMFILE, errno.ENFILE):
        return os.EX_TEMPFAIL
    return os.EX_NOINPUT if error.errno == errno.ENOENT else os.EX_IOERR


def _fail(text: str, code: int) -> NoReturn:
    line = " ".join(text.split())
    sys.stderr.buffer.write(b"watcher: " + line.encode("utf-8", "backslashreplace") + b"\n")
    sys.stderr.flush()
    sys.exit(code)
