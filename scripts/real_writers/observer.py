"""A second reader of inotify: what each writer does in its directory, by the kernel's events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple, Self

import pyinotify

_MASK = (
    pyinotify.IN_CREATE
    | pyinotify.IN_MODIFY
    | pyinotify.IN_CLOSE_WRITE
    | pyinotify.IN_MOVED_FROM
    | pyinotify.IN_MOVED_TO
    | pyinotify.IN_DELETE
)


class Event(NamedTuple):
    """One event in a watched directory."""

    at: int  # nanoseconds
    directory: str
    what: str  # IN_CREATE and so on
    name: str
    source: str = ""  # where a rename within the directory came from


class Observer:
    """Reads in its own thread, within `with`."""

    def __init__(self, directories: Iterable[str]) -> None:
        self.events: list[Event] = []
        self._from: dict[int, str] = {}
        self._manager = pyinotify.WatchManager()
        self._notifier = pyinotify.Notifier(self._manager, default_proc_fun=self._note)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        for directory in directories:
            self._manager.add_watch(directory, _MASK, quiet=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._notifier.stop()

    def _read(self) -> None:
        while not self._over.is_set():
            if self._notifier.check_events(timeout=100):
                self._notifier.read_events()
                self._notifier.process_events()

    def _note(self, event: pyinotify.Event) -> None:
        cookie = getattr(event, "cookie", 0)
        if event.maskname == "IN_MOVED_FROM":
            self._from[cookie] = event.name
        source = self._from.get(cookie, "") if event.maskname == "IN_MOVED_TO" else ""
        self.events.append(Event(time.time_ns(), event.path, event.maskname, event.name, source))


def how(events: list[Event], name: str) -> str:
    """Return in words how a name was committed."""
    mine = [event for event in events if event.name == name]
    whats = [event.what for event in mine]
    renames = [event for event in mine if event.what == "IN_MOVED_TO"]
    if renames:
        writes = whats[whats.index("IN_MOVED_TO") :].count("IN_CLOSE_WRITE")
        told = "renamed" + (f" from {_short(renames[0].source)}" if renames[0].source else " in")
        return told + (", open" if writes else "")
    if "IN_CREATE" in whats and not {"IN_MODIFY", "IN_CLOSE_WRITE"} & set(whats):
        return "linked"
    closes = whats.count("IN_CLOSE_WRITE")
    return f"in place, {closes} close{'s' * (closes != 1)}" if whats else "not seen"


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:13] + "..."  # noqa: PLR2004 - a column's width


def last_change(events: list[Event], name: str, before: int) -> int:
    """Return the time of a file's last write, close or rename before a time; else that time."""
    moments = [
        event.at
        for event in events
        if event.name == name
        and event.at <= before
        and event.what in {"IN_CREATE", "IN_MODIFY", "IN_CLOSE_WRITE", "IN_MOVED_TO"}
    ]
    return max(moments, default=before)
