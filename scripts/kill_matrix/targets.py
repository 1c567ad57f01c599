"""The handlers that the matrix tries beside its own: what each is configured with, and what it did.

What a handler did is read where it did it: in a directory of files, in a Maildir, or in the record
of a server that answers after it has written. Each delivery becomes one `Call`, by the bytes that
are there; so a file with the bytes of no entry is a finding: half an entry, or two in one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType

from kill_matrix import handler, servers
from kill_matrix.handler import VICTIM, Call
from kill_matrix.scenario import Entry, Scene
from kill_matrix.servers import Delivery
from kill_matrix.victim import FOLLOW, WORKER, NoTracing
from watcher.handle.handler_kinds import KINDS, settings_class

ELSEWHERE = ("/dev/shm", "/var/tmp", "/run")  # noqa: S108 - which of them is another file system


@dataclass(frozen=True)
class Target:
    """One kind of handler: its settings, its server if there is one, and its deliveries."""

    settings: Callable[[str], str]  # of a run's directory -> TOML
    deliveries: Callable[[str], list[Delivery]] | None = None  # None: the handler records its calls
    serve: Callable[[str], AbstractContextManager[None]] = lambda _root: nullcontext()
    kind: str = "python"
    option: str = ""  # of the kind
    extra: str = ""  # a module that may not be installed
    in_hand: int = 1  # entries that a death may bring twice; 0: an attempt finds what came before
    directory: Callable[[str], str] | None = None  # where it puts files
    thread: str = WORKER  # of the daemon, that is traced

    def exists(self) -> bool:
        """Whether this version has the kind and the option, and what the kind needs is there."""
        if self.kind not in KINDS or (self.extra and find_spec(self.extra) is None):
            return False
        return not self.option or self.option in settings_class(self.kind).OPTIONS

    def calls(self, root: str, scene: Scene) -> list[Call]:
        """Return what was done, the oldest first."""
        if self.deliveries is None:
            return handler.read(os.path.join(root, "record"))
        found = []
        numbers: Counter[str] = Counter()
        for delivery in self.deliveries(root):
            entry = _of(scene, delivery)
            if entry is None:
                found.append(Call(VICTIM, "?", 0, "done", delivery.digest, delivery.key, {}))
                continue
            attempt = entry.attempt + numbers[entry.name]
            numbers[entry.name] += 1
            name = entry.called or entry.name
            told = {"token": entry.token} if entry.token else {}
            word, key = delivery.word, delivery.key
            found.append(Call(VICTIM, name, attempt, word, entry.digest, key, dict(told)))
        return found

    def strange(self, root: str, scene: Scene) -> list[str]:
        """Return what was delivered that is no entry."""
        if self.deliveries is None:
            return []
        made = self.deliveries(root)
        return [delivery.where for delivery in made if _of(scene, delivery) is None]

    def left(self, root: str) -> list[str]:
        """Return what is in the target after the recovery and should not be."""
        return [] if self.directory is None else list(_left(self.directory(root)))


def _of(scene: Scene, delivery: Delivery) -> Entry | None:
    """Return the entry whose message, or one of whose files, has these bytes."""
    for entry in scene.entries.values():
        if delivery.digest in {entry.digest, *map(servers.digest_of, entry.files.values())}:
            return entry
    return None


# -- a directory ------------------------------------------------------------------------------


def _files(directory: str) -> list[Delivery]:
    """Return the visible files; of a pair the message's."""
    found = []
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if name.startswith(".") or os.path.isdir(path):
            continue
        with open(path, "rb") as file:
            found.append(Delivery(path, servers.digest_of(file.read())))
    return found


def _left(directory: str) -> Iterator[str]:
    """Yield the hidden files below a directory, and the halves of pairs without the other half."""
    for where, _names, files in os.walk(directory):
        for name in files:
            stem, ending = os.path.splitext(name)
            other = {".db": ".msg", ".msg": ".db"}.get(ending)
            if name.startswith(".") or os.path.basename(where) == "tmp":
                yield f"{name}: left in the target"
            elif other and stem + other not in files:
                yield f"{name}: in the target without its {other}"


