"""A `path` with a pattern, such as `/srv/in/*`: which directories it names. PURE.

    *  ?  [abc]  [!abc]     as in a shell, within one component of the path; [*] is a star
    **                      refused: how deep a queue lies is said by the pattern

Guarantees: a name that begins with a dot matches only a component that begins with a dot, and
`.watcher` matches none. Two directories never have the same queue name.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from typing import NamedTuple

from watcher.rules.names import OURS, display

_MAGIC = re.compile(r"[*?[]")
_ESCAPED = re.compile(r"\[([*?[])\]")


class PathPattern(NamedTuple):
    """A pattern, taken apart: the directory that is given, and the components below it."""

    root: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, path: str) -> PathPattern:
        """Take an absolute path apart at the first component that is a pattern."""
        parts = path.strip("/").split("/")
        first = next(number for number, part in enumerate(parts) if not is_literal(part))
        root = "/" + "/".join(map(unescaped, parts[:first]))
        return cls(root, tuple(parts[first:]))

    def below(self, path: str) -> str | None:
        """Return the part of an absolute path below the root, None if it does not match."""
        root = self.root.rstrip("/") + "/"
        names = path[len(root) :].split("/")
        if not path.startswith(root) or len(names) != len(self.parts):
            return None
        both = zip(names, self.parts, strict=True)
        return "/".join(names) if all(matches(name, part) for name, part in both) else None


def has_pattern(path: str) -> bool:
    """Whether a path names directories by a pattern."""
    return not is_literal(path)


def is_literal(part: str) -> bool:
    """Whether one component of a pattern is a name and no pattern."""
    return _MAGIC.search(_ESCAPED.sub("", part)) is None


def unescaped(part: str) -> str:
    """Return the name that a literal component stands for: [*] is a star."""
    return _ESCAPED.sub(r"\1", part)


def matches(name: str, part: str) -> bool:
    """Whether the name of a directory matches one component of a pattern."""
    if not name or name == os.fsdecode(OURS):
        return False
    if is_literal(part):
        return name == unescaped(part)
    return (name[0] != "." or part[0] == ".") and fnmatch.fnmatchcase(name, part)


def wrong_pattern(path: str) -> str | None:
    """Say what is wrong with a path that has a pattern; None if it is right."""
    if "**" in path:
        return "a pattern names directories of one depth: write /* once for each level, not **"
    return None


def absolute(folder: str, path: str) -> str:
    """Return the absolute form of a pattern that is relative to a folder."""
    return os.path.normpath(os.path.join(glob.escape(os.path.abspath(folder)), path))


def directory_queue(name: str, below: str) -> str:
    """Return the name of the queue of one directory: NAME/DIRECTORY, one line, no two alike."""
    shown = display(os.fsencode(below).replace(b"\\", b"\\\\"))
    return f"{name}/{shown}"
