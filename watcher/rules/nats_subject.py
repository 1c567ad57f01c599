"""The subject that an entry is published under: a template, filled in with tokens. PURE.

    MAIL.{queue}            the queue's name
    MAIL.{metadata.lang}    a value of the entry's metadata

A subject is a row of tokens with dots between them. What is filled in becomes one token: the bytes
that a token cannot have are written as in a URL, %2E for a dot, and so are a dollar sign and a _ at
its start. A value that is not there, is empty, or has no text is "_". So no metadata can choose a
subject with other tokens than the template has, or one of the server's own ($JS, $SYS, _INBOX).

Fails: `parse` raises WrongValue.
Source: docs.nats.io, "Subject-Based Messaging".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from watcher.rules.option import WrongValue

LONGEST = 255  # bytes of a subject; the server's own limit (max_control_line) is 4,096
NOTHING = "_"
_TOKEN = re.compile(r"[!-~]+")  # printable ASCII
_FIELD = re.compile(r"\{([^{}]*)\}")
_SAFE = "!#&'()+,-/:;<=?@[]^_`{|}~\"\\"  # neither . * > % $ nor a space
STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SubjectTemplate(NamedTuple):
    """A template of a subject; `keys` are the metadata that it needs."""

    text: str
    keys: tuple[str, ...]

    def fill(self, queue: str, metadata: Mapping[str, object]) -> str:
        """Return the subject of an entry."""

        def value(found: re.Match[str]) -> str:
            name = found[1]
            return token(queue if name == "queue" else metadata.get(name.partition(".")[2]))

        return _FIELD.sub(value, self.text)

    @property
    def pattern(self) -> str:
        """The subjects of all entries, `*` for what differs."""
        return _FIELD.sub("*", self.text)


def token(value: object) -> str:
    """Return one token of a subject that stands for a value."""
    if value is None:
        return NOTHING
    data = value if isinstance(value, bytes) else _encoded(value)
    text = quote(data[:LONGEST], safe=_SAFE).replace(".", "%2E").replace("*", "%2A")
    text = text.replace(">", "%3E")
    if text[:1] == NOTHING:
        text = f"%5F{text[1:]}"
    return text[: LONGEST // 2] or NOTHING


def _encoded(value: object) -> bytes:
    try:
        text = str(value)[:LONGEST]
    except (ValueError, RecursionError):  # a number of thousands of digits; nested too deep
        return b""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "surrogatepass")


def parse(text: str) -> SubjectTemplate:
    """Read a template; raise WrongValue."""
    keys = []
    for name in _FIELD.findall(text):
        if name.startswith("metadata.") and name != "metadata.":
            keys.append(name.partition(".")[2])
        elif name != "queue":
            raise WrongValue(f"{{{name}}} is neither {{queue}} nor {{metadata.KEY}}")
    plain = _FIELD.sub("x", text)
    if "{" in plain or "}" in plain:
        raise WrongValue("a brace stands alone")
    tokens = plain.split(".")
    if not all(map(_TOKEN.fullmatch, tokens)) or {"*", ">"} & set(tokens):
        raise WrongValue("a subject is words of printable ASCII with a dot between them")
    if plain.startswith("$"):
        raise WrongValue("subjects with $ are the server's")
    if len(text) > LONGEST // 2:
        raise WrongValue(f"it is longer than {LONGEST // 2} characters")
    return SubjectTemplate(text, tuple(keys))
