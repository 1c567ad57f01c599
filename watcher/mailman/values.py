"""The values made from a pickle's objects: inert records and a few plain values. PURE.

Guarantees: each row of the allow-list is one (module, name). A class on it becomes an `Inert`,
which has a name, a state and no behaviour. A callable on it makes a plain value out of arguments of
the right types, and does nothing else.
Fails: Undecodable; ValueError, TypeError or OverflowError, which `pickled.read` explains.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from watcher.errors import Undecodable

if TYPE_CHECKING:
    import datetime as dt


class Inert:
    """A record of an object of a class in the pickle: the class's kind and the attributes."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: dict[str, Any] = {}


class Class:
    """A name on the allow-list, on the pickle machine's stack."""

    __slots__ = ("kind", "make")

    def __init__(self, kind: str, make: Callable[..., Any] | None = None) -> None:
        self.kind = kind
        self.make = make


MESSAGE, HEADER, CHARSET, POLICY, DEFECT = "message", "header", "charset", "policy", "defect"
RECONSTRUCTOR, OBJECT = "reconstructor", "object"

PRIMITIVE = (str, bytes, int, float, bool, type(None))
MAX_DIGITS = 1_000  # of a whole number, in decimal or in bytes
MAX_KEY = 10_000  # characters or bytes of a key
KEY_PARTS = 16  # members of a tuple that may be a key
SMALL = 1 << 60  # whole numbers below it have different hashes
CROWD = 64  # members of a dict or set up to which it takes keys whose hash a writer can choose


def is_key(value: object, size: int = 0) -> bool:
    """Whether a value may be a key of a dict, or a member of a set, that has `size` members now.

    It must be flat, so that hashing it is cheap, and short, because each look-up compares it. A
    writer can choose large numbers and tuples of numbers that have one hash, and thousands of these
    in one dict cost hours. So beyond `CROWD` members only text, bytes and small numbers may follow.
    """
    if isinstance(value, str | bytes):
        return len(value) <= MAX_KEY
    if isinstance(value, int):
        return size < CROWD or -SMALL < value < SMALL
    if isinstance(value, tuple):
        return size < CROWD and len(value) <= KEY_PARTS and all(map(_is_part, value))
    return value is None or isinstance(value, float)


def _is_part(value: object) -> bool:
    return isinstance(value, PRIMITIVE) and is_key(value)


