"""docs/beyond-one-machine.md does what it says: machines, their servers, workers, and an entry.

`machines.py` follows the page, each machine of it with a network, a host name and directories of
its own. Without root, or where namespaces are refused, its configurations are read all the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nats_server import PROGRAM
from watcher.config.load import load
from watcher.config.work_settings import work_from_file

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "beyond-one-machine.md"
NAMESPACES = ["unshare", *["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]]
NEEDED = ("unshare", "nsenter", "ip", "hostname", "pkill")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no nats-server")


@pytest.fixture
def follow(tmp_path):
    """Follow a text as `machines.py` does."""
    missing = [program for program in NEEDED if not shutil.which(program)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs {', '.join(missing) or 'root'}")
    bridge = subprocess.run(
        [*NAMESPACES, "ip", "link", "add", "bridge", "type", "bridge"],
        capture_output=True,
        text=True,
    )
    if bridge.returncode:
        pytest.skip(f"no namespaces or no bridges here: {bridge.stderr.strip()}")
    room = tmp_path / "room"
    room.mkdir()
    page = tmp_path / "page.md"

    def run(text, patience="40"):
        page.write_text(text)
        return subprocess.run(
            [*NAMESPACES, sys.executable, str(HERE / "machines.py"), str(page), str(room)],
            env={**os.environ, "RECIPE_PATIENCE": patience},
            capture_output=True,
            text=True,
        )

    yield run
    shutil.rmtree(room)


@pytest.mark.slow
def test_the_page_does_what_it_says(follow):
    ended = follow(PAGE.read_text())
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "block",
    [
        "```console\nspool$ hostname\nworker\n```\n",
        "```console\nworker$ watcher work --server nats://10.0.0.2 --stream A\nready\n```\n",
        "```sh\n# /srv/a: on spool\n```\n```console\nworker$ cat /srv/a\n# /srv/a: on spool\n```\n",
    ],
)
def test_a_page_that_does_not_say_what_happens_is_found(block, follow):
    ended = follow(block, patience="0.5")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "the page says" in ended.stdout or "does not show" in ended.stdout


def test_two_machines_take_ten_commands():
    section = PAGE.read_text().split("\n## Two machines, from nothing\n")[1].split("\n## ")[0]
    assert len(re.findall(r"^\w+\$ ", section, re.MULTILINE)) == 10


def test_the_configurations_of_the_page_are_accepted(tmp_path):
    pytest.importorskip("nats")
    found = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    for block in found:
        read = work_from_file if "[work." in block else lambda path: load(path, {})
        (tmp_path / "watcher.toml").write_text(block)
        assert read(str(tmp_path / "watcher.toml"))