def _moved(root: str) -> list[Delivery]:
    return [one for one in _files(_near(root)) if not one.where.endswith(".db")]


def _moved_far(root: str) -> list[Delivery]:
    return [one for one in _files(_far(root)) if not one.where.endswith(".db")]


def _near(root: str) -> str:
    return os.path.join(root, "moved")


def _far(root: str) -> str:
    """Return a directory on another file system; raises NoTracing if there is none."""
    own = os.stat(root).st_dev
    for place in ELSEWHERE:
        if os.access(place, os.W_OK) and os.stat(place).st_dev != own:
            return os.path.join(place, f"kill-matrix-{os.path.basename(root)}")
    raise NoTracing("no second file system to move to")


@contextlib.contextmanager
def _directory(path: str, *below: str) -> Iterator[None]:
    os.mkdir(path, 0o700)
    for name in below:
        os.mkdir(os.path.join(path, name), 0o700)
    try:
        yield
    finally:
        shutil.rmtree(path)


def _maildir(root: str) -> list[Delivery]:
    path = _near(root)
    return _files(os.path.join(path, "new")) + _files(os.path.join(path, "cur"))


def _stream() -> ModuleType:
    """Return the module for a stream, whose extra may not be installed."""
    return importlib.import_module("kill_matrix.nats_stream")


# -- the table --------------------------------------------------------------------------------


def _script(root: str, name: str, text: str) -> str:
    path = os.path.join(root, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(f"#!{sys.executable} -SI\n{text}")
    os.chmod(path, 0o700)
    return path


PYTHON = '{ python = "kill_matrix.handler:handle" }'
_MOVED_FAR = Target(
    lambda root: f'{{ move = "{_far(root)}" }}',
    _moved_far,
    lambda root: _directory(_far(root)),
    kind="move",
    in_hand=0,
    directory=_far,
)
TARGETS = {
    "python": Target(lambda _root: PYTHON),
    "isolate": Target(lambda _root: '{ python = "kill_matrix.handler:handle", isolate = true }'),
    "batch": Target(
        lambda root: f'{{ exec = ["{_script(root, "batch", handler.BATCH)}"], batch = 4 }}',
        kind="exec",
        option="batch",
        in_hand=4,
    ),
    "worker": Target(
        lambda root: f'{{ worker = ["{_script(root, "worker", handler.WORKER)}"] }}', kind="worker"
    ),
    "move": Target(
        lambda root: f'{{ move = "{_near(root)}" }}',
        _moved,
        lambda root: _directory(_near(root)),
        kind="move",
        in_hand=0,
        directory=_near,
    ),
    "move-raw": _MOVED_FAR,
    "move-far": _MOVED_FAR,
    "maildir": Target(
        lambda root: f'{{ maildir = "{_near(root)}" }}',
        _maildir,
        lambda root: _directory(_near(root), "cur", "new", "tmp"),
        kind="maildir",
        in_hand=0,
        directory=_near,
    ),
    "lmtp": Target(
        lambda root: (
            f'{{ lmtp = "127.0.0.1:{servers.port_of(root)}", from = "<>",'
            f" to = {list(servers.RECIPIENTS)} }}"
        ),
        servers.deliveries,
        servers.lmtp,
        kind="lmtp",
    ),
    "http": Target(
        lambda root: f'{{ http = "http://127.0.0.1:{servers.port_of(root)}/" }}',
        servers.deliveries,
        servers.http_post,
        kind="http",
        extra="httpx2",
    ),
    "nats": Target(
        lambda root: f'{{ nats = "{_stream().url_of(root)}", stream = "{_stream().STREAM}" }}',
        lambda root: _stream().deliveries(root),
        lambda root: _stream().serve(root),
        kind="nats",
        extra="nats",
        in_hand=0,
        thread=FOLLOW,
    ),
}
