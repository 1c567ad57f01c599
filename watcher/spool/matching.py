"""Find the directories that a `path` with a pattern names, on the disk.

Guarantees: symbolic links to directories are followed, as for a plain path; whether root may use
what they lead to is checked where the queue is opened (`Spool`). At most `MOST` directories are
returned. A directory that cannot be read now is named in `unreadable`: what is below it is not
known, and not gone.
Fails: never; what is wrong is in `trouble`.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from watcher.rules.path_pattern import PathPattern, is_literal, matches, unescaped

MOST = 10_000  # directories of one pattern
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

Identity = tuple[int, int]  # device and inode


class Found(NamedTuple):
    """What one look found."""

    directories: dict[str, Identity]  # by path; those without a link below the root come first
    parents: list[str]  # the directories in which further ones may appear
    unreadable: list[str]
    trouble: str


class _Match(NamedTuple):
    """A directory that matches so far; sorted: without a link first, then by path."""

    linked: bool  # whether a component below the root is a symbolic link
    path: str


def find_directories(pattern: PathPattern) -> Found:
    """Walk down the components of a pattern; return the directories that match."""
    parents, unreadable, trouble = [], [], ""
    if not os.path.isdir(pattern.root):
        return Found({}, [], [], f"{pattern.root}: no such directory, so that nothing matches")
    level = [_Match(linked=False, path=pattern.root)]
    for part in pattern.parts:
        below: list[_Match] = []
        for above in level:
            try:
                below += _children(above, part)
                parents.append(above.path)
            except OSError as error:
                if error.errno not in _GONE:
                    unreadable.append(above.path)
                    trouble = f"{above.path}: cannot be read: {error.strerror}"
        level = sorted(below)
        if len(level) > MOST:
            trouble = f"{pattern.root}: more than {MOST} directories match; the others are left"
            level = level[:MOST]
    identities = ((match.path, _identity(match.path)) for match in level)
    found = {path: identity for path, identity in identities if identity is not None}
    return Found(found, parents, unreadable, trouble)


def _children(above: _Match, part: str) -> list[_Match]:
    if is_literal(part):
        path = os.path.join(above.path, unescaped(part))
        return [_Match(above.linked or os.path.islink(path), path)] if os.path.isdir(path) else []
    with os.scandir(above.path) as items:
        return [
            _Match(above.linked or item.is_symlink(), item.path)
            for item in items
            if matches(item.name, part) and _is_directory(item)
        ]


def _is_directory(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that leads nowhere, or round and round
        return False


def _identity(path: str) -> Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
