"""A reader of the ASCII form of Mailman 2.1.0 to 2.1.4: `key = repr(value)`, a line each.

Mailman executed these lines. Here they are parsed as Python and walked as literals: text, numbers,
None, booleans, tuples, lists, dicts; anything else is refused and nothing is evaluated.
Fails: Undecodable, with the reason and the line; no other exception, whatever the input.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from watcher.contents.values import is_key
from watcher.errors import Undecodable

if TYPE_CHECKING:
    import ast

MAX_LINE = 1 << 20  # bytes; a digest's thousands of recipients are one line
MAX_LINES = 10_000
MAX_DEPTH = 50
MAX_OPEN = 200  # brackets open at once: Python's own parser has a stack
_LINE = re.compile(rb"([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_LONG = re.compile(r"(?<![\w'\"\\.])(-?\d+)L(?!\w)")
_WORDS: dict[str, object] = {"None": None, "True": True, "False": False}


def read(data: bytes) -> dict[str, object]:
    """Return the metadata that the lines hold; raises Undecodable."""
    found: dict[str, object] = {}
    lines = data.split(b"\n")
    if len(lines) > MAX_LINES:
        raise Undecodable(f"refused: {len(lines)} lines of metadata")
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(b"#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise Undecodable(f"line {number} of the metadata is no `key = value`")
        key = match[1].decode("ascii")
        found[key] = _value(match[2], number)
    return found


def _value(text: bytes, number: int) -> object:
    import ast
    import warnings

    if len(text) > MAX_LINE or _deepest(text) > MAX_OPEN:
        raise Undecodable(f"refused: line {number} of the metadata is too long or too deep")
    source = text.decode("latin-1")
    if "L" in source:
        source = _without_long_suffix(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that Python 3 no longer knows is kept
            tree = ast.parse(source, mode="eval")
        return _literal(tree.body, 0, source)
    except Undecodable as error:
        raise Undecodable(f"line {number} of the metadata: {error}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Undecodable(f"line {number} of the metadata is no literal: {error}") from None


def _deepest(text: bytes) -> int:
    """Return how many brackets are open at once, at the most; those within strings count too."""
    depth = deepest = 0
    for bracket in re.findall(rb"[][(){}]", text):
        depth += 1 if bracket in b"([{" else -1
        deepest = max(deepest, depth)
    return deepest


def _without_long_suffix(source: str) -> str:
    """Drop the L of Python 2's long numbers, outside of strings."""
    pieces = re.split(r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")", source)
    pieces[::2] = [_LONG.sub(r"\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _literal(node: ast.AST, depth: int, source: str) -> Any:
    import ast

    if depth > MAX_DEPTH:
        raise Undecodable(f"nested deeper than {MAX_DEPTH}")
    match node:
        case ast.Constant(value=str() as text, kind=kind):
            return text if kind == "u" else _text2(text)
        case ast.Constant(value=int() | float() | bool() | None as value):
            return value
        case ast.Name(id=name) if name in _WORDS:
            return _WORDS[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Tuple(elts=items):
            return tuple(_literal(item, depth + 1, source) for item in items)
        case ast.List(elts=items):
            return [_literal(item, depth + 1, source) for item in items]
        case ast.Dict(keys=keys, values=values):
            return _dict(keys, values, depth, source)
    raise Undecodable(f"refused: {type(node).__name__} is no literal")


def _dict(keys: list[Any], values: list[Any], depth: int, source: str) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key_node, value_node in zip(keys, values, strict=True):
        if key_node is None:
            raise Undecodable("refused: ** is no literal")
        key = _literal(key_node, depth + 1, source)
        if not is_key(key):
            raise Undecodable("refused: a key that is neither text nor number")
        made[key] = _literal(value_node, depth + 1, source)
    return made


def _text2(text: str) -> str | bytes:
    """Read a str of Python 2, whose characters are bytes."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text
