"""Patterns of file names, as `match` and `ignore` have them: `*`, `?` and `[...]`. PURE.

    *          any characters, also none          [abc] [a-z]    one of these
    ?          one character                       [!abc]         one that is none of these

Patterns are compiled once, and then decide about each name in the queue. The usual forms (`*.csv`,
`~$*`, `Thumbs.db`) are compared as bytes. Other patterns are one regular expression over the bytes
of the name; those with `?` and `[...]` are another over its text, in which a byte that is not UTF-8
is one character.
Guarantees: no name takes long, whatever the patterns are: a `*` is never tried again for another
place, and a list has at most `MOST` patterns of `LONGEST` bytes.
Fails: never; `wrong_pattern` says what is wrong with a pattern before it is compiled.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MOST = 64  # patterns in a list
LONGEST = 255  # bytes of a pattern, as of a name

# The temporary, lock and backup names of the programs that put files into folders. A name with a
# dot in front, and one that ends in .tmp, is never touched whatever the patterns are; they are in
# the list because `watcher check` shows it to people.
DEFAULT_IGNORE = (
    *("*.part", "*.filepart", "*.partial", "*.crdownload", "*.download", "*.opdownload"),
    *("*.aria2", "*.aria2__temp", "*.lftp-pget-status", "*.lock", "*.tmp", "*.TMP", "*.swp"),
    *("*~", "~$*", "#*#", ".*", "*.bak", "Thumbs.db", "ehthumbs.db", "desktop.ini"),
)
_MARK = re.compile(r"[*?\[]")
_TEXT_MARK = re.compile(r"[?\[]")  # what stands for a character, and not for bytes
_ONE = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)  # a set, or one character of a pattern


class Patterns(NamedTuple):
    """Compiled patterns; `compiled` makes them. Equal patterns are equal."""

    sources: tuple[str, ...]
    ignore_case: bool
    endings: tuple[bytes, ...]  # of `*ENDING`
    beginnings: tuple[bytes, ...]  # of `BEGINNING*`
    names: frozenset[bytes]
    stars: re.Pattern[bytes] | None  # of other patterns with `*`
    rest: re.Pattern[str] | None  # of patterns with `?` and `[...]`

    def match(self, name: bytes) -> bool:
        """Whether one of the patterns matches the name."""
        if self.ignore_case:
            name = _folded(name)
        return (
            name.endswith(self.endings)
            or name.startswith(self.beginnings)
            or name in self.names
            or (self.stars is not None and self.stars.match(name) is not None)
            or (self.rest is not None and self.rest.match(os.fsdecode(name)) is not None)
        )

    def which(self, name: bytes) -> str:
        """Return the first pattern that matches the name; "" if none does."""
        for source in self.sources:
            if compiled((source,), ignore_case=self.ignore_case, numbered=True).match(name):
                return source
        return ""

    def ending_of(self, name: bytes) -> bytes:
        """Return the ending of a name in front of which a number keeps the name matching.

        That is what stands after the last `*` of the pattern that matches it. A pattern without a
        `*` matches the names with numbers, too: in front of the last dot of the pattern.
        """
        found = self.which(name)
        length = len(_ONE.findall(found[_cut_of(found) :]))
        return os.fsencode(os.fsdecode(name)[-length:]) if length else b""

    def may_end_in(self, ending: bytes) -> bool:
        """Whether a name that one of the patterns matches may have this ending."""
        return any(_may_end_in(source, ending.decode()) for source in self.sources)

    def __str__(self) -> str:
        """Return the patterns as a person would write them, with spaces between."""
        return " ".join(self.sources) + (" (in any case)" if self.ignore_case else "")


@functools.lru_cache(maxsize=256)
def compiled(
    sources: tuple[str, ...], *, ignore_case: bool = False, numbered: bool = False
) -> Patterns:
    """Compile patterns that `wrong_pattern` accepts.

    `numbered`: a pattern without a `*` matches the names with numbers that watcher gives, too,
    also to a name that has a number already.
    """
    endings, beginnings, names = [], [], []
    stars, rest = [], []
    for source in sources:
        text = os.fsdecode(_folded(os.fsencode(source))) if ignore_case else source
        if numbered and "*" not in text:
            cut = _cut_of(text)
            rest.append(f"{_regex(text[:cut])}(?:~[0-9]{{1,9}})+{_regex(text[cut:])}")
        if text[0] == "*" and not _MARK.search(text[1:]):
            endings.append(os.fsencode(text[1:]))
        elif text[-1] == "*" and not _MARK.search(text[:-1]):
            beginnings.append(os.fsencode(text[:-1]))
        elif not _MARK.search(text):
            names.append(os.fsencode(text))
        elif _TEXT_MARK.search(text):
            rest.append(_regex(text))
        else:
            stars.append(os.fsencode(_regex(text)))
    return Patterns(
        *(sources, ignore_case, tuple(endings), tuple(beginnings), frozenset(names)),
        re.compile(b"(?s:%s)\\Z" % b"|".join(stars)) if stars else None,
        re.compile(f"(?s:{'|'.join(rest)})\\Z") if rest else None,
    )


def plain_ending(sources: Sequence[str]) -> str | None:
    """Return the ending that a list of one pattern `*ENDING` stands for; None for other lists."""
    if len(sources) != 1 or sources[0][0] != "*" or _MARK.search(sources[0][1:]):
        return None
    return sources[0][1:]


def ending_for(
    sources: Iterable[str], ignored: Sequence[str], *, ignore_case: bool = False
) -> str | None:
    """Return the ending that makes any new name an entry's; None if no pattern is an ending."""
    ignore = compiled(tuple(ignored), ignore_case=ignore_case)
    for each in sources:
        ending = plain_ending((each,))
        if ending is not None and not ignore.match(os.fsencode("x" + ending)):
            return ending
    return None


