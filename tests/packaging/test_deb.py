"""The Debian package: installed, started, upgraded under load, removed and purged.

No entry is lost and none is handled twice in an upgrade; no queue's file is touched by a removal.
The commands are those of docs/install.md.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.packaging.room import ROOT, Room, no_room

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # pip may have to download

PAGE = (ROOT / "docs/install.md").read_text()
CONFIGURATION = """
[daemon]
http = "unix:/var/spool/watcher/http"

[queues.in]
path = "/var/spool/watcher/in"
format = "raw"
concurrency = 4
grace_age = "2s"
handler = { exec = ["sh", "-c", 'echo begin $WATCHER_ENTRY >>/var/spool/told; sleep 0.05; \
echo end $WATCHER_ENTRY >>/var/spool/told'] }
"""
SCRIPTS = [
    f"scripts/{name}" for name in ("packages", "systemd", "monitoring", "nats-server", "completion")
]
SOURCES = ("watcher", "docs", *SCRIPTS)
FILES = ("Makefile", "scripts/make_venv", "setup.cfg", "pyproject.toml", "LICENSE", "README.md")
FEWER = {"EXTRAS": "page"}  # without rich, which brings a thousand files that take their time


def as_written(command: str) -> list[str]:
    """Return the words of a command that docs/install.md has in a line of its own."""
    assert f"\n{command}\n" in re.sub(" +# .*", "", PAGE), f"docs/install.md has no: {command}"
    return command.split()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Copy what an installation is built of: a build writes into its directory."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=lambda *_: ["__pycache__"])
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture
def room(tmp_path):
    if reason := no_room():
        pytest.skip(reason)
    room = Room(tmp_path / "room")
    room.write("/usr/bin/systemctl", Path(__file__).with_name("systemctl.py").read_bytes())
    room.path("/run/systemd/system").mkdir(parents=True)
    room.run("rm", "-f", "/var/lib/man-db/auto-update")  # an index of all pages, for each dpkg
    yield room
    room.close()


@pytest.fixture(scope="module")
def packages(sources):
    """Build the package as the page says; and the same program as a later version."""
    python = subprocess.run(["/usr/bin/python3", "-c", "import ensurepip, tomllib"], check=False)
    if not shutil.which("dpkg-deb") or python.returncode:
        pytest.skip("needs dpkg-deb, and python3-venv of the distribution")
    quick = {**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "none", **FEWER}
    subprocess.run(as_written("make deb"), cwd=sources, env=quick, check=True)
    (first,) = (sources / "dist").glob("spool-watcher_*.deb")
    content = subprocess.check_output(["dpkg-deb", "--fsys-tarfile", first])
    assert str(sources).encode() not in content, "nothing in it names the place of the build"
    tree = sources / "tree"
    subprocess.run(["dpkg-deb", "-R", first, tree], check=True)
    for name, text in (
        ("DEBIAN/control", "Version: "),
        ("usr/lib/watcher/lib/python3*/site-packages/watcher/__init__.py", '__version__ = "'),
    ):
        (path,) = tree.glob(name)
        changed = path.read_text().replace(text, f"{text}9.", 1)
        path.write_text(changed)
    second = sources / "dist" / "second.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, second], check=True)
    shutil.rmtree(tree)
    return first, second


class Load:
    """Renames files into the queue until it is told to end; at most 50 wait there."""

    def __init__(self, queue: Path) -> None:
        self._queue = queue
        self._end = threading.Event()
        self.written: list[str] = []
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while not self._end.wait(0.01):
            if len(os.listdir(self._queue)) > 50:
                continue
            name = f"{len(self.written):06}"
            part = self._queue / f".{name}.tmp"
            part.write_bytes(name.encode())
            part.rename(self._queue / name)
            self.written.append(name)

    def end(self) -> list[str]:
        self._end.set()
        self._thread.join()
        return self.written


def told(room: Room, what: str) -> list[str]:
    """Return the entries of which the handler said that it begins, or ends."""
    path = room.path("/var/spool/told")
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.startswith(f"{what} ")]


def health(room: Room) -> str:
    """Return the first line that the page's process answers, in the room's own Python packages."""
    program = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/var/spool/watcher/http');"
        "s.sendall(b'GET /healthz HTTP/1.0\\r\\n\\r\\n'); print(s.makefile().readline())"
    )
    return room.run("/usr/lib/watcher/bin/python", "-c", program).strip()


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Return each file below a directory, with its inode and its content."""
    return {
        str(path.relative_to(directory)): (path.stat().st_ino, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


def install(room: Room, package: Path, *argv: str) -> None:
    """Install a package in the room, by dpkg, or by apt, which takes more time."""
    shutil.copy(package, room.path("/tmp") / package.name)
    room.run(*(argv or ("dpkg", "--install")), f"/tmp/{package.name}")


def test_it_is_installed_upgraded_under_load_and_removed_and_loses_nothing(
    packages, room, eventually
):
    first, second = packages
    apt = as_written("apt install ./dist/spool-watcher_*.deb")[:2]
    install(room, first, *apt, "-y")  # it finds what the package depends on
    asked = room.path("/run/asked")
    assert asked.read_text() == "daemon-reload\n", "no queue is configured: nothing is started"
    assert "active" not in room.run("systemctl", "list-units", "watcher*")
    version = first.name.split("_")[1]
    as_other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert version in room.run(*as_other, "watcher", "--version")
    assert room.run("stat", "-c", "%U %a", "/var/spool/watcher", "/var/lib/watcher").split() == [
        *("watcher", "755", "watcher", "750")
    ]

    room.write("/etc/watcher/watcher.toml", CONFIGURATION.encode())
    room.run(*as_written("install -d -o watcher -g watcher /var/spool/watcher/in"))
    room.run("install", "-o", "watcher", "/dev/null", "/var/spool/told")
    check = "runuser -u watcher -- watcher check --config /etc/watcher/watcher.toml"
    assert "\n  bad " not in room.run(*as_written(check))
    room.run(*as_written("systemctl enable --now watcher.service"))
    queue = room.path("/var/spool/watcher/in")
    load = Load(queue)
    try:
        eventually(lambda: len(told(room, "end")) > 20)
        eventually(lambda: health(room) == "HTTP/1.0 200 OK")
        before = asked.read_text()
        install(room, second)
        count = len(told(room, "end"))
        eventually(lambda: len(told(room, "end")) > count + 20)
        eventually(lambda: health(room) == "HTTP/1.0 200 OK")
    finally:
        written = load.end()
    assert asked.read_text().removeprefix(before) == (
        "stop watcher.service\ndaemon-reload\nstart watcher.service\n"
    )
    assert f"9.{version}" in room.run("watcher", "--version")
    assert room.run("cat", "/etc/watcher/watcher.toml") == CONFIGURATION
    eventually(lambda: len(told(room, "end")) >= len(written))
    handled = collections.Counter(told(room, "end"))
    assert handled == collections.Counter(written), "each once"
    assert len(told(room, "begin")) == len(written), "and no attempt was broken off"
    assert "\n         0 missing\n" in room.run("watcher", "audit", "/var/spool/watcher/in")
    log = room.path("/run/watcher.service.log").read_text()
    assert "Traceback" not in log

    remove_and_purge(room, first)


def remove_and_purge(room: Room, package: Path) -> None:
    """With an entry that is held: it stays, whatever is removed."""
    queue = room.path("/var/spool/watcher/in")
    room.run("watcher", "pause", "/var/spool/watcher/in", "--reason", "test")
    (queue / ".kept").write_bytes(b"kept")
    (queue / ".kept").rename(queue / "kept")
    assert as_written("apt remove spool-watcher")
    room.run("dpkg", "--remove", "spool-watcher")
    assert "active" not in room.run("systemctl", "list-units", "watcher*")
    assert not room.exists("/usr/lib/watcher")
    kept = contents(queue)
    assert kept["kept"][1] == b"kept"

    install(room, package)  # the configuration was kept, with a queue: it is served again
    assert "active" in room.run("systemctl", "list-units", "watcher*")
    room.run("dpkg", "--remove", "spool-watcher")
    kept = contents(queue)

    output = room.run(*as_written("apt purge spool-watcher"), "-y")
    assert "/var/spool/watcher stays" in output
    assert contents(queue) == kept
    assert not room.exists("/etc/watcher/watcher.toml")
    assert room.run("sh", "-c", "find /etc/systemd /usr/lib/systemd -name 'watcher*'") == ""
    assert room.run("id", "-un", "watcher") == "watcher\n", "the owner of what is kept"
