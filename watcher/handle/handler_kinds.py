"""The kinds of handlers: one table, and how a handler's configuration is read by it.

A new kind is one row of `KINDS` and one file in `watcher/handle/kinds`, which has its
`HandlerSettings` and, where that is short, its handler. A kind's file is imported if a
configuration names the kind.
Fails: BadConfiguration that names the place, what was expected, and what was there.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import msgspec

from watcher.errors import BadConfiguration, Usage
from watcher.handle.handler_settings import TIMEOUT, HandlerSettings
from watcher.rules.option import read_by, shown

# The class of its settings, by the kind.
KINDS: dict[str, str] = {
    "exec": "watcher.handle.kinds.run_command:Exec",
    "python": "watcher.handle.kinds.run_function:Python",
    "worker": "watcher.handle.kinds.run_worker:Worker",
    "move": "watcher.handle.kinds.move_files:MoveSettings",
    "maildir": "watcher.handle.kinds.maildir:MaildirSettings",
    "lmtp": "watcher.handle.kinds.lmtp:Lmtp",
    "smtp": "watcher.handle.kinds.smtp:Smtp",
    "http": "watcher.handle.kinds.http_post:Http",
    "nats": "watcher.handle.kinds.hand_to_nats:Nats",
    "trigger": "watcher.handle.kinds.run_trigger:Trigger",
}


def settings_class(kind: str) -> type[HandlerSettings]:
    """Return the class of a kind's settings; raises KeyError."""
    module, _, name = KINDS[kind].partition(":")
    found: type[HandlerSettings] = getattr(importlib.import_module(module), name)
    return found


def read_handler(value: object, place: str) -> HandlerSettings:
    """Read the settings of a handler, found at `place`; raise BadConfiguration."""
    try:
        table = msgspec.convert(value, dict[str, object])
        kind = settings_class(_kind_of(table, place))
        read = {
            key: read_by(option, table[key], f"{place}.{key}")
            for key, option in kind.OPTIONS.items()
            if key in table
        }
        settings = msgspec.convert(table | read, kind)
    except msgspec.ValidationError as error:
        examples = " or ".join(settings_class(name).EXAMPLE for name in KINDS)
        raise BadConfiguration(f"{place}: {error}; expected {examples}") from None
    if (wrong := settings.mistake()) is not None:
        key, expected = wrong
        raise BadConfiguration(f"{place}.{key}: expected {expected}")
    return settings


def with_timeout(handler: HandlerSettings, text: str) -> HandlerSettings:
    """Return the settings with the timeout that the flag --timeout says; raise Usage."""
    try:
        seconds = read_by(TIMEOUT, text, "--timeout")
        changed = msgspec.structs.replace(handler, timeout=seconds)
    except BadConfiguration as error:
        raise Usage(str(error)) from None
    except TypeError:
        raise Usage("--timeout: the handler is of a kind that has none") from None
    if (wrong := changed.mistake()) is not None:
        raise Usage(f"--timeout: expected {wrong[1]}")
    return changed


def _kind_of(table: Mapping[str, object], place: str) -> str:
    """Return which kind of handler a table is of: the one key that is in `KINDS`."""
    named = [kind for kind in KINDS if kind in table]
    if len(named) == 1:
        return named[0]
    every = f"one of: {', '.join(KINDS)}"
    if named:
        raise BadConfiguration(f"{place}: expected {every}; got {' and '.join(named)}")
    fields = {field for name in KINDS for field in settings_class(name).__struct_fields__}
    strange = [key for key in table if key not in fields]
    if not strange:
        raise BadConfiguration(f"{place}: no kind of handler; expected {every}")
    raise BadConfiguration(f"{place}: no such kind: {shown(strange[0])}; {every}")
