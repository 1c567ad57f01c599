"""Compile reference.c with the machine's compiler, if there is one."""

from __future__ import annotations

import os
import shutil
import subprocess

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference.c")
COMPILERS = ("cc", "gcc", "clang")


def build(directory: str) -> str | None:
    """Return the path of the program, made in `directory`; None where there is no compiler."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    program = os.path.join(directory, "reference")
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", program, SOURCE]
    subprocess.run(command, check=True)
    return program
