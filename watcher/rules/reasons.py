"""The kind of a reason: what a thousand failures of one cause have in common. PURE.

    exit status 75: connect to 10.0.0.7:25: timed out after 30 s
    exit status 75: connect to *: timed out after * s

Guarantees: reasons that differ only in numbers, addresses, quoted text, paths or hexadecimal digits
have one kind. A number that names the error stays, such as an exit status, a signal or an HTTP
status: these tell causes apart. The kind is one line of at most `LONGEST` characters, and the time
that it takes grows with the length of the reason alone.
Fails: never.
"""

from __future__ import annotations

import re

LONGEST = 200  # characters of a kind
UNKNOWN = "no reason is known"  # the kind of an empty reason
_READ = 1_000  # characters of a reason that are looked at
_ANY = "*"  # stands for what differs

# Each alternative takes its text once and gives nothing back, so that hostile text costs no time.
_PARTS = re.compile(
    r"""
    (?P<code> \b (?: exit\ status | exited\ with\ status | status | signal | errno | code | SMTP
                   | HTTP (?: /[0-9](?:\.[0-9])? )? ) [ :=]{1,2} [0-9]{1,3} (?! [.]?[\w] ) )
    | (?P<quoted> (?<! \w ) [bru]{0,2} (?: ' [^']*+ ' | " [^"]*+ " | ` [^`']*+ [`'] ) (?! \w ) )
    | (?P<url> \b [a-z][a-z0-9+.-]{1,15}:// [^\s'"<>]*+ )
    | (?P<path> (?<! [\w/*] ) (?: ~ | \.{1,2} )? / [^\s:,;'"()<>]++ )
    | (?P<word> [\w@+-]++ (?: \. [\w@+-]++ )*+ )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_HEXADECIMAL = re.compile(r"[0-9a-f]{8,}", re.IGNORECASE)
_LIST = re.compile(r"\*(?:(?:, ?|[:./;+-]+)\*)++")  # 10.0.0.7:25; 1, 2, 3


def kind_of(reason: str) -> str:
    """Return the text that a reason has in common with all others of its cause."""
    line = " ".join(reason[:_READ].split())
    kind = _LIST.sub(_ANY, _PARTS.sub(_kept, line))
    if len(kind) > LONGEST:
        kind = kind[: LONGEST - 3] + "..."
    return kind or UNKNOWN


def _kept(found: re.Match[str]) -> str:
    """Return a part itself if all reasons of one cause have it, else `_ANY`."""
    text = found[0]
    if found.lastgroup == "code":
        return text
    if found.lastgroup == "word":
        differs = "@" in text or any(map(str.isdigit, text)) or _HEXADECIMAL.fullmatch(text)
        return _ANY if differs else text
    return _ANY
