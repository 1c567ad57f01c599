"""Dovecot reads the Maildir that the handler `maildir` delivers to, and moves messages in it."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("doveadm") is None, reason="needs Dovecot")

OWNER = 65534
MOMENT = 1_700_000_000
HASH = "ab" * 20


@pytest.fixture
def box():
    """Return a Maildir of a user that is not root: Dovecot reads no mail as root."""
    place = Path(tempfile.mkdtemp(prefix="watcher-test."))
    place.chmod(0o755)
    (place / "Maildir").mkdir()
    if os.geteuid() == 0:
        os.chown(place / "Maildir", OWNER, OWNER)
    yield place / "Maildir"
    shutil.rmtree(place)


@pytest.fixture
def doveadm(box):
    """Run doveadm as the owner of the Maildir; return what it prints."""
    config = box.parent / "dovecot.conf"
    config.write_text(
        f"base_dir = {box.parent}/run\nstate_dir = {box.parent}/run\nlog_path = /dev/stderr\n"
        f"mail_location = maildir:{box}\nfirst_valid_uid = 0\nssl = no\n"
    )
    user = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"]
    prefix = user if os.geteuid() == 0 else []

    def run(*arguments):
        ended = subprocess.run(
            [*prefix, "doveadm", "-c", str(config), *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(box.parent), "USER": "anna"},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


@pytest.fixture
def deliver(queue, box, watcher_command, environment):
    """Put three messages into a Mailman queue, with the same names and times; sweep it."""
    config = box.parent / "watcher.toml"
    config.write_text(
        f'[queues.q]\npath = "{queue}"\ngrace_age = "0s"\n'
        f'handler = {{ maildir = "{box}", create = true }}\n'
    )

    def sweep():
        for number in range(3):
            entry = queue / f"1700000000.{number}+{HASH}.pck"
            data = pickle.dumps(b"Subject: %d\n\nbody\n" % number, 2) + pickle.dumps({}, 2)
            entry.write_bytes(data)
            os.utime(entry, (MOMENT, MOMENT))
        argv = [*watcher_command, "sweep", str(queue), "--config", str(config)]
        subprocess.run(argv, env=environment, check=True, capture_output=True)
        assert not list(queue.glob("*.pck"))

    return sweep


def test_dovecot_reads_each_message_and_none_comes_again_after_it_did(box, doveadm, deliver):
    deliver()
    fetched = doveadm("-f", "tab", "fetch", "hdr.subject size.physical", "all")
    assert sorted(fetched.splitlines()[1:]) == ["0\t17", "1\t17", "2\t17"]
    doveadm("flags", "add", "\\Seen \\Flagged", "all")
    assert all(name.endswith(":2,FS") for name in os.listdir(box / "new")), "it leaves them there"
    deliver()  # as after a crash that left the entries in the queue
    assert len(doveadm("-f", "tab", "fetch", "uid", "all").splitlines()) == 1 + 3
