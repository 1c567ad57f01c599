"""The units of scripts/systemd: systemd's own tools accept them, and a daemon works under them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.nats_server import PROGRAM, serving
from watcher.commit_one import enqueue

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "scripts/systemd"
DROP_INS = UNITS / "drop-ins"
SERVICES = [
    *("watcher.service", "watcher@.service", "watcher-sweep.service"),
    "watcher-work.service",
]
WORST = {None: 1.5, "local-handler.conf": 0.5, "queues-elsewhere.conf": 1.5}
PATIENCE = 60.0  # seconds

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")


def analyze(*arguments):
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, arguments)], capture_output=True, text=True
    )


def unit_with(directory, service, drop_in):
    """Copy a unit, with a drop-in or none, and a command that is there; return its path."""
    unit = directory / service
    text = (UNITS / service).read_text().replace("/usr/bin/watcher", sys.executable)
    unit.write_text(text)
    if drop_in:
        (directory / f"{service}.d").mkdir()
        shutil.copy(DROP_INS / drop_in, directory / f"{service}.d")
    return unit


@needs_systemd
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("drop_in", WORST)
def test_the_exposure_of_a_unit(tmp_path, service, drop_in):
    shown = analyze("security", "--offline=true", unit_with(tmp_path, service, drop_in))
    score = float(re.search(r"exposure level for \S+: ([\d.]+)", shown.stdout)[1])
    assert score <= WORST[drop_in], shown.stdout


@needs_systemd
@pytest.mark.parametrize("drop_in", [None, *sorted(path.name for path in DROP_INS.iterdir())])
def test_systemd_finds_nothing_wrong(tmp_path, drop_in):
    units = [unit_with(tmp_path, service, drop_in) for service in SERVICES]
    shutil.copy(UNITS / "watcher-sweep.timer", tmp_path)
    shown = analyze("verify", "--man=no", *units, tmp_path / "watcher-sweep.timer")
    assert (shown.returncode, shown.stderr) == (0, "")


def test_the_two_daemons_and_the_sweep_have_one_sandbox():
    def of(service):
        text = (UNITS / service).read_text()
        sandboxed = text.partition("\nUser=")[2].partition("\n[Install]")[0]
        return re.sub(r"RuntimeDirectory.*\n", "", sandboxed).rstrip()

    assert of("watcher.service") == of("watcher@.service") == of("watcher-sweep.service")


def test_a_worker_has_the_sandbox_of_a_daemon_without_queues_and_without_a_capability():
    def of(service):
        lines = (UNITS / service).read_text().partition("\n[Service]\n")[2].splitlines()
        return {line for line in lines if line and line[0] != "#"}

    daemon, worker = of("watcher.service"), of("watcher-work.service")
    assert {line.partition("=")[0] for line in daemon - worker} == {
        *("ExecStart", "RuntimeDirectory", "RuntimeDirectoryMode"),
        *("CapabilityBoundingSet", "AmbientCapabilities", "ReadWritePaths"),
    }
    assert {"CapabilityBoundingSet=", "AmbientCapabilities="} < worker - daemon


def test_every_file_is_explained():
    page = (ROOT / "docs/service.md").read_text()
    for path in [*UNITS.iterdir(), *DROP_INS.iterdir()]:
        assert f"`{path.name}`" in page or path.is_dir(), path.name


# -- a daemon under the settings --------------------------------------------------------------

HANDLER = """\
import socket

def handle(entry):
    try:
        socket.socket(socket.AF_INET).close()
    except OSError:
        return
    raise RuntimeError("there is a network")
"""


@pytest.fixture
def place():
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def python_for_all(place):
    """Return commands that let every user start this Python, in a mount namespace of its own."""
    base = Path(sys.base_prefix)
    closed = [path for path in (base, *base.parents) if not path.stat().st_mode & 0o001]
    if not closed:
        return ":"
    (place / "python").mkdir(exist_ok=True)
    return (
        f"mount --bind {base} {place}/python && mount -t tmpfs -o mode=755 none {closed[-1]}"
        f" && mkdir -p {base} && mount --bind {place}/python {base}"
    )


LOCAL = ("watcher.service", "drop-ins/local-handler.conf")


def confined(place, *command, units=LOCAL, capabilities="-all,+lease"):
    """Return the command line that runs a command as the settings of units say."""
    mounts = f"mount --bind {place} {place} && {python_for_all(place)}"
    mounts += ' && mount -o remount,bind,ro / && exec "$@"'
    apart = ["--net"] if units == LOCAL else []
    sets = ("bounding-set", "inh-caps", "ambient-caps")
    return [
        *("unshare", "--mount", *apart, "sh", "-c", mounts, "sh", "setpriv"),
        *("--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
        *(f"--{each}={capabilities}" for each in sets),
        *(sys.executable, str(ROOT / "tests/packaging/sandbox.py")),
        *(*(str(UNITS / unit) for unit in units), "--"),
        *(sys.executable, "-P", "-m", "watcher", *command),
    ]


@pytest.fixture
def queues(place):
    """Three queues, one for each way to run a handler; their configuration; a directory run/."""
    (place / "local.py").write_text(HANDLER)
    handlers = {
        "exec": '{ exec = ["sh", "-c", "cat > /dev/null; id -u"], timeout = "1m" }',
        "isolated": '{ python = "local:handle", isolate = true, memory = "512M", cpu = "10s" }',
        "function": '{ python = "local:handle" }',
    }
    with open(place / "watcher.toml", "w") as file:
        for name, handler in handlers.items():
            queue = place / name
            queue.mkdir()
            os.chown(queue, 65534, 65534)
            print(f'[queues.{name}]\npath = "{queue}"\nhandler = {handler}', file=file)
            print('concurrency = 3\nsweep_every = "1s"', file=file)
    (place / "run").mkdir()
    os.chown(place / "run", 65534, 65534)
    return [place / name for name in handlers]


def answer_of(address):
    """Ask the daemon's page whether the daemon lives."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(address))
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return client.makefile("rb").read()


