"""What `watcher work` handles: the tables `[work.NAME]` of the configuration, or its flags.

    [work.mail]
    server = "nats://HOST:4222"
    stream = "MAIL"
    handler = { exec = ["/usr/local/bin/deliver"] }

Each becomes the settings of a queue, whose directory has copies of the messages. The options are
those of a queue that concern attempts; how a directory is read is no option here.
Guarantees: as `config.load`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from watcher.config.load import read_retry
from watcher.config.options import OPTIONS
from watcher.config.queue_settings import MessageSource, Queue
from watcher.config.toml import read_toml
from watcher.errors import BadConfiguration, Usage
from watcher.handle.handler_kinds import read_handler
from watcher.handle.kinds.run_command import Exec
from watcher.jetstream.server_settings import EXPECTED, SERVER_OPTIONS, ServerSettings
from watcher.rules.nats_subject import STREAM_NAME
from watcher.rules.option import Option, read_by

MARK = "made-by-watcher-work"  # a file in each directory of copies
OF_ATTEMPTS = ("concurrency", "warn_after", "breaker", "max_size")


def _text(value: object) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise ValueError


def _stream(value: object) -> str:
    if isinstance(value, str) and STREAM_NAME.fullmatch(value):
        return value
    raise ValueError


WORK_OPTIONS: Mapping[str, Option] = {
    "server": Option(_text, EXPECTED, "", "the servers of the stream; one that answers is enough"),
    "stream": Option(
        _stream, "letters, digits, - and _, at most 64", "", "what `watcher nats init` made"
    ),
    "directory": Option(
        _text,
        "a directory that has nothing else in it",
        "work/NAME in $RUNTIME_DIRECTORY, or in /run/watcher",
        "where the copies of the messages in hand are; it is emptied at the start",
    ),
    **SERVER_OPTIONS,
    **{key: OPTIONS[key] for key in OF_ATTEMPTS},
}
_NAMES = ("handler", "retry", *WORK_OPTIONS)


def work_from_file(file: str) -> dict[str, Queue]:
    """Read the tables `[work.NAME]`; raise BadConfiguration."""
    tables = read_toml(file).get("work")
    if not isinstance(tables, dict) or not tables:
        raise BadConfiguration(f"{file}: work: expected a table [work.NAME] for each stream")
    return {
        name: _from_table(name, table, f"{file}: work.{name}") for name, table in tables.items()
    }


def work_for_operators(file: str) -> dict[str, Queue]:
    """Return the tables `[work.NAME]` as queues that commands look at, named work.NAME."""
    return {
        f"work.{name}": msgspec.structs.replace(settings, name=f"work.{name}")
        for name, settings in work_from_file(file).items()
    }


def work_from_flags(flags: Mapping[str, object], argv: Sequence[str]) -> Queue:
    """Return the settings that the flags of the command say; raise Usage."""
    given = {key: value for key, value in flags.items() if value is not None and key in _NAMES}
    for needed in ("server", "stream"):
        if needed not in given:
            raise Usage(f"name --{needed}, or a configuration with --config FILE")
    if not argv:
        raise Usage("no handler: give a command after --, e.g. -- COMMAND ARG")
    try:
        values = {
            key: _read(key, value, f"--{key.replace('_', '-')}") for key, value in given.items()
        }
    except BadConfiguration as error:
        raise Usage(str(error)) from None
    name = str(values["stream"])
    return _queue(name, values | {"handler": Exec(tuple(argv))}, "command line")


def _from_table(name: str, table: object, where: str) -> Queue:
    if not isinstance(table, dict):
        raise BadConfiguration(f"{where}: expected a table")
    if not name or not name.isprintable() or "/" in name or name.startswith("."):
        raise BadConfiguration(f"{where}: expected a name without / that begins with no dot")
    values: dict[str, Any] = {}
    for key, value in table.items():
        place = f"{where}.{key}"
        if key not in _NAMES:
            raise BadConfiguration(f"{place}: unknown key; expected one of {', '.join(_NAMES)}")
        values[key] = _read(key, value, place)
    for required in ("server", "stream", "handler"):
        if required not in values:
            raise BadConfiguration(f"{where}.{required}: missing")
    return _queue(name, values, where)


def _read(key: str, value: object, place: str) -> Any:
    if key == "handler":
        return read_handler(value, place)
    if key == "retry":
        return read_retry(value, place)
    return read_by(WORK_OPTIONS[key], value, place)


def _queue(name: str, values: dict[str, Any], where: str) -> Queue:
    server = ServerSettings(
        values["server"], *(values.get(key) for key in ServerSettings._fields[1:])
    )
    if (wrong := server.mistake()) is not None:
        raise BadConfiguration(f"{where}.{wrong[0] or 'server'}: expected {wrong[1] or EXPECTED}")
    handler = values["handler"]
    if not handler.SETTLES:
        raise BadConfiguration(f"{where}.handler: expected a handler that handles an entry")
    directory = values.get("directory") or os.path.join(_base(), "work", name)
    queue = {key: values[key] for key in ("retry", *OF_ATTEMPTS) if key in values}
    return Queue(
        name=name,
        path=os.path.abspath(directory),
        handler=handler,
        format="raw",
        suffix="",
        ignore=(MARK,),
        writers="rename",
        exclusive=True,
        canary=0.0,
        capped=True,
        journal=False,  # of copies: it would have each retry and dead letter as a loss
        messages=MessageSource(server, values["stream"]),
        origin=f"{where}.",
        **queue,
    )


def _base() -> str:
    """Return the directory for what does not survive a restart."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if given:
        return given
    if os.geteuid() == 0:
        return "/run/watcher"
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session:
        return os.path.join(session, "watcher")
    return os.path.join(tempfile.gettempdir(), f"watcher-{os.geteuid()}")
