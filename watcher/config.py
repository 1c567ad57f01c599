"""The configuration: one table of options, read once, frozen, handed down as plain values.

Flags beat `WATCHER_*` in the environment, which beats the TOML file, which beats the defaults.
Guarantees: an unknown key, a wrong type or a value out of bounds is a BadConfiguration that names
the file (or variable, or flag), the key, and what was expected, in one line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from watcher import durations
from watcher.errors import BadConfiguration

if TYPE_CHECKING:
    from watcher.handle.outcome import Handler


SHORTEST = 0.01  # seconds between sweeps, or before a retry
MOST_WORKERS = 256
LONGEST_SUFFIX = 64  # bytes
LONGEST_SHOWN = 100  # characters of a wrong value, in a message


class Exec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{ exec = [COMMAND, ARG...], timeout = "2m" }`."""

    exec: tuple[str, ...]
    timeout: float | None = None  # seconds

    def load(self) -> Handler:
        """Return the handler; raises BadConfiguration when there is no such command."""
        import shutil

        from watcher.handle.command import Command

        if shutil.which(self.exec[0]) is None:
            raise BadConfiguration(
                f"handler.exec: expected a command that can be run; {self.exec[0]!r} is not to be"
                " found, or not executable"
            )
        return Command(self.exec, self.timeout)


