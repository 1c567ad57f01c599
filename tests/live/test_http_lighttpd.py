"""`http` with a server of another program: lighttpd, whose CGI stores each message by its key."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

pytest.importorskip("httpx2")

from tests.renaming import rename_in
from watcher.handle.kinds.http_post import Http

LIGHTTPD = shutil.which("lighttpd", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LIGHTTPD is None, reason="no lighttpd here: make packages"),
]
STORE = """#!/bin/sh
case $PATH_INFO in
    /full) printf 'Status: 507 No\\r\\nRetry-After: 1\\r\\n\\r\\nno space\\n'; exit ;;
esac
key=$(printf %s "$HTTP_IDEMPOTENCY_KEY" | tr -cd 0-9a-f)
cat > "$STORE/$$.new"
if ln "$STORE/$$.new" "$STORE/$key" 2>/dev/null; then said=201; else said=200; fi
rm "$STORE/$$.new"
echo "$HTTP_WATCHER_ENTRY $said" >> "$STORE/log"
printf 'Status: %s Words\\r\\n\\r\\n' "$said"
"""


class Lighttpd:
    """One lighttpd, which can be killed and started again on the same port."""

    def __init__(self, directory):
        self.store = directory / "store"
        self.store.mkdir()
        (directory / "in.cgi").write_text(STORE.replace("$STORE", str(self.store)))
        (directory / "in.cgi").chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._config = directory / "lighttpd.conf"
        self._config.write_text(
            f'server.document-root = "{directory}"\nserver.port = {self.port}\n'
            'server.bind = "127.0.0.1"\nserver.modules = ("mod_cgi")\n'
            'cgi.assign = (".cgi" => "/bin/sh")\nserver.max-request-size = 64\n'
            f'server.upload-dirs = ("{directory}")\nserver.errorlog = "{directory}/errors"\n'
        )
        self.process = None

    def start(self):
        self.process = subprocess.Popen([LIGHTTPD, "-D", "-f", self._config])

    def kill(self):
        self.process.kill()
        self.process.wait()

    @property
    def log(self):
        file = self.store / "log"
        return sorted(file.read_text().split("\n")[:-1]) if file.exists() else []


@pytest.fixture
def lighttpd(tmp_path):
    """A server that is not running yet."""
    directory = tmp_path / "www"
    directory.mkdir()
    server = Lighttpd(directory)
    yield server
    if server.process is not None:
        server.kill()


@pytest.fixture
def serve(queue, tmp_path, start_daemon, lighttpd):
    def start(path):
        config = tmp_path / "w.toml"
        url = f"http://127.0.0.1:{lighttpd.port}/in.cgi{path}"
        config.write_text(
            f'[queues.q]\npath = "{queue}"\nformat = "raw"\nwriters = "rename"\nbreaker = 0\n'
            f'handler = {{ http = "{url}" }}\nretry = {{ initial = "200ms", max = "200ms" }}\n'
        )
        return start_daemon(None, "--config", str(config))

    return start


def test_each_message_is_stored_once_also_if_the_server_is_killed_meanwhile(queue, lighttpd, serve):
    daemon = serve("")
    rename_in(queue, "early.csv", b"early")
    daemon.wait_for("defer")  # no server yet
    lighttpd.start()
    daemon.wait_for("finish")
    for number in range(20):
        rename_in(queue, f"{number}.csv", b"%d" % number)
        if number == 10:
            lighttpd.kill()
            lighttpd.start()
    daemon.wait_for("finish", 21)
    assert daemon.end() == 0
    stored = sorted(path.read_bytes() for path in lighttpd.store.iterdir() if path.name != "log")
    assert stored == sorted([b"early", *(b"%d" % number for number in range(20))])
    assert len([line for line in lighttpd.log if line.endswith(" 201")]) == 21


def test_a_message_that_the_server_finds_too_large_is_rejected_and_the_others_are_not(
    queue, lighttpd, serve
):
    lighttpd.start()
    rename_in(queue, "large.csv", b"x" * 100_000)
    rename_in(queue, "small.csv", b"small")
    daemon = serve("")
    daemon.wait_for("finish")
    [rejected] = daemon.wait_for("reject")
    assert daemon.end() == 0
    assert "answered 413" in str(rejected)
    assert (queue / ".watcher/dead/large.csv").exists()


def test_a_server_without_space_gets_the_entry_again_when_it_says(queue, lighttpd, serve):
    lighttpd.start()
    rename_in(queue, "1.csv")
    daemon = serve("/full")
    [deferred] = daemon.wait_for("defer")
    assert "answered 507: no space" in str(deferred)
    assert daemon.end() == 0


def test_a_look_finds_the_server_and_leaves_nothing(lighttpd, eventually):
    lighttpd.start()
    url = f"http://127.0.0.1:{lighttpd.port}/in.cgi"
    found = eventually(lambda: [each for each in Http(url).try_target() if each.grade == "ok"])
    assert found[0].what.startswith("the server answers OPTIONS with ")
    assert [path.name for path in lighttpd.store.iterdir() if path.name != "log"] == []
