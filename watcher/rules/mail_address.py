"""What can be sent as an address, and the words that a configuration has in place of one. PURE.

It is apart from `mail_envelope`, whose parser of headers takes 15 ms to import: each command that
reads a configuration needs this module.
Fails: never.
"""

from __future__ import annotations

HEADERS = "headers"  # take the addresses from the message's headers
NO_SENDER = "<>"
LONGEST = 254  # bytes of an address: a path of RFC 5321 has 256, and two of them are < and >


def wrong_with(address: str) -> str:
    """Say why a text cannot be sent as an address; "" if it can."""
    try:
        size = len(address.encode())
    except UnicodeEncodeError:
        return "it is not text"
    if not address:
        return "it is empty"
    if size > LONGEST:
        return f"it has more than {LONGEST} bytes"
    if not address.isprintable() or any(mark in address for mark in " <>"):
        return "it has a blank, a bracket or a character that cannot be seen"
    if address.startswith("-"):
        return "it begins with a dash"
    return ""
