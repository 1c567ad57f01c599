"""The values of a message's headers: text, bytes, or a Header object of the email package.

Guarantees: a Header is built from checked chunks of text and from names of charsets that mail uses
and Python has. No other codec is looked up: some need minutes for a megabyte, a look-up imports
the codec, and Python keeps unknown names until the process ends. A Header's length is bounded,
because encoding takes more than linear time.
Fails: Undecodable, or what the email package raises, which `message.render` explains.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from watcher.errors import Undecodable
from watcher.mailman.values import CHARSET, HEADER, Inert

if TYPE_CHECKING:
    from email.header import Header

MAX_TEXT = 1 << 16  # characters of one Header
MAX_CHUNKS = 1_000
MAX_NUMBER = 10_000  # the largest line length that a Header may have
LONGEST_NAME = 40  # characters of a charset's
_MAIL_CHARSET = re.compile(
    r"""(?: us[-_]?ascii | ascii | ansi_x3\.4-1968 | unknown-8bit
      | utf[-_]?(?:7|8|16|32)(?:-?[bl]e)?
      | latin[-_]?\d+ | iso[-_]?8859[-_]?\d+(?:-[ei])? | iso-?2022-[a-z0-9-]+ | iso-ir-\d+
      | (?:cp|windows|ibm|ms)[-_]?\d+ | koi8[-_]?[a-z] | mac[-_]?[a-z]+ | euc[-_]?[a-z]+
      | s(?:hift)?[-_]?jis(?:x?[-_]?\d+)? | big5(?:[-_]?hkscs)? | gb[-_]?(?:k|2312(?:-80)?|18030)
      | hz(?:-gb(?:-2312)?)? | ks[-_]?c[-_]?5601(?:[-_]1987)? | ksx1001 | johab | uhc | korean
      | tis[-_]?620 | viscii | ptcp154 | kz1048 | hp-roman8 )""",
    re.VERBOSE | re.IGNORECASE,
)

_WITHOUT_ALIAS = re.compile(  # the codecs of Python that have one name only
    "cp(?:1006|720|737|856|874|875)|koi8_[tu]|mac_(?:arabic|croatian|farsi|romanian)"
)


def as_text(value: Any, what: str) -> str:
    """Return text of Python 3 for text or bytes of Python 2 or 3; raise Undecodable.

    Bytes that are not ASCII become surrogate escapes.
    """
    if isinstance(value, bytes):
        return value.decode("ascii", "surrogateescape")
    if isinstance(value, str):
        return value
    raise Undecodable(f"damaged message: {what} is not text")


def header_text(header: Inert) -> str:
    """Return the text of an inert Header, for the metadata; raise Undecodable."""
    try:
        return str(header_of(header))
    except (Undecodable, OSError, ImportError, MemoryError):
        raise  # the last three say that the machine is short of something
    except Exception as error:  # noqa: BLE001 - the email package raises what it likes
        raise Undecodable(f"damaged header: {type(error).__name__}: {error!a:.200}") from None


def is_header(value: Any) -> bool:
    """Whether a header's value is an inert Header object."""
    return isinstance(value, Inert) and value.kind == HEADER


def chunks_of(source: Inert) -> list[tuple[str | bytes, str]]:
    """Return the checked chunks of an inert Header, text and charset; raise Undecodable."""
    chunks = source.state.get("_chunks", [])
    if not isinstance(chunks, list):
        raise Undecodable("damaged header: its chunks are not a list")
    found: list[tuple[str | bytes, str]] = []
    length = 0
    for chunk in chunks:
        if not isinstance(chunk, tuple | list) or len(chunk) != 2:  # noqa: PLR2004
            raise Undecodable("damaged header: a chunk that is not a pair")
        text = chunk[0] if isinstance(chunk[0], bytes) else as_text(chunk[0], "a chunk")
        length += len(text)
        if length > MAX_TEXT or len(found) >= MAX_CHUNKS:
            raise Undecodable(f"refused: a header of more than {MAX_TEXT} characters")
        found.append((text, _charset(chunk[1])))
    return found


def header_of(source: Inert) -> Header:
    """Build a Header of the email package out of an inert one; raise Undecodable."""
    from email.header import Header

    space = as_text(source.state.get("_continuation_ws", " "), "white space")
    if len(space) > MAX_CHUNKS or space.strip(" \t"):
        raise Undecodable("damaged header: its continuation is not white space")
    header: Any = Header(continuation_ws=space[:8])
    for key in ("_maxlinelen", "_headerlen"):
        number = source.state.get(key)
        if isinstance(number, int) and 0 < number <= MAX_NUMBER:
            setattr(header, key, number)
    for text, charset in chunks_of(source):
        header.append(text, charset)
    return header  # type: ignore[no-any-return]


def _charset(source: Any) -> str:
    name = source.state.get("input_charset") if isinstance(source, Inert) else source
    if isinstance(source, Inert) and source.kind != CHARSET:
        raise Undecodable("damaged header: something else in place of a charset")
    text = as_text(name, "a charset's name")
    if not is_charset(text):
        raise Undecodable(f"refused: {text[:40]!a} is not a charset of mail")
    return text


def is_charset(name: str) -> bool:
    """Whether mail uses a charset of this name and Python has it."""
    if len(name) > LONGEST_NAME or not _MAIL_CHARSET.fullmatch(name):
        return False
    from email import charset
    from encodings.aliases import aliases

    known = name.lower()
    if known in charset.ALIASES or known == charset.UNKNOWN8BIT:
        return True
    known = known.replace("-", "_").replace(".", "_")
    return (
        known in aliases or known in aliases.values() or _WITHOUT_ALIAS.fullmatch(known) is not None
    )
