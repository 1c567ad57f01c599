"""The configuration: one table of options, read once, frozen, handed down as plain values.

Flags beat `WATCHER_*` in the environment, which beats the TOML file, which beats the defaults.
Guarantees: an unknown key, a wrong type or a value out of bounds is a BadConfiguration that names
the file (or variable, or flag), the key, and what was expected, in one line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from watcher import durations
from watcher.errors import BadConfiguration, Usage
from watcher.options import (
    OPTIONS,
    PYTHON,
    RETRY,
    Option,
    from_environment,
    read_by,
    read_option,
)
from watcher.settle.policy import Policy

if TYPE_CHECKING:
    from watcher.handle.outcome import Handler


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
    """`{ python = "package.module:function", isolate = true, timeout = "2m" }`."""

    python: str
    isolate: bool = False
    timeout: float | None = None  # seconds
    memory: int | None = None  # bytes
    cpu: float | None = None  # seconds

    def load(self) -> Handler:
        """Return the handler; raises BadConfiguration when it cannot be imported."""
        try:
            if self.isolate:
                from watcher.handle import isolated
                from watcher.handle.isolated_process import Limits

                return isolated.load(self.python, Limits(self.timeout, self.memory, self.cpu))
            from watcher.handle import function

            return function.load(self.python)
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
    retry: Policy = Policy()
    source: str = "auto"
    max_size: int = 256 << 20
    journal: bool = True
    origin: str = ""  # where the settings came from, for messages

    def load_handler(self) -> Handler | None:
        """Return the queue's handler, None if it has none; raises BadConfiguration."""
        if self.handler is None:
            return None
        try:
            return self.handler.load()
        except BadConfiguration as error:
            raise BadConfiguration(f"{self.origin}{error}") from None


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
        given = from_environment(environment)
        values |= given
    else:
        given = {"suffix": base.suffix}
        values = msgspec.structs.asdict(base)
    try:
        for key, value in flags.items():
            values[key] = read_option(key, value, f"--{key.replace('_', '-')}")
        if argv:
            values |= {"handler": Exec(tuple(argv)), "origin": "command line: "}
        return _checked(Queue(**values), {*flags, *given}, "command line")
    except BadConfiguration as error:
        if not flags:
            raise
        raise Usage(str(error)) from None


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
            values["retry"] = _retry(value, place)
        elif key in OPTIONS:
            values[key] = read_option(key, value, place)
        else:
            known = ", ".join(["path", "handler", "retry", *OPTIONS])
            raise BadConfiguration(f"{place}: unknown key; expected one of {known}")
    for required in ("path", "handler"):
        if required not in values:
            raise BadConfiguration(f"{where}.{required}: missing; every queue needs one")
    given = from_environment(environment)
    return _checked(Queue(**values | given), {*table, *given}, where)


def _handler(value: object, place: str) -> Exec | Python:
    python = isinstance(value, dict) and "python" in value
    shape: type[Exec | Python] = Python if python else Exec
    if isinstance(value, dict):
        timed: dict[str, Option] = PYTHON if python else {"timeout": PYTHON["timeout"]}
        value = value | {
            key: read_by(option.read, value[key], f"{place}.{key}", option.expected)
            for key, option in timed.items()
            if key in value
        }
    try:
        handler = msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise BadConfiguration(
            f'{place}: {error}; expected {{ exec = ["COMMAND", "ARG"], timeout = "2m" }}'
            ' or { python = "package.module:function" }'
        ) from None
    if isinstance(handler, Exec) and (not handler.exec or "\0" in "".join(handler.exec)):
        raise BadConfiguration(f"{place}.exec: expected a command and its arguments")
    if isinstance(handler, Python) and not handler.isolate:
        for limit in ("timeout", "memory", "cpu"):
            if getattr(handler, limit) is not None:
                raise BadConfiguration(
                    f"{place}.{limit}: expected isolate = true beside it; nothing can end a"
                    " function within this process"
                )
    return handler


def _retry(value: object, place: str) -> Policy:
    if not isinstance(value, dict):
        raise BadConfiguration(
            f'{place}: expected a table like {{ initial = "30s", give_up_after = "5d" }}'
        )
    values: dict[str, Any] = {}
    for key, given in value.items():
        if key not in RETRY:
            known = ", ".join(RETRY)
            raise BadConfiguration(f"{place}.{key}: unknown key; expected one of {known}")
        values[key] = read_by(RETRY[key].read, given, f"{place}.{key}", RETRY[key].expected)
    policy = Policy(**values)
    if policy.initial > policy.max:
        wrong, other = ("max", "initial") if "max" in values else ("initial", "max")
        bound = "at least" if wrong == "max" else "at most"
        raise BadConfiguration(
            f"{place}.{wrong}: expected {bound} what `{other}` is,"
            f" {durations.show(getattr(policy, other))};"
            f" got {durations.show(getattr(policy, wrong))}"
        )
    return policy


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