class Python(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{ python = "package.module:function" }`."""

    python: str

    def load(self) -> Handler:
        """Return the handler; raises BadConfiguration when it cannot be imported."""
        from watcher.handle.function import load

        try:
            return load(self.python)
        except BadConfiguration as error:
            raise BadConfiguration(f"handler.python: {error}") from None


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one queue. Times in seconds, sizes in bytes."""

    name: str
    path: str
    handler: Exec | Python | None = None
    legacy: bool = False
    format: str = "mailman"
    suffix: str = ".pck"
    grace_age: float = 300.0
    sweep_every: float = 60.0
    concurrency: int = 1
    retry_initial: float = 30.0
    source: str = "auto"
    max_size: int = 256 << 20
    origin: str = ""  # where the settings came from, for messages

    def load_handler(self) -> Handler | None:
        """Return the queue's handler, None if it has none; raises BadConfiguration."""
        if self.handler is None:
            return None
        try:
            return self.handler.load()
        except BadConfiguration as error:
            raise BadConfiguration(f"{self.origin}{error}") from None


class Option(NamedTuple):
    """One row of the table: how a value is read, and what people are told of it."""

    read: Callable[[object], Any]
    expected: str
    default: str
    help: str


def _duration(value: object) -> float:
    if isinstance(value, str):
        return durations.parse(value)
    raise ValueError


def _period(value: object) -> float:
    seconds = _duration(value)
    if seconds < SHORTEST:
        raise ValueError
    return seconds


_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str):
        number, unit = (value, "") if value[-1:].isdigit() else (value[:-1], value[-1:])
        size = int(number) * _SIZES[unit]
        if size > 0:
            return size
    raise ValueError


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_WORKERS:
        return value
    raise ValueError


def _from_text(key: str, text: str) -> object:
    """Return what an environment variable's text stands for, as TOML would have written it."""
    if key == "legacy":
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower(), text
        )
    if key == "concurrency" and text.isdecimal() and len(text) <= len(str(MOST_WORKERS)):
        return int(text)
    return text


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError

    return read


def _suffix(value: object) -> str:
    if not isinstance(value, str) or "/" in value or "\0" in value or value.endswith(".tmp"):
        raise ValueError
    if len(os.fsencode(value)) > LONGEST_SUFFIX:  # UnicodeEncodeError is a ValueError
        raise ValueError
    return value


OPTIONS: dict[str, Option] = {
    "legacy": Option(_flag, "true or false", "false", "also serve `.db`/`.msg` pairs"),
    "format": Option(
        _one_of("mailman", "raw"), '"mailman" or "raw"', "mailman", "what an entry's file holds"
    ),
    "suffix": Option(
        _suffix, 'an ending like ".csv", not ".tmp"', ".pck", "raw only: which files are entries"
    ),
    "grace_age": Option(
        _duration, durations.EXPECTED, "5m", "how old a file must be before a sweep judges it"
    ),
    "sweep_every": Option(_period, durations.EXPECTED, "60s", "time between sweeps"),
    "concurrency": Option(_count, "a number from 1 to 256", "1", "entries handled at once"),
    "source": Option(
        _one_of("auto", "inotify", "polling"),
        '"auto", "inotify" or "polling"',
        "auto",
        "where hints come from; auto asks the file system",
    ),
    "max_size": Option(
        _size, 'bytes, or a size like "256M"', "256M", "a larger entry goes to dead/ unread"
    ),
}
_LATER = ("max", "multiplier", "jitter", "give_up_after", "max_attempts")


def load(file: str, environment: Mapping[str, str]) -> dict[str, Queue]:
    """Read a TOML file of queues; raises BadConfiguration."""
    tree = _read_toml(file)
    queues = tree.pop("queues", None)
    if tree:
        raise BadConfiguration(f"{file}: {next(iter(tree))}: unknown key; expected [queues.NAME]")
    if not isinstance(queues, dict) or not queues:
        raise BadConfiguration(f"{file}: queues: expected a table [queues.NAME] for each queue")
    loaded: dict[str, Queue] = {}
    for name, table in queues.items():
        where = f"{file}: queues.{name}"
        if not name or not name.isprintable():
            raise BadConfiguration(f"{where}: expected a name that can be shown")
        if not isinstance(table, dict):
            raise BadConfiguration(f"{where}: expected a table")
        loaded[name] = _from_table(name, table, where, os.path.dirname(file), environment)
        for other in loaded.values():
            if other.name != name and _same(other.path, loaded[name].path):
                raise BadConfiguration(
                    f"{where}.path: expected a directory of its own;"
                    f" queues.{other.name} has {other.path} too"
                )
    return loaded


def _read_toml(file: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(file, "rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise BadConfiguration(f"{file}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise BadConfiguration(f"{file}: not TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, a number of 5000 digits
        raise BadConfiguration(f"{file}: not TOML: {error}") from None


def queue(
    path: str,
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    argv: Sequence[str] | None = None,
    base: Queue | None = None,
) -> Queue:
    """Return the settings of one directory given on the command line, over `base` if configured."""
    values: dict[str, Any] = {}
    if base is None:
        values = {
            "name": os.path.basename(os.path.abspath(path)) or "/",
            "path": os.path.abspath(path),
        }
        given = _from_environment(environment)
        values |= given
    else:
        given = {"suffix": base.suffix}
        values = msgspec.structs.asdict(base)
    for key, value in flags.items():
        values[key] = _read(key, value, f"--{key.replace('_', '-')}")
    if argv:
        values |= {"handler": Exec(tuple(argv)), "origin": "command line: "}
    return _checked(Queue(**values), {*flags, *given}, "command line")


def find(queues: Mapping[str, Queue], path: str) -> Queue | None:
    """Return the configured queue of a directory, None if there is none."""
    for settings in queues.values():
        if _same(settings.path, path):
            return settings
    return None


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _from_table(
    name: str, table: dict[str, Any], where: str, folder: str, environment: Mapping[str, str]
) -> Queue:
    values: dict[str, Any] = {"name": name, "origin": f"{where}."}
    for key, value in table.items():
        place = f"{where}.{key}"
        if key == "path":
            if not isinstance(value, str) or not value or "\0" in value:
                raise BadConfiguration(f"{place}: expected a directory; got {value!r}")
            values["path"] = os.path.abspath(os.path.join(folder, value))
        elif key == "handler":
            values["handler"] = _handler(value, place)
        elif key == "retry":
            values["retry_initial"] = _retry(value, place)
        elif key in OPTIONS:
            values[key] = _read(key, value, place)
        else:
            known = ", ".join(["path", "handler", "retry", *OPTIONS])
            raise BadConfiguration(f"{place}: unknown key; expected one of {known}")
    for required in ("path", "handler"):
        if required not in values:
            raise BadConfiguration(f"{where}.{required}: missing; every queue needs one")
    given = _from_environment(environment)
    return _checked(Queue(**values | given), {*table, *given}, where)


def _handler(value: object, place: str) -> Exec | Python:
    shape: type[Exec | Python] = Python if isinstance(value, dict) and "python" in value else Exec
    if isinstance(value, dict) and "timeout" in value:
        timeout = _try(_period, value["timeout"], f"{place}.timeout", durations.EXPECTED)
        value = value | {"timeout": timeout}
    try:
        handler = msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise BadConfiguration(
            f'{place}: {error}; expected {{ exec = ["COMMAND", "ARG"], timeout = "2m" }}'
            ' or { python = "package.module:function" }'
        ) from None
    if isinstance(handler, Exec) and (not handler.exec or "\0" in "".join(handler.exec)):
        raise BadConfiguration(f"{place}.exec: expected a command and its arguments")
    return handler


def _retry(value: object, place: str) -> float:
    if not isinstance(value, dict):
        raise BadConfiguration(f'{place}: expected a table like {{ initial = "30s" }}')
    for key in value:
        if key in _LATER:
            raise BadConfiguration(
                f"{place}.{key}: not in this version, which waits `initial` before every retry"
            )
        if key != "initial":
            raise BadConfiguration(f"{place}.{key}: unknown key; expected initial")
    initial: float = _try(
        _period, value.get("initial", "30s"), f"{place}.initial", durations.EXPECTED
    )
    return initial


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for key in OPTIONS:
        variable = f"WATCHER_{key.upper()}"
        if variable in environment:
            values[key] = _read(key, _from_text(key, environment[variable]), variable)
    return values


def _read(key: str, value: object, place: str) -> Any:
    option = OPTIONS[key]
    return _try(option.read, value, place, option.expected)


def _try(read: Callable[[object], Any], value: object, place: str, expected: str) -> Any:
    try:
        return read(value)
    except (ValueError, KeyError, OverflowError):
        shown = repr(value)
        shown = shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + "..."
        raise BadConfiguration(f"{place}: expected {expected}; got {shown}") from None


def _checked(settings: Queue, given: set[str], where: str) -> Queue:
    """Check what concerns several options at once."""
    raw = settings.format == "raw"
    if raw and settings.legacy:
        raise BadConfiguration(f'{where}: legacy: expected false where format is "raw"')
    if not raw and settings.suffix != ".pck":
        raise BadConfiguration(f'{where}: suffix: goes with format = "raw" only')
    if raw and "suffix" not in given and settings.suffix == ".pck":
        settings = msgspec.structs.replace(settings, suffix="")
    return settings
