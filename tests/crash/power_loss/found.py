"""A state of a disk: read from a real directory, written to one, shown on a line."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping

from power_loss.losses import Disk
from power_loss.recording import IGNORED


def read(root: str, ids: Mapping[int, int]) -> Disk:
    """Return the state of a directory; a file is its number in `ids`, or else its inode."""
    directories, files, contents = {"."}, set(), set()
    for place, inner, names in os.walk(root):
        at = os.path.relpath(place, root)
        directories.update(os.path.normpath(f"{at}/{name}") for name in inner)
        for name in names:
            path = f"{place}/{name}"
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and not name.startswith(IGNORED):
                inode = ids.get(status.st_ino, status.st_ino)
                files.add((os.path.normpath(f"{at}/{name}"), inode))
                with open(path, "rb") as file:
                    contents.add((inode, file.read()))
    return Disk(frozenset(directories), frozenset(files), frozenset(contents))


def write(state: Disk, root: str) -> dict[int, int]:
    """Make a directory of a state; return the inode that each file has got.

    A file with two names is one file.
    """
    shutil.rmtree(root, ignore_errors=True)
    for directory in sorted(state.directories):
        os.makedirs(f"{root}/{directory}", mode=0o700, exist_ok=True)
    contents: dict[int, bytes] = dict(state.contents)
    made: dict[int, str] = {}
    for path, inode in sorted(state.files):
        target = f"{root}/{path}"
        if inode in made:
            os.link(made[inode], target)
            continue
        with open(target, "wb") as file:
            file.write(contents[inode])
        made[inode] = target
    return {inode: os.lstat(path).st_ino for inode, path in made.items()}


def told(state: Disk) -> str:
    """Show a state on a line."""
    sizes = {inode: len(data) for inode, data in state.contents}
    return ", ".join(f"{path} ({sizes[inode]})" for path, inode in sorted(state.files)) or "nothing"
