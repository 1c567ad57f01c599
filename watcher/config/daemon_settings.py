"""What concerns the daemon as a whole, and no queue: the table `[daemon]` of the configuration.

Flags beat `WATCHER_*` in the environment, which beats the file, as with the options of a queue.
Guarantees: as `config.load`. Each call reads the file of the token anew: a reload may change it.
Fails: BadConfiguration that names the place and what was expected.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

import msgspec

from watcher.config.toml import read_toml
from watcher.errors import BadConfiguration
from watcher.rules import http_address
from watcher.rules.http_address import HttpAddress
from watcher.rules.names import display
from watcher.rules.option import Option, WrongValue, read_by

SHORTEST_TOKEN = 16  # characters: with fewer it could be guessed
LONGEST_TOKEN = 1024


def _http(value: object) -> HttpAddress | None:
    if not isinstance(value, str):
        raise WrongValue
    return http_address.parse(value) if value else None


def _token_file(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise WrongValue
    if value and not os.path.isabs(value):
        raise WrongValue("it is not absolute")
    return value


DAEMON_OPTIONS: dict[str, Option] = {
    "http": Option(
        _http,
        http_address.EXPECTED,
        "",
        "where the page and the metrics are served; not set: they are not",
    ),
    "http_token_file": Option(
        _token_file,
        "an absolute path",
        "",
        "a file whose first line a client has to send; needed where others than this machine can"
        " connect",
    ),
}


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the daemon; `token` is what the file says, "" without one."""

    http: HttpAddress | None = None
    http_token_file: str = ""
    token: str = ""
    origin: str = ""  # where `http` was set, for messages


def daemon_settings(
    file: str | None, flags: Mapping[str, object], environment: Mapping[str, str]
) -> DaemonSettings:
    """Return the daemon's settings; `flags` by option, None: not given."""
    given: dict[str, tuple[object, str]] = {}  # by option: the value, and where it stands
    for key, value in _table(file).items():
        given[key] = (value, f"{file}: daemon.{key}")
    for key in DAEMON_OPTIONS:
        variable = f"WATCHER_{key.upper()}"
        if variable in environment:
            given[key] = (environment[variable], variable)
        if (flag := flags.get(key)) is not None:
            given[key] = (flag, f"--{key.replace('_', '-')}")
    values: dict[str, Any] = {
        key: read_by(DAEMON_OPTIONS[key], value, place) for key, (value, place) in given.items()
    }
    http, origin = values.get("http"), given.get("http", ("", ""))[1]
    if http is None:
        return DaemonSettings()
    path = values.get("http_token_file", "")
    if not path and not http.is_private:
        raise BadConfiguration(
            f"{origin}: {http} can be reached from other machines: set http_token_file, or"
            " serve 127.0.0.1"
        )
    token = _read_token(path, given["http_token_file"][1]) if path else ""
    return DaemonSettings(http=http, http_token_file=path, token=token, origin=origin)


def _table(file: str | None) -> dict[str, object]:
    if file is None:
        return {}
    table = read_toml(file).get("daemon", {})
    check_table(table, file)
    return dict(table)


def check_table(table: object, file: str) -> None:
    """Raise BadConfiguration if `[daemon]` is no table, or has a key that is no option."""
    if not isinstance(table, dict):
        raise BadConfiguration(f"{file}: daemon: expected a table")
    for key in table:
        if key not in DAEMON_OPTIONS:
            known = ", ".join(DAEMON_OPTIONS)
            raise BadConfiguration(f"{file}: daemon.{key}: unknown key; expected one of {known}")


def _read_token(path: str, place: str) -> str:
    shown = display(os.fsencode(path))
    try:
        with open(path, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            line = opened.readline(LONGEST_TOKEN + 2).strip()
    except OSError as error:
        raise BadConfiguration(f"{place}: {shown} cannot be read: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        raise BadConfiguration(f"{place}: every user may read {shown}: chmod o= {shown}")
    text = line.decode("ascii", "replace")
    if not SHORTEST_TOKEN <= len(text) <= LONGEST_TOKEN or not _is_token(text):
        raise BadConfiguration(
            f"{place}: expected a first line of {SHORTEST_TOKEN} to {LONGEST_TOKEN} letters, digits"
            f" or -._~+/= in {shown}"
        )
    return text


def _is_token(text: str) -> bool:
    """Whether a text can stand after `Bearer` (RFC 6750)."""
    return text.isascii() and all(each.isalnum() or each in "-._~+/=" for each in text)
