"""What of a message's headers a dead letter can have, and under which subject it is stored. PURE.

A dead letter has more headers than its message: why it is one, and after how much. The server takes
64 KiB of headers, and a whole message of `max_payload`. What does not fit is left out, the least
needed first: a message that fills its size has no reason as a dead letter, but it is kept.

Fails: never.
Source: nats-server, error 10097; docs.nats.io, "Subject-Based Messaging".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MOST_OF_HEADERS = 60_000  # bytes; the server takes 65,535
TOO_LARGE = frozenset({10054, 10097})  # the whole message, its headers
_FRAME = len("NATS/1.0\r\n\r\n")
_LINE = len(": \r\n")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # what the library sends
_PLAIN = re.compile(r"[!-)+-=?-~]{1,255}")  # printable ASCII without a space, * and >


def fitting(headers: Mapping[str, str], room: int) -> dict[str, str]:
    """Return the headers, the first ones first, as far as they fit into so many bytes.

    A header whose name no client may send is left out.
    """
    kept, left = {}, room - _FRAME
    for name, value in headers.items():
        size = len(name) + len(value.encode()) + _LINE
        if size <= left and _NAME.fullmatch(name):
            kept[name] = value
            left -= size
    return kept


def size_of(headers: Mapping[str, str]) -> int:
    """Return how many bytes headers take in a message."""
    if not headers:
        return 0
    return _FRAME + sum(len(name) + len(text.encode()) + _LINE for name, text in headers.items())


def is_plain(tail: str) -> bool:
    """Whether these tokens can be the end of a dead letter's subject."""
    return bool(_PLAIN.fullmatch(tail)) and all(tail.split("."))
