"""Addresses of the page: what is read, what is refused, and which hosts a request may name."""

from __future__ import annotations

import pytest

from watcher.rules.http_address import HttpAddress, parse
from watcher.rules.option import WrongValue


@pytest.mark.parametrize(
    ("text", "address", "private"),
    [
        ("127.0.0.1:9180", ("127.0.0.1", 9180, ""), True),
        ("127.8.0.1:0", ("127.8.0.1", 0, ""), True),
        ("localhost:80", ("127.0.0.1", 80, ""), True),
        ("[::1]:65535", ("::1", 65535, ""), True),
        ("0.0.0.0:9180", ("0.0.0.0", 9180, ""), False),
        ("[::]:9180", ("::", 9180, ""), False),
        ("192.0.2.1:9180", ("192.0.2.1", 9180, ""), False),
        ("unix:/run/watcher//page.sock", ("", 0, "/run/watcher/page.sock"), True),
    ],
)
def test_an_address_is_read(text, address, private):
    found = parse(text)
    assert found == HttpAddress(*address)
    assert found.is_private is private
    assert parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "9180", ":9180", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1"),
        *("127.0.0.1:65536", "127.0.0.1:99999999999999999", "127.0.0.1:\u0661", "::1:80"),
        *("[::1]", "[::1:80", "::1]:80", "[127.0.0.1]:80", "example.com:80", "[fe80::1%lo]:1"),
        *("unix:", "unix:page.sock", "unix:/a\0b", "unix:/" + 107 * "a", "http://127.0.0.1:80"),
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(WrongValue):
        parse(text)


def test_a_loopback_address_answers_to_local_names_alone():
    assert parse("127.0.0.2:80").host_names == {"localhost", "127.0.0.1", "[::1]", "127.0.0.2"}
    assert parse("[::1]:80").host_names == {"localhost", "127.0.0.1", "[::1]"}
    assert parse("unix:/page").host_names is None
    assert parse("0.0.0.0:80").host_names is None
