"""A room for what changes a whole system: an overlay of / in namespaces of its own, for root.

What is installed, removed or started there leaves the machine as it is: its own root is unmounted
in the room, and a test writes into the room by commands of the room, or into /run, /tmp and
/var/spool, which are in memory. There is no systemd (`systemctl.py` stands in for it). Every user
may read the checkout and the Python that runs the tests.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_MEMORY = ("/run", "/tmp", "/var/spool")
SETUP = r"""
set -e
cd "$1"
shift
mount -t tmpfs -o mode=755 room .
cd "$PWD"
mkdir -m 755 upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work room root
for empty in run var/spool tmp; do
    mount -t tmpfs -o mode=755 room "root/$empty"
done
chmod 1777 root/tmp
for needed in "$@"; do # a directory above, such as /root, may be closed to other users
    mkdir -p "root$needed"
    path=$needed
    while path=$(dirname "$path"); [ "$path" != / ]; do chmod a+x "root$path"; done
    mount --bind "$needed" "root$needed"
    mount -o remount,bind,ro "root$needed"
done
mount --rbind /dev root/dev
mkdir root/run/old
cd root
pivot_root . run/old
exec chroot . /bin/sh -c '
set -e
mount -t proc proc /proc
umount -l /run/old
rmdir /run/old
rm -f /usr/sbin/policy-rc.d
exec /usr/bin/python3 -ISc "
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps what becomes a child of PID 1
print(\"ready\", flush=True)
sys.stdin.read()
"'
"""
OVERLAY = """
mount -t tmpfs room /mnt && cd /mnt && mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work room root
"""


class Room:
    """A running room."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        needed = [Path(sys.base_prefix), ROOT, Path(sys.prefix).resolve()]
        needed = [each for each in needed if not set(each.parents) & set(needed)]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        self._init = subprocess.Popen(
            [*namespaces, "sh", "-c", SETUP, "room", str(directory), *map(str, needed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._init.stdout is not None
        assert self._init.stderr is not None
        if self._init.stdout.readline() != b"ready\n":
            raise OSError(self._init.stderr.read().decode())
        self.pid = children(self._init.pid)[0]
        # Descriptors: whatever becomes of the room, these paths are of no other root.
        self._fds = {
            each: os.open(f"/proc/{self.pid}/root{each}", os.O_PATH | os.O_DIRECTORY)
            for each in IN_MEMORY
        }
        for each, fd in self._fds.items():
            assert not os.path.exists(each) or not os.path.samestat(os.fstat(fd), os.stat(each))

    def path(self, inside: str) -> Path:
        """Return a path below /run, /tmp or /var/spool of the room, as the test may open it."""
        (above,) = (each for each in IN_MEMORY if f"{inside}/".startswith(f"{each}/"))
        return Path(f"/proc/self/fd/{self._fds[above]}{inside.removeprefix(above)}")

    def command(self, *argv: str) -> list[str]:
        """Return the command that runs a command in the room."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--root"]
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        return [*enter, "env", "-i", path, "DEBIAN_FRONTEND=noninteractive", *argv]

    def run(self, *argv: str, status: int = 0, write: bytes = b"") -> str:
        """Run a command as root, have it end with this status; return its whole output."""
        ended = subprocess.run(
            self.command(*argv),
            input=write,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=100,
        )
        output = ended.stdout.decode()
        assert ended.returncode == status, f"{argv}: {ended.returncode}\n{output}"
        return output

    def write(self, inside: str, content: bytes) -> None:
        """Write a file of the room."""
        self.run("sh", "-c", 'cat >"$0"', inside, write=content)

    def exists(self, inside: str) -> bool:
        """Whether the room has this file or directory."""
        return self.run("sh", "-c", 'test -e "$0" && echo yes || echo no', inside) == "yes\n"

    def close(self) -> None:
        """End the room with every process in it."""
        self._init.send_signal(signal.SIGKILL)  # --kill-child: PID 1 of the room, and so all
        self._init.communicate()
        for fd in self._fds.values():
            os.close(fd)


def children(pid: int) -> list[int]:
    """Return the children of a process's main thread."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@functools.cache
def no_room() -> str:
    """Return why there can be no room here, or ""."""
    programs = ("unshare", "nsenter", "setpriv", "pivot_root")
    missing = [each for each in programs if not shutil.which(each)]
    if os.geteuid() != 0 or missing:
        return f"needs {', '.join(missing) or 'root'}"
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", OVERLAY], capture_output=True, text=True
    )
    return f"no overlay of / here: {tried.stderr.strip()}" if tried.returncode else ""
