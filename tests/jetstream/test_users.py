"""The users of scripts/nats-server/server.conf: each may do what it needs, and no more.

The server traces what each user publishes. So a subject that is needed and not allowed is found,
and one that is allowed and not needed.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("nats")

from tests.nats_server import PROGRAM, NatsServer
from watcher.rules.stream_rules import covers

CONFIGURATION = Path(__file__).parents[2] / "scripts" / "nats-server" / "server.conf"
HASH = "$2b$04$0rt5Czs5ZZwiBoy2ba7mqOTCGXAV3JhACMrBsmA5SqTD7Ua3B.9dK"  # of "secret"
FAILS_ONCE = 'case "$(cat)" in once) [ $WATCHER_ATTEMPT = 2 ] || exit 75;; bad) exit 65;; esac'


@pytest.fixture
def server(tmp_path):
    """A server with the configuration as it is delivered, but for its addresses and its disk."""
    if PROGRAM is None:
        pytest.skip("no nats-server")
    server = NatsServer(tmp_path / "nats")
    text = CONFIGURATION.read_text()
    for there, here in (
        ("0.0.0.0:4222", f"127.0.0.1:{server.port}"),
        ("127.0.0.1:8222", f"127.0.0.1:{server.monitor_port}"),
        ("/var/lib/nats", f"{tmp_path}/store"),
        ("50GB", "1GB"),
    ):
        assert there in text
        text = text.replace(there, here)
    server.config.write_text(f"{text}\ntrace: true\n")
    names = re.findall(r"password: \$(\w+)", text)
    assert len(names) == 3
    server.config.with_name("passwords.conf").write_text(
        "".join(f'{name}: "{HASH}"\n' for name in names)
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def password(tmp_path):
    path = tmp_path / "password"
    path.write_text("secret\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def as_operator(server, password, watcher_command, environment):
    """Run a command as the operator; return its output."""

    def run(*command):
        given = ("--server", server.url, "--stream", "MAIL", "--user", "operator")
        ended = subprocess.run(
            [*watcher_command, *command, *given, "--password-file", str(password)],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


@pytest.fixture
def files(server, password, tmp_path):
    """The configurations of a queue and of a worker, each with its user."""
    (tmp_path / "in").mkdir()
    secret = f'password_file = "{password}"'
    handler = json.dumps(["sh", "-c", FAILS_ONCE])
    (tmp_path / "run.toml").write_text(
        f'[queues.in]\npath = "{tmp_path}/in"\nformat = "raw"\nwriters = "rename"\n'
        f'[queues.in.handler]\nnats = "{server.url}"\nstream = "MAIL"\nuser = "spool"\n{secret}\n'
    )
    (tmp_path / "work.toml").write_text(
        f'[work.mail]\nserver = "{server.url}"\nstream = "MAIL"\nuser = "worker"\n{secret}\n'
        f'directory = "{tmp_path}/copies"\nhandler = {{ exec = {handler}, timeout = "1m" }}\n'
        'retry = { initial = "20ms" }\n'
    )
    return str(tmp_path / "run.toml"), str(tmp_path / "work.toml")


def allowed(user):
    """Return the subjects that a user may publish to."""
    part = CONFIGURATION.read_text().split(f"user: {user} ")[1].partition("subscribe")[0]
    return set(re.findall(r'"([^"]+)"', part.partition("publish")[2]))


def published(log):
    """Return the subjects that each user published to, as the server traced it."""
    found = {}
    for user, subject in re.findall(r'/user:(\w+)" - <<- \[H?PUB (\S+)', log):
        found.setdefault(user, set()).add(subject)
    return found


@pytest.mark.slow
def test_each_user_may_do_what_it_needs_and_no_more(
    server, files, as_operator, start_daemon, watcher_command, environment, tmp_path, eventually
):
    run, work = files
    assert "MAIL: made" in as_operator("nats", "init", "--window", "1s")
    for body in ("once", "bad", "fine"):
        (tmp_path / "in" / body).write_text(body)
    start_daemon(None, "--config", run).wait_for("finish", 3)
    for command in (["check"], ["nats", "check"]):
        ended = subprocess.run(
            [*watcher_command, *command, "--config", run],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 wait" in ended.stdout
    worker = start_daemon(None, "--config", work, command="work")
    worker.wait_for("finish", 2)
    worker.wait_for("reject")
    assert "bad" in as_operator("work", "list")
    as_operator("work", "requeue", "ALL")
    worker.wait_for("reject", 2)
    as_operator("work", "delete", "--yes", "ALL")
    as_operator("nats", "check")
    eventually(lambda: "STREAM.PURGE.MAIL " in server.log.read_text())
    worker.end()

    log = server.log.read_text()
    refused = set(re.findall('(?i)publish violation.* subject "([^"]+)', log))
    assert refused <= {"$JS.API.STREAM.MSG.GET.MAIL"}  # by spool: how old the oldest one is
    found = published(log)
    assert set(found) == {"spool", "worker", "operator"}
    for user, subjects in found.items():
        needed = {
            pattern for pattern in allowed(user) if any(covers(pattern, one) for one in subjects)
        }
        assert needed == allowed(user), user


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("spool", "MAIL-DEAD.x"),
        ("spool", "$JS.API.STREAM.PURGE.MAIL"),
        ("spool", "$JS.API.CONSUMER.MSG.NEXT.MAIL.watcher"),
        ("worker", "MAIL.x"),
        ("worker", "$JS.API.STREAM.DELETE.MAIL"),
        ("worker", "$JS.API.STREAM.PURGE.MAIL-DEAD"),
    ],
)
def test_what_a_user_may_not_do(user, subject):
    assert not any(covers(pattern, subject) for pattern in allowed(user))
