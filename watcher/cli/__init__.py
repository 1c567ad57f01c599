"""The command line: one file for each command; only the command that runs is imported.

Guarantees: an error that the operator can act on is one line on standard error and the exit code of
docs/design.md, "Exit codes"; a traceback is shown with `--debug` only.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from watcher import __version__
from watcher.errors import Usage, WatcherError, one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

COMPLETING = "_WATCHER_COMPLETE"  # a shell that asks what may come next sets it (click)
COMMANDS = {
    "run": "the daemon: watch queue directories and handle what arrives",
    "sweep": "one pass over a queue directory by hand",
    "enqueue": "commit messages or files to a queue, durably",
    "status": "what a queue is doing, whether its work succeeds, what to do",
    "audit": "name every entry that is missing",
    "list": "the entries of a queue, by state",
    "history": "every step of an entry, also of one that is done",
    "cat": "an entry's message, metadata or file",
    "hold": "keep entries from being handled until they are released",
    "release": "return held entries to their place",
    "requeue": "have dead, deferred, orphaned or archived entries handled again",
    "delete": "remove entries for good",
    "attempt": "make one attempt at one entry, here and now",
    "abort": "end a running attempt at one entry",
    "pause": "have no attempt begin until resume",
    "resume": "have attempts begin again",
    "work": "handle what queues handed over to NATS JetStream",
    "nats": "make the streams of such a hand-off, and check them",
    "explain": "why a file is or is not ready, with the evidence",
    "check": "try what a directory and this machine can do",
    "torture": "find out which promises hold on a file system, by killing processes",
}


class Lazy(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order in which a new user needs them."""
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
        if COMPLETING in os.environ:
            from watcher.cli.completion import attach

            attach(command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; handle the exceptions that click's `main` would handle differently."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of the output has ended, as with `| head -1`
            _discard_output()
            return os.EX_OK
        except KeyboardInterrupt:
            raise click.Abort from None
        except Usage as error:
            words = filter(None, (ctx.invoked_subcommand, ctx.meta.get("watcher.subcommand")))
            error.args = (f"{' '.join(words)}: {error}",)
            raise

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def group(ctx: click.Context, debug: bool) -> None:
    """Watch queue directories and never lose a message."""
    ctx.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    arguments = (sys.argv[1:] or ["--help"]) if arguments is None else arguments
    try:
        _fill_standard_descriptors()
        if sys.stdout is None:  # it was closed: output is discarded
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
        _name_standard_output()
        code = group.main(arguments, prog_name="watcher", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        _fail(_command_of(error) + " ".join(error.format_message().split()), os.EX_USAGE)
    except click.Abort:
        _fail("interrupted", 128 + 2)
    except BrokenPipeError:
        _discard_output()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - any error becomes one line
        if "--debug" in arguments[:1]:
            import traceback

            traceback.print_exc()
        _discard_output()  # if it cannot be written, that is no second error
        _fail(*_told(error))
    sys.exit(code if isinstance(code, int) else 0)


class _StandardOutput(io.FileIO):
    """Descriptor 1; its errors have a file name, as those of any other file have."""

    gone = False  # True: writes succeed and do nothing, so that the last flush cannot fail

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; an OSError has the file name "standard output"."""
        if self.gone:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "standard output"
            raise


def _name_standard_output() -> None:
    """Make sys.stdout write through `_StandardOutput`; its other settings stay."""
    _StandardOutput.gone = False
    out = sys.stdout
    if out is not sys.__stdout__ or not isinstance(out, io.TextIOWrapper):
        return  # a caller replaced sys.stdout
    raw = _StandardOutput(1, "w", closefd=False)
    unbuffered = isinstance(out.buffer, io.RawIOBase)  # python -u
    sys.stdout = io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=out.encoding,
        errors=out.errors,
        line_buffering=bool(out.line_buffering),
        write_through=unbuffered,
    )


def _fill_standard_descriptors() -> None:
    """Open /dev/null as 0, 1 and 2 if closed: else a spool's file would get such a number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error
        os.set_inheritable(fd, True)
    os.close(fd)


def _discard_output() -> None:
    """Discard buffered output: the interpreter would report it as an error when it ends."""
    _StandardOutput.gone = True
    with contextlib.suppress(
        OSError
    ):  # without free descriptors the error message goes out as it is
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def _command_of(error: click.ClickException) -> str:
    """Return "COMMAND: " of the command whose arguments are wrong, or ""."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    name = context.command_path.partition(" ")[2] if context is not None else ""
    return f"{name}: " if name else ""


def _told(error: Exception) -> tuple[str, int]:
    """Return the text of an error and its exit code."""
    if isinstance(error, WatcherError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        place = f"{_shown(error.filename)}: " if error.filename else ""
        return f"{place}{error.strerror} (errno {error.errno})", _code(error)
    if isinstance(error, ImportError):  # modules are imported when they are first needed
        text = f"a file of the program is missing or unreadable: {error}; was it installed anew?"
        return f"{text} Start it again", os.EX_UNAVAILABLE
    return f"bug: {type(error).__name__}: {error}; `watcher --debug` shows where", os.EX_SOFTWARE


def _shown(name: object) -> object:
    return os.fsdecode(name) if isinstance(name, bytes) else name


def _code(error: OSError) -> int:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return os.EX_NOPERM
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EMFILE, errno.ENFILE):
        return os.EX_TEMPFAIL
    return os.EX_NOINPUT if error.errno == errno.ENOENT else os.EX_IOERR


def _fail(text: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError):  # standard error may have no reader
        os.write(2, f"watcher: {one_line(text)}\n".encode("utf-8", "backslashreplace"))
    sys.exit(code)