@needs_systemd
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights away like systemd")
def test_a_daemon_works_with_what_the_local_unit_leaves_it(place, queues, environment):
    environment |= {"NOTIFY_SOCKET": f"{place}/notify", "PYTHONPATH": f"{place}:{ROOT}"}
    with contextlib.ExitStack() as opened:
        manager = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(environment["NOTIFY_SOCKET"])
        os.chmod(environment["NOTIFY_SOCKET"], 0o777)
        manager.settimeout(PATIENCE)
        options = ["--config", f"{place}/watcher.toml", "--http", f"unix:{place}/run/page"]
        argv = confined(place, "run", *options, "--log-format", "json")
        daemon = opened.enter_context(
            subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, cwd="/")
        )
        opened.callback(daemon.kill)
        assert b"READY=1" in manager.recv(4096)
        for queue in queues:
            for number in range(20):
                enqueue(queue, b"message %d" % number, {})
        handled = 0
        while handled < 20 * len(queues):
            record = json.loads(daemon.stderr.readline())
            assert record["level"] == "info", record
            handled += record["event"] == "finish"
        assert b" 200 " in answer_of(place / "run/page").splitlines()[0]
        daemon.send_signal(signal.SIGHUP)
        while b"RELOADING=1" not in manager.recv(4096):
            pass
        daemon.send_signal(signal.SIGTERM)
        rest = daemon.stderr.read()
        assert daemon.wait(PATIENCE) == 0, rest
    argv = confined(place, "check", str(queues[0]))
    checked = subprocess.run(argv, env=environment, capture_output=True, text=True, cwd="/")
    assert "for other users' files too (CAP_LEASE)" in checked.stdout, checked


@needs_systemd
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights away like systemd")
def test_a_worker_works_with_what_its_unit_leaves_it(place, environment, watcher_command):
    if PROGRAM is None:
        pytest.skip("no nats-server")
    run = place / "run"
    run.mkdir(mode=0o700)
    os.chown(run, 65534, 65534)
    environment |= {"NOTIFY_SOCKET": f"{place}/notify", "PYTHONPATH": str(ROOT)}
    environment["RUNTIME_DIRECTORY"] = str(run)
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(serving(place / "nats"))
        init = [*watcher_command, "nats", "init", "--server", server.url, "--stream", "MAIL"]
        subprocess.run(init, env=environment, check=True, capture_output=True)
        (place / "work.toml").write_text(
            f'[work.mail]\nserver = "{server.url}"\nstream = "MAIL"\n'
            'handler = { exec = ["sh", "-c", "cat >/dev/null; id -u"], timeout = "1m" }\n'
        )
        manager = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(environment["NOTIFY_SOCKET"])
        os.chmod(environment["NOTIFY_SOCKET"], 0o777)
        manager.settimeout(PATIENCE)
        argv = confined(
            *(place, "work", "--config", f"{place}/work.toml", "--log-format", "json"),
            units=("watcher-work.service",),
            capabilities="-all",
        )
        worker = opened.enter_context(
            subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, cwd="/")
        )
        opened.callback(worker.kill)
        assert b"READY=1" in manager.recv(4096)
        assert os.listdir(run / "work") == ["mail"]
        server.call(lambda client: client.context.publish("MAIL.x", b"message"))
        events = []
        while "finish" not in events:
            record = json.loads(worker.stderr.readline())
            assert record["level"] == "info", record
            events.append(record["event"])
        worker.send_signal(signal.SIGTERM)
        rest = worker.stderr.read()
        assert worker.wait(PATIENCE) == 0, rest
