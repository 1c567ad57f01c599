"""Start a command with the filters of system calls that a unit of scripts/systemd asks for.

    sandbox.py UNIT... -- COMMAND ARG...

systemd is not PID 1 here, so that the unit itself cannot be started. A call that SystemCallFilter
does not allow kills the process, where the unit lets it fail: a test sees it so. Only what is in
`REFUSED`, and what the other settings refuse, fails as it does in a unit. Needs no_new_privs, which
setpriv sets.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

KILL, ALLOW = 0x80000000, 0x7FFF0000  # SCMP_ACT_KILL_PROCESS, SCMP_ACT_ALLOW
MASKED_EQUAL = 7  # SCMP_CMP_MASKED_EQ
CLONE_NAMESPACES = 0x7E020080  # CLONE_NEW*
SECCOMP = ctypes.CDLL("libseccomp.so.2")
SECCOMP.seccomp_init.restype = ctypes.c_void_p


class Argument(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


# The process of the page asks for a lower priority, and does without.
REFUSED = ("setpriority",)


def fails(code: int) -> int:
    """Return SCMP_ACT_ERRNO."""
    return 0x00050000 | code


class Filter:
    """One filter; the kernel obeys the strictest answer of all that are loaded."""

    def __init__(self, default: int) -> None:
        self._context = ctypes.c_void_p(SECCOMP.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, name: str, *arguments: Argument) -> None:
        """Add a rule; a call that this machine does not have needs none."""
        number = SECCOMP.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        array = (Argument * len(arguments))(*arguments)
        count = ctypes.c_uint(len(arguments))
        status = SECCOMP.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, count, array
        )
        assert status == 0, (name, status)

    def load(self) -> None:
        """Have the kernel obey it from now on."""
        assert SECCOMP.seccomp_load(self._context) == 0


def settings(units: list[str]) -> list[tuple[str, str]]:
    """Return the settings of a unit and its drop-ins, in order; an empty value resets."""
    lines = "\n".join(Path(unit).read_text() for unit in units).splitlines()
    return [tuple(line.split("=", 1)) for line in lines if re.match(r"\w+=", line)]


def values(units: list[str], key: str) -> list[str]:
    """Return what a setting that may come several times holds."""
    found: list[str] = []
    for name, value in settings(units):
        if name == key:
            found = [*found, value] if value else []
    return found


def calls_of(group: str) -> set[str]:
    """Return the system calls of a name or an @group, as systemd knows them."""
    if group[0] != "@":
        return {group}
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group],
        check=True,
        capture_output=True,
        text=True,
    )
    words = [line.strip() for line in shown.stdout.splitlines()[1:]]
    found: set[str] = set()
    for word in words:
        if word and word[0] != "#":
            found |= calls_of(word)
    return found


def allowed(units: list[str]) -> set[str]:
    """Return the system calls that a unit allows; @default is always among them."""
    found = calls_of("@default")
    for line in values(units, "SystemCallFilter"):
        for group in line.removeprefix("~").split():
            found = found - calls_of(group) if line[0] == "~" else found | calls_of(group)
    return found | {"execve"}


def filters(units: list[str]) -> list[Filter]:
    """Return the filters of a unit."""
    by_name = Filter(KILL)
    for name in allowed(units):
        by_name.rule(ALLOW, name)
    for name in REFUSED:
        by_name.rule(fails(errno.EPERM), name)
    others = Filter(ALLOW)
    if values(units, "RestrictNamespaces")[-1:] == ["yes"]:
        others.rule(fails(errno.ENOSYS), "clone3")  # as systemd does: the C library knows clone
        for flag in range(32):
            if CLONE_NAMESPACES >> flag & 1:
                bit = 1 << flag
                others.rule(fails(errno.EPERM), "clone", Argument(0, MASKED_EQUAL, bit, bit))
        others.rule(fails(errno.EPERM), "unshare")
        others.rule(fails(errno.EPERM), "setns")
    if values(units, "MemoryDenyWriteExecute")[-1:] == ["yes"]:
        both = mmap.PROT_WRITE | mmap.PROT_EXEC
        others.rule(fails(errno.EPERM), "mmap", Argument(2, MASKED_EQUAL, both, both))
        for name in ("mprotect", "pkey_mprotect"):
            execute = Argument(2, MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC)
            others.rule(fails(errno.EPERM), name, execute)
    return [others, by_name]


def families(units: list[str]) -> Filter:
    """Return the filter of RestrictAddressFamilies: any other family fails."""
    known = [getattr(socket, name) for line in values(units, "RestrictAddressFamilies")
             for name in line.split()]  # fmt: skip
    found = Filter(ALLOW)
    for family in range(64):
        if family not in known:
            refused = Argument(0, MASKED_EQUAL, 0xFFFFFFFF, family)
            found.rule(fails(errno.EAFNOSUPPORT), "socket", refused)
    return found


if __name__ == "__main__":
    end = sys.argv.index("--")
    of_unit, command = sys.argv[1:end], sys.argv[end + 1 :]
    for one in [families(of_unit), *filters(of_unit)]:
        one.load()
    os.execvp(command[0], command)
