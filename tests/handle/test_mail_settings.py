"""How `lmtp` and `smtp` are configured, and how `watcher check` tries their server."""

from __future__ import annotations

import os

import pytest

from tests.mail_server import MailServer
from watcher.errors import BadConfiguration
from watcher.handle.handler_kinds import read_handler
from watcher.rules.finding import BAD, OK


@pytest.fixture
def server():
    made = MailServer(features=("AUTH PLAIN",))
    yield made
    made.close()


@pytest.fixture
def password(tmp_path):
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ({"lmtp": "x"}, 'lmtp: expected "HOST:PORT"'),
        ({"smtp": "localhost"}, 'smtp: expected "HOST:PORT"'),
        ({"smtp": "x:25", "from": "a b"}, "from: expected an address"),
        ({"smtp": "x:25", "to": []}, "to: expected an address"),
        ({"smtp": "x:25", "to": ["a@x", "-b"]}, "to: expected an address"),
        ({"smtp": "x:25", "tls": "ssl"}, 'tls: expected "starttls"'),
        ({"lmtp": "/run/lmtp", "tls": "starttls"}, 'tls: expected "none"'),
        ({"smtp": "localhost:25", "ca_file": "/x"}, "ca_file: expected tls beside it"),
        ({"smtp": "x:25", "ca_file": "x"}, "ca_file: expected the absolute path"),
        ({"smtp": "x:25", "user": "a"}, "password_file: expected both"),
        ({"smtp": "x:25", "password_file": "/a"}, "user: expected both"),
        (
            {"smtp": "x:25", "user": "a", "password_file": "/a", "tls": "none"},
            'tls: expected "starttls" or "implicit"',
        ),
        ({"lmtp": "/run/lmtp", "user": "a"}, "unknown field `user`"),
        ({"smtp": "x:25", "timeout": "0s"}, "timeout: expected"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(handler, expected):
    with pytest.raises(BadConfiguration) as caught:
        read_handler(handler, "handler")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("handler", "used"),
    [
        ({"smtp": "localhost:25"}, "none"),
        ({"smtp": "mx.example.org:25"}, "starttls"),
        ({"smtp": "localhost:25", "tls": "starttls"}, "starttls"),
        ({"lmtp": "/run/lmtp"}, "none"),
        ({"lmtp": "10.0.0.1:24"}, "starttls"),
    ],
)
def test_mail_to_another_machine_is_encrypted_unless_the_operator_says_no(handler, used):
    settings = read_handler(handler, "handler")
    assert settings.tls_used == used
    assert settings.endless() == ""


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [
        (0o644, "s3cret", "chmod 600"),
        (0o600, "\n", "no password"),
        (0o600, "é", "no password"),
        (None, "", "No such file"),
    ],
)
def test_a_password_file_is_private_and_has_a_password(tmp_path, password, mode, text, said):
    if mode is None:
        password.unlink()
    else:
        password.write_text(text)
        password.chmod(mode)
    handler = {"smtp": "localhost:25", "user": "a", "password_file": str(password)}
    with pytest.raises(BadConfiguration) as caught:
        read_handler(handler, "handler").load()
    assert f"handler.password_file: {tmp_path}/password: " in str(caught.value)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_of_certificates_that_is_none_is_named(tmp_path, password):
    for file in (tmp_path / "nowhere", password):
        with pytest.raises(BadConfiguration, match=f"handler.ca_file: {file}: expected"):
            read_handler({"smtp": "x:25", "ca_file": str(file)}, "handler").load()


def test_check_greets_and_logs_in_and_sends_nothing(server, password):
    handler = {"smtp": server.address, "user": "a", "password_file": str(password)}
    (found,) = read_handler(handler, "handler").try_target()
    assert (found.grade, found.what) == (OK, f"{server.address} greets, and takes the password")
    assert server.closed.acquire(timeout=30)
    verbs = [command.split()[0].lower() for command in server.commands]
    assert verbs == ["ehlo", "auth", "quit"]


@pytest.mark.parametrize(
    ("stage", "reply", "code"),
    [
        ("GREETING", b"450 not now", os.EX_UNAVAILABLE),
        ("GREETING", b"554 not you", os.EX_CONFIG),
        ("AUTH", b"535 wrong", os.EX_CONFIG),
    ],
)
def test_check_says_what_the_server_says(server, password, stage, reply, code):
    server.answers[stage] = lambda _argument: reply
    handler = {"smtp": server.address, "user": "a", "password_file": str(password)}
    (found,) = read_handler(handler, "handler").try_target()
    assert (found.grade, found.code) == (BAD, code)
    assert reply.decode() in found.what


def test_check_names_a_server_that_is_not_there(server):
    server.close()
    (found,) = read_handler({"smtp": server.address}, "handler").try_target()
    assert (found.grade, found.about) == (BAD, "handler")
    assert found.what.startswith(f"{server.address}: ")
    assert found.code == os.EX_UNAVAILABLE
