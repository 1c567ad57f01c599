"""Editors that change a file in the folder, or make one there."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

from real_writers.case import (
    NAME,
    PATIENCE,
    Expected,
    Place,
    WriterFailed,
    case,
    command,
    run,
    shell,
)

command("ed, a new file", "ed")(
    lambda place, source: shell(
        'printf "r %s\\nw %s\\nq\\n" "$1" "$2" | ed -s', source, place.path()
    )
)
command("vim, a new file", "vim.tiny")(
    lambda place, source: [
        *("vim.tiny", "-u", "NONE", "-es", "--cmd", "set nocompatible"),
        *("-c", f"read {source}", "-c", f"write {place.path()}", "-c", "qall!"),
    ]
)


def _edited(place: Place, *argv: str) -> Expected:
    """Write an unfinished file, and have an editor finish it."""
    with open(place.path(), "wb", buffering=0) as file:
        file.write(b"wrong\n")
        run(*argv)
    return {NAME: [b"right\n"]}


@case("vim, backupcopy=no", "vim.tiny")
def _vim(place: Place) -> Expected:
    options = "set nocompatible backup writebackup backupcopy=no backupdir=. directory=."
    substitute = ["-c", "%s/wrong/right/", "-c", "wq"]
    return _edited(
        place, "vim.tiny", "-u", "NONE", "-es", "--cmd", options, *substitute, place.path()
    )


@case("vim, backupcopy=yes", "vim.tiny")
def _vim_copies(place: Place) -> Expected:
    options = "set nocompatible backup writebackup backupcopy=yes backupdir=. directory=."
    substitute = ["-c", "%s/wrong/right/", "-c", "wq"]
    return _edited(
        place, "vim.tiny", "-u", "NONE", "-es", "--cmd", options, *substitute, place.path()
    )


@case("nano --backup", "nano")
def _nano(place: Place) -> Expected:
    with open(place.path(), "wb", buffering=0) as file:
        file.write(b"wrong\n")
        _typed(
            b"\x0bright\x18", "nano", "--ignorercfiles", "--backup", "--saveonexit", place.path()
        )
    return {NAME: [b"right\n"]}


def _typed(keys: bytes, *argv: str) -> None:
    """Run a program in a terminal and type into it when it has drawn its screen."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        argv, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True
    ) as program:
        os.close(its)
        deadline = time.monotonic() + PATIENCE
        drawn = False
        try:
            while program.poll() is None:
                if time.monotonic() > deadline:
                    raise WriterFailed(f"{argv[0]} did not end")
                if select.select([ours], [], [], 0.3)[0]:
                    drawn = bool(os.read(ours, 65536))
                elif drawn and keys:
                    os.write(ours, keys)
                    keys = b""
        except OSError:  # EIO: the program has closed its terminal
            program.wait(PATIENCE)
        finally:
            program.kill()
            os.close(ours)


@case("sed -i", "sed")
def _sed_alone(place: Place) -> Expected:
    return _edited(place, "sed", "-i", "s/wrong/right/", place.path())


@case("sed -i.bak", "sed")
def _sed(place: Place) -> Expected:
    return _edited(place, "sed", "-i.bak", "s/wrong/right/", place.path())
