"""The container file: an image of it where one can be built, and everywhere its command as PID 1.

What the image would start is read out of the file, and started in a room: as the first process of
a PID namespace, as the image's user, without a capability, under the image's paths.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.room import ROOT, Room, children, no_room

FILE = ROOT / "scripts/container/Containerfile"
QUEUE = "/var/spool/watcher/in"
# An orphan outlives its handler, and becomes a child of PID 1. The handler of "last" has a gate.
CONFIGURATION = f"""
[queues.in]
path = "{QUEUE}"
format = "raw"
handler = {{ exec = ["sh", "-c", '''
(sleep 0.2 </dev/null >/dev/null 2>&1 & echo $! >>/var/spool/orphans)
test $WATCHER_ENTRY != last || {{ echo >/var/spool/at-gate; read line </var/spool/gate; }}
echo $WATCHER_ENTRY >>/var/spool/told'''] }}
"""


def instructions() -> dict[str, str]:
    """Return the instructions of the last stage: those of one name, the last one."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE))
    return dict(line.split(None, 1) for line in text.split("\nFROM ")[-1].splitlines()[1:] if line)


@pytest.fixture
def room(tmp_path):
    if reason := no_room():
        pytest.skip(reason)
    room = Room(tmp_path / "room")
    yield room
    room.close()


def renamed(queue: Path, name: str) -> None:
    (queue / f".{name}").write_bytes(b"x")
    (queue / f".{name}").rename(queue / name)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def start(room: Room, image: dict[str, str]) -> subprocess.Popen[str]:
    """Do in the room what the image's build does, and start what the image starts."""
    argv = [*json.loads(image["ENTRYPOINT"]), *json.loads(image["CMD"])]
    assert argv[:2] == ["watcher", "run"], "the exec form: no shell is between the signals and it"
    program = Path(sys.prefix, "bin/watcher")
    room.run("sh", "-c", f"mkdir -p /opt/watcher/bin && ln -s {program} /opt/watcher/bin/")
    room.run("sh", "-c", image["RUN"])
    room.write("/etc/watcher/watcher.toml", CONFIGURATION.encode())
    room.run("install", "-d", "-o", image["USER"], QUEUE)
    room.run("chown", image["USER"], "/var/spool")
    room.run("mkfifo", "-m", "666", "/var/spool/gate")
    user = ["setpriv", f"--reuid={image['USER']}", f"--regid={image['USER']}", "--clear-groups"]
    user += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    environment = ["env", image["ENV"], "PYTHONDONTWRITEBYTECODE=1"]
    command = room.command(*namespace, *user, *environment, *argv)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_the_command_of_the_image_is_pid_1_reaps_orphans_and_drains(room, eventually):
    image = instructions()
    daemon = start(room, image)
    assert daemon.stderr is not None
    with daemon.stderr as log:
        assert any(" ready: " in line for line in log)
        (unshare,) = children(daemon.pid)
        (first,) = children(unshare)
        status = Path(f"/proc/{first}/status").read_text()
        assert re.search(r"^NSpid:.*\t1$", status, re.MULTILINE), "it is PID 1"
        assert not re.search(r"^Uid:.*\b0\b", status, re.MULTILINE)

        queue = room.path(QUEUE)
        for number in range(10):
            renamed(queue, f"{number}")
        eventually(lambda: len(lines(room.path("/var/spool/told"))) == 10)
        assert len(lines(room.path("/var/spool/orphans"))) == 10
        health = image["HEALTHCHECK"].partition(" CMD ")[2]
        enter = ["nsenter", "--target", f"{first}", "--mount", "--pid", "--root"]
        assert "healthy" in subprocess.check_output(
            [*enter, "env", image["ENV"], "sh", "-c", health], text=True
        )
        eventually(lambda: not children(first))  # the orphans ended, and no zombie is left

        renamed(queue, "last")
        eventually(room.path("/var/spool/at-gate").exists)
        os.kill(first, signal.SIGTERM)
        assert any("draining: 1 " in line for line in log)
        room.path("/var/spool/gate").write_text("go\n")
        assert "drained" in log.read()
    assert daemon.wait() == 0
    assert lines(room.path("/var/spool/told"))[-1] == "last", "TERM let the handler finish"
    assert not [path for path in queue.iterdir() if path.is_file()]


def builder() -> str | None:
    """Return a program that can build an image here, or None."""
    for name in ("podman", "docker"):
        if shutil.which(name):
            asked = subprocess.run([name, "info"], capture_output=True)
            if asked.returncode == 0:
                return name
    return None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_image_is_built_and_serves_a_queue(tmp_path, eventually):
    program = builder()
    if program is None:
        pytest.skip("no program here can build an image")
    page = (ROOT / "docs/install.md").read_text()
    (build,) = re.findall(r"^podman (build .+)$", page, re.MULTILINE)
    subprocess.run([program, *shlex.split(build)], cwd=ROOT, check=True)
    queue = tmp_path / "in"
    queue.mkdir()
    tmp_path.chmod(0o755)
    queue.chmod(0o777)
    (tmp_path / "watcher.toml").write_text(
        '[queues.in]\npath = "/var/spool/watcher"\nformat = "raw"\nhandler = { exec = ["true"] }\n'
    )
    mounts = [f"-v{queue}:/var/spool/watcher", f"-v{tmp_path}:/etc/watcher:ro"]
    daemon = subprocess.Popen([program, "run", "--rm", "--name=watcher-test", *mounts, "watcher"])
    renamed(queue, "a")
    eventually(lambda: not (queue / "a").exists())
    subprocess.run([program, "stop", "watcher-test"], check=True)
    assert daemon.wait(60) == 0


def test_what_the_image_copies_is_there_for_the_build():
    """.dockerignore leaves out all but what the wheel is built of."""
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    setup = (ROOT / "setup.cfg").read_text()
    data = setup.partition("[options.data_files]")[2].partition("\n[")[0]
    for name in re.findall(r"= (\S+)$", data, re.MULTILINE):
        assert any(name.startswith(f"{each}/") for each in kept), f".dockerignore leaves out {name}"