def without(ignored: Iterable[str], sources: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of `ignored` that do not contradict the patterns for entries."""
    return tuple(each for each in ignored if contradicted(each, sources) is None)


def contradicted(ignored: str, sources: Iterable[str]) -> str | None:
    """Return which of the patterns could never have an entry because of `ignored`; None if none."""
    for source in sources:
        literal = _MARK.split(source)[-1] if not source.endswith("]") else ""
        if ignored == source or (
            plain_ending((ignored,)) is not None and literal.endswith(ignored[1:])
        ):
            return source
    return None


def wrong_pattern(text: str) -> str | None:
    """Say what is wrong with a pattern, and how to write it; None if it is right."""
    if not text:
        return 'write "*" for every name'
    if "/" in text or "\0" in text:
        return "a pattern is for the name alone, without its directory"
    if len(os.fsencode(text)) > LONGEST:  # UnicodeEncodeError is a ValueError
        return f"longer than the {LONGEST} bytes of a name"
    if any(one == "[" for one in _ONE.findall(text)):
        return 'a "[" without its "]": write [[] for the character itself'
    return None


def never_taken(text: str) -> str | None:
    """Say why a pattern could not have an entry, with the cure; None if it could."""
    if text.startswith(".") and not _MARK.search(text):
        return f'it is the name of one file and no ending: write "*{text}"'
    if text.startswith(".") or text.endswith(".tmp"):
        return "no watcher looks at names with a dot in front, or that end in .tmp"
    return None


def _cut_of(pattern: str) -> int:
    """Return where a number goes into a pattern: after its last `*`, else before its last dot."""
    star = dot = -1
    at = 0
    for one in _ONE.findall(pattern):
        star = at if one == "*" else star
        dot = at if one == "." else dot
        at += len(one)
    if star >= 0:
        return star + 1
    return dot if dot > 0 else len(pattern)


def _may_end_in(pattern: str, ending: str) -> bool:
    """Whether a name with this ending may match: its last characters and the pattern's agree."""
    tail = _ONE.findall(pattern[_cut_of(pattern) if "*" in pattern else 0 :])
    pairs = zip(reversed(tail), reversed(ending), strict=False)
    agrees = all(fnmatch.fnmatchcase(one.lower(), mark.lower()) for mark, one in pairs)
    return agrees and ("*" in pattern or len(tail) >= len(ending))


def _regex(pattern: str) -> str:
    """Return a pattern as a regular expression without an anchor at its end."""
    return fnmatch.translate(pattern).removesuffix("\\Z").removesuffix("\\z")


def _folded(name: bytes) -> bytes:
    """Return a name with its letters in one case."""
    return name.lower() if name.isascii() else os.fsencode(os.fsdecode(name).lower())