def text2(data: bytes) -> str | bytes:
    """Return a str of Python 2 as text if it is ASCII, else as bytes."""
    return data.decode("ascii") if data.isascii() else data


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|([\\'\"abfnrtv\n]))")
_NAMED: dict[bytes, bytes] = {
    b"\\": b"\\", b"'": b"'", b'"': b'"', b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n",
    b"r": b"\r", b"t": b"\t", b"v": b"\v", b"\n": b"",
}  # fmt: skip


def unescaped(data: bytes) -> bytes:
    """Return the bytes for the text between the quotes of a str's repr.

    An unknown escape stays as it is. The standard library's decoder warns of such an escape, and a
    warning may be an error.
    """
    if b"\\" not in data:
        return data
    made, start = bytearray(), 0  # re.sub would make a list of all the pieces
    for match in _ESCAPE.finditer(data):
        made += data[start : match.start()]
        made += _character(match)
        start = match.end()
    made += data[start:]
    return bytes(made)


def _character(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, named = match[1], match[2], match[3]
    if named is not None:
        return _NAMED[named]
    return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 255])


def _wrong(what: str) -> Undecodable:
    return Undecodable(f"refused: {what} with wrong arguments")


def _codepoints(value: object) -> bytes:
    """Return the bytes of a datetime, which Python 2 or 3 wrote as str or bytes."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("latin-1")
    raise _wrong("datetime")


def _datetime(*arguments: object) -> dt.datetime:
    import datetime as dt

    zone: Any = None
    if arguments and isinstance(arguments[-1], dt.tzinfo) and len(arguments) == 2:  # noqa: PLR2004
        zone = arguments[-1]
        arguments = arguments[:1]
    if len(arguments) != 1:
        raise _wrong("datetime")
    data = _codepoints(arguments[0])
    if len(data) != 10:  # noqa: PLR2004 - year in 2, month to second in 5, microseconds in 3
        raise _wrong("datetime")
    year, micro = int.from_bytes(data[:2], "big"), int.from_bytes(data[7:], "big")
    fold, month = data[2] >> 7, data[2] & 127
    day, hour, minute, second = data[3:7]
    return dt.datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)


def _timedelta(*arguments: object) -> dt.timedelta:
    import datetime as dt

    if len(arguments) > 3 or not all(isinstance(number, int) for number in arguments):  # noqa: PLR2004
        raise _wrong("timedelta")
    days, seconds, micro = (*arguments, 0, 0, 0)[:3]
    return dt.timedelta(days, seconds, micro)  # type: ignore[arg-type]


def _timezone(*arguments: object) -> dt.timezone:
    import datetime as dt

    if len(arguments) == 1 and isinstance(arguments[0], dt.timedelta):
        return dt.timezone(arguments[0])
    raise _wrong("timezone")


def keys(members: list[Any]) -> list[Any]:
    """Return the members for a set; raise Undecodable if one may not be in a set."""
    if not all(is_key(member, place) for place, member in enumerate(members)):
        raise Undecodable("refused: a set's member that is neither text nor number")
    return members


def _set(*arguments: object) -> set[Any]:
    match arguments:
        case []:
            return set()
        case [list() | tuple() | set() | frozenset() as members]:
            return set(keys(list(members)))
        case _:
            raise _wrong("set")


def _frozenset(*arguments: object) -> frozenset[Any]:
    return frozenset(_set(*arguments))


def _encode(*arguments: object) -> bytes:
    """Return bytes: Python 3 writes them in protocols 0 to 2 as _codecs.encode(text, "latin1")."""
    match arguments:
        case [str() as text, "latin1" | "latin-1"]:
            return text.encode("latin-1")
        case _:
            raise _wrong("_codecs.encode")


def _bytes(*arguments: object) -> bytes:
    match arguments:
        case []:
            return b""
        case [bytes() as data]:
            return data
        case [str() as text, "latin-1" | "latin1"]:
            return text.encode("latin-1")
        case _:
            raise _wrong("bytes")


ALLOWED: dict[tuple[str, str], Class] = {
    ("datetime", "datetime"): Class("datetime", _datetime),
    ("datetime", "timedelta"): Class("timedelta", _timedelta),
    ("datetime", "timezone"): Class("timezone", _timezone),
    ("_codecs", "encode"): Class("encode", _encode),
    ("copy_reg", "_reconstructor"): Class(RECONSTRUCTOR),
    ("copyreg", "_reconstructor"): Class(RECONSTRUCTOR),
    ("email._policybase", "Compat32"): Class(POLICY),
    ("email.charset", "Charset"): Class(CHARSET),
    ("email.Charset", "Charset"): Class(CHARSET),
    ("email.header", "Header"): Class(HEADER),
    ("email.Header", "Header"): Class(HEADER),
}
for _module in ("__builtin__", "builtins"):
    ALLOWED[_module, "set"] = Class("set", _set)
    ALLOWED[_module, "frozenset"] = Class("frozenset", _frozenset)
    ALLOWED[_module, "bytes"] = Class("bytes", _bytes)
    ALLOWED[_module, "bytearray"] = Class("bytes", _bytes)
    ALLOWED[_module, "object"] = Class(OBJECT)
for _name in (
    "CloseBoundaryNotFoundDefect",
    "FirstHeaderLineIsContinuationDefect",
    "InvalidBase64CharactersDefect",
    "InvalidBase64LengthDefect",
    "InvalidBase64PaddingDefect",
    "InvalidMultipartContentTransferEncodingDefect",
    "MalformedHeaderDefect",
    "MisplacedEnvelopeHeaderDefect",
    "MissingHeaderBodySeparatorDefect",
    "MultipartInvariantViolationDefect",
    "NoBoundaryInMultipartDefect",
    "StartBoundaryNotFoundDefect",
    "UndecodableBytesDefect",
):
    ALLOWED["email.errors", _name] = ALLOWED["email.Errors", _name] = Class(DEFECT)
for _module, _name in (
    ("Mailman.Message", "Message"),
    ("Mailman.Message", "UserNotification"),
    ("Mailman.Message", "OwnerNotification"),
    ("mailman.email.message", "Message"),
    ("mailman.email.message", "MultipartDigestMessage"),
    ("mailman.email.message", "UserNotification"),
    ("mailman.email.message", "OwnerNotification"),
    ("email.message", "Message"),
    ("email.Message", "Message"),
    *((f"email.mime.{name.lower()}", f"MIME{name}") for name in ("Audio", "Base", "Image")),
    *((f"email.mime.{name.lower()}", f"MIME{name}") for name in ("Message", "Multipart", "Text")),
    ("email.mime.application", "MIMEApplication"),
    ("email.mime.nonmultipart", "MIMENonMultipart"),
    *((f"email.MIME{name}", f"MIME{name}") for name in ("Audio", "Base", "Image", "Message")),
    *((f"email.MIME{name}", f"MIME{name}") for name in ("Multipart", "NonMultipart", "Text")),
):
    ALLOWED[_module, _name] = Class(MESSAGE)
