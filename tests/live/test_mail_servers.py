"""`lmtp` to a real Dovecot and `smtp` to a real Postfix: killed, full, slow, and as they are."""

from __future__ import annotations

import json
import subprocess

import pytest

import watcher
from tests.real_mail_servers import Dovecot, Postfix, missing

ANN, BOB = "ann@example.org", "bob@example.org"
MANY = 120  # entries


def server_of(kind):
    if reason := missing(kind.__name__.lower()):
        pytest.skip(reason)
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def dovecot():
    yield from server_of(Dovecot)


@pytest.fixture(scope="module")
def postfix():
    yield from server_of(Postfix)


@pytest.fixture
def config(queue, tmp_path):
    """Write a configuration with a handler; return its path."""

    def write(handler):
        file = tmp_path / "watcher.toml"
        file.write_text(
            f'[queues.q]\npath = "{queue}"\nhandler = {handler}\n'
            'concurrency = 2\ngrace_age = "0s"\n'
            '[queues.q.retry]\ninitial = "50ms"\nmax = "200ms"\n'
        )
        return str(file)

    return write


@pytest.fixture
def run(watcher_command, environment):
    def running(*argv, status=0):
        ended = subprocess.run(
            [*watcher_command, *argv], env=environment, text=True, capture_output=True
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout

    return running


def put(queue, *recipients, body="hello"):
    message = f"Subject: x\nFrom: list@example.net\n\n{body}\n".encode()
    metadata = {"recipients": list(recipients), "sender": "list-bounces@example.net"}
    return watcher.enqueue(queue, message, metadata)


def note(queue, state):
    (file,) = (queue / ".watcher" / state).glob("*.json")
    return json.loads(file.read_text())


@pytest.mark.slow
def test_dovecot_answers_for_each_recipient_and_a_requeue_sends_to_the_rest(
    dovecot, queue, config, run
):
    dovecot.users({"r1": None, "r2": "1K"})
    file = config(f'{{ lmtp = "{dovecot.path}" }}')
    assert "greets" in run("check", "--config", file)
    put(queue, "r1", "r2", "r3", body="x" * 2000)
    run("sweep", str(queue), "--config", file)
    told = note(queue, "dead")
    assert "r3: 550 5.1.1 " in told["why"]
    assert "r2: 552 5.2.2 " in told["why"]
    assert told["remembered"]["accepted"] == ["r1"]
    dovecot.users({"r1": None, "r2": None, "r3": None})
    run("requeue", str(queue), "ALL")
    run("sweep", str(queue), "--config", file)
    keys = [dovecot.delivered(user) for user in ("r1", "r2", "r3")]
    assert keys == [[told["remembered"]["key"]]] * 3
    assert list((queue / ".watcher" / "dead").iterdir()) == []


@pytest.mark.slow
def test_postfix_takes_a_few_recipients_at_a_time_over_tls(postfix, queue, config, run, eventually):
    file = config(
        f'{{ smtp = "{postfix.address}", tls = "starttls", ca_file = "{postfix.certificate}" }}'
    )
    assert "greets over TLS (starttls)" in run("check", "--config", file)
    put(queue, ANN, "nowhere@example.org", *(f"u{n}@else.example" for n in range(12)), BOB)
    run("sweep", str(queue), "--config", file)
    told = note(queue, "dead")
    assert "1 of 15 recipients refused: nowhere@example.org: 550 5.1.1 " in told["why"]
    assert len(told["remembered"]["accepted"]) == 14
    key = told["remembered"]["key"]
    eventually(lambda: [postfix.delivered(user) for user in ("ann", "bob")] == [[key]] * 2)
    assert "Anonymous TLS connection established" in postfix.log() or "starttls=1" in postfix.log()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "options", "state", "why"),
    [
        ("full", "", "deferred", "452 4.3.1 Insufficient system storage"),
        ("slow", ', timeout = "300ms"', "deferred", "timeout: no answer to DATA in 300ms"),
        ("address", "", "dead", "the server takes 100,000 at most"),
        ("address", ', tls = "starttls"', "", "self-signed certificate; see `ca_file`"),
    ],
    ids=["full", "slow", "too large", "an unknown certificate"],
)
def test_what_postfix_refuses_is_tried_again_or_not(
    postfix, queue, config, run, service, options, state, why
):
    file = config(f'{{ smtp = "{getattr(postfix, service)}"{options} }}')
    put(queue, ANN, body="x\n" * (60_000 if state == "dead" else 10))
    said = run(
        "sweep", str(queue), "--config", file, status={"dead": 0, "deferred": 75, "": 78}[state]
    )
    assert why in (note(queue, state)["why"] if state else said)
    assert len(list(queue.glob("*.pck"))) == (0 if state else 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dovecot", "postfix"])
def test_a_server_killed_in_the_middle_loses_nothing(
    request, kind, queue, config, start_daemon, eventually
):
    server = request.getfixturevalue(kind)
    if kind == "dovecot":
        server.users({"k1": None, "k2": None})
        boxes = users = ["k1", "k2"]
        handler = f'{{ lmtp = "{server.address}" }}'
    else:
        boxes, users = ["ann", "bob"], [ANN, BOB]
        handler = f'{{ smtp = "{server.address}" }}'
    before = {box: set(server.delivered(box)) for box in boxes}
    names = [put(queue, *users, body=str(number)) for number in range(MANY)]
    daemon = start_daemon(None, "--config", config(handler))
    daemon.wait_for("finish", MANY // 4)
    server.kill()
    daemon.wait_for("defer")
    server.start()
    daemon.wait_for("finish", MANY)
    assert daemon.events("reject") == []
    done = {record["entry"] for record in daemon.events("finish")}
    assert done == set(names)
    for box in boxes:
        keys = eventually(
            lambda box=box: (
                found if len(set(found := server.delivered(box)) - before[box]) == MANY else None
            )
        )
        new = [key for key in keys if key not in before[box]]
        # Twice: at most what each worker was sending when the server was killed.
        assert len(new) - len(set(new)) <= 2
