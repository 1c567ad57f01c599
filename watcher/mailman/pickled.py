"""A reader of pickles, protocols 0 to 5, that makes plain values and inert records only.

Guarantees: nothing in a pickle is imported, called or executed; a name that is not on the exact
allow-list (`values.ALLOWED`) is refused. `budget` bounds the memory. `MAX_OPCODES` and the input's
size bound the time to about 2 s plus 0.2 s a MB. A str of Python 2 becomes str if it is ASCII,
otherwise bytes.
Fails: Undecodable, with a reason and the place; no other exception, whatever the input.

The opcodes are those of Python's pickletools.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from watcher.errors import Undecodable
from watcher.mailman.budget import (
    DICT,
    LIST,
    SET,
    SLOT,
    TUPLE,
    Budget,
)
from watcher.mailman.machine import Machine
from watcher.mailman.objects import (
    add_items,
    append,
    build,
    called,
    dict_of,
    frozen_set,
    named,
    named_on_stack,
    new_object,
    new_object_ex,
    object_named,
    object_of_stack,
    set_item,
    set_items,
)
from watcher.mailman.skim import MAX_OPCODES, STOP
from watcher.mailman.values import MAX_DIGITS, text2, unescaped


def read(data: bytes, position: int = 0, budget: Budget | None = None) -> tuple[Any, int]:
    """Read the pickle that begins at `position`; return its value and its end; raise Undecodable.

    `budget` is shared by the pickles of one input.
    """
    machine, opcodes = Machine(data, position, budget or Budget(len(data) - position)), OPCODES
    try:
        for _ in range(MAX_OPCODES):
            if (code := data[machine.position]) == STOP:
                return machine.stack.pop(), machine.position + 1
            machine.position += 1
            opcodes[code](machine)
    except IndexError:
        raise machine.broken() from None
    except (TypeError, ValueError, ArithmeticError, RecursionError, struct.error) as error:
        reason = f"{error!s:.100}".encode("unicode_escape").decode()
        raise Undecodable(f"damaged near byte {machine.position}: {reason}") from None
    raise Undecodable(f"refused: a pickle of more than {MAX_OPCODES} opcodes")


def _decimal(text: bytes) -> int:
    if len(text) > MAX_DIGITS:
        raise Undecodable(f"refused: a number of {len(text)} digits")
    return int(text)


def _int_line(machine: Machine) -> int | bool:
    text = machine.line()
    return text == b"01" if text in (b"00", b"01") else _decimal(text)


def _long_bytes(machine: Machine, size: int) -> int:
    if size > MAX_DIGITS:
        raise Undecodable(f"refused: a number of {size} bytes")
    return int.from_bytes(machine.take(size), "little", signed=True)


def _string_line(machine: Machine) -> str | bytes:
    text = machine.line().strip()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in b"'\"":  # noqa: PLR2004
        raise Undecodable(f"damaged: a string without its quotes before byte {machine.position}")
    return text2(unescaped(text[1:-1]))


def _float(machine: Machine) -> float:
    text = machine.line()
    if len(text) > MAX_DIGITS:
        raise Undecodable(f"refused: a number of {len(text)} digits")
    return float(text)


def _unicode(size: int) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.budget.unicode(machine.take(machine.number(size))))


def _push(make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    def opcode(machine: Machine) -> None:
        machine.stack.append(make(machine))

    return opcode


def _container(cost: int, make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    """Push a container and charge it: it takes far more memory than its opcode."""

    def opcode(machine: Machine) -> None:
        machine.pay(cost)
        machine.stack.append(make(machine))

    return opcode


def _tuple(count: int) -> Callable[[Machine], None]:
    def opcode(machine: Machine) -> None:
        if len(machine.stack) < count:
            raise machine.broken()
        machine.pay(TUPLE + SLOT * count)
        items = tuple(machine.stack[-count:])
        del machine.stack[-count:]
        machine.stack.append(items)

    return opcode


def _tuple_of(machine: Machine) -> tuple[Any, ...]:
    items = machine.since_mark()
    machine.pay(TUPLE + SLOT * len(items))
    return tuple(items)


def _list_of(machine: Machine) -> list[Any]:
    items = machine.since_mark()
    machine.pay(LIST + SLOT * len(items))
    return items


def _drop(machine: Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()


def _pop_mark(machine: Machine) -> None:
    machine.since_mark()


def _refuse(what: str) -> Callable[[Machine], None]:
    def opcode(machine: Machine) -> None:
        raise Undecodable(f"refused: {what} at byte {machine.position - 1}")

    return opcode


def _unknown(machine: Machine) -> None:
    code = machine.data[machine.position - 1]
    raise Undecodable(
        f"not a pickle: byte {machine.position - 1} is {code:#04x}, which is not an opcode"
    )


def _integer(size: int) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.number(size))


def _counted(size: int, make: Callable[[bytes], Any]) -> Callable[[Machine], None]:
    """Push the value that `make` makes of bytes; `size` bytes before them hold their count."""
    return _push(lambda machine: make(machine.take(machine.number(size))))


def _signed(machine: Machine) -> int:
    return int.from_bytes(machine.take(4), "little", signed=True)


def _memoized(size: int | None) -> Callable[[Machine], None]:
    def opcode(machine: Machine) -> None:
        index = _decimal(machine.line()) if size is None else machine.number(size)
        machine.stack.append(machine.recall(index))

    return opcode


def _memoize(size: int | None) -> Callable[[Machine], None]:
    def opcode(machine: Machine) -> None:
        machine.remember(_decimal(machine.line()) if size is None else machine.number(size))

    return opcode


def _frame(machine: Machine) -> None:
    size = machine.number(8)
    if size > len(machine.data) - machine.position:
        raise Undecodable(
            f"truncated: a frame of {size} bytes at byte {machine.position},"
            f" {len(machine.data) - machine.position} are there"
        )


BY_CODE: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": lambda machine: None if machine.number(1) <= 5 else _unknown(machine),  # noqa: PLR2004
    b"\x95": _frame,
    b"(": lambda machine: machine.marks.append(len(machine.stack)),
    b"0": _drop,
    b"1": _pop_mark,
    b"2": _push(lambda machine: machine.stack[-1]),
    b"N": _push(lambda _: None),
    b"\x88": _push(lambda _: True),
    b"\x89": _push(lambda _: False),
    b"I": _push(_int_line),
    b"L": _push(lambda machine: _decimal(machine.line().rstrip(b"L"))),
    b"J": _push(_signed),
    b"K": _integer(1),
    b"M": _integer(2),
    b"\x8a": _push(lambda machine: _long_bytes(machine, machine.number(1))),
    b"\x8b": _push(lambda machine: _long_bytes(machine, machine.number(4))),
    b"F": _push(_float),
    b"G": _push(lambda machine: struct.unpack(">d", machine.take(8))[0]),
    b"S": _push(_string_line),
    b"T": _push(lambda machine: text2(machine.take(_signed(machine)))),
    b"U": _counted(1, text2),
    b"V": _push(lambda machine: machine.budget.raw_unicode_escape(machine.line())),
    b"X": _unicode(4),
    b"\x8c": _unicode(1),
    b"\x8d": _unicode(8),
    b"B": _counted(4, bytes),
    b"C": _counted(1, bytes),
    b"\x8e": _counted(8, bytes),
    b"\x96": _counted(8, bytes),
    b"]": _container(LIST, lambda _: []),
    b"a": lambda machine: append(machine, [machine.stack.pop()]),
    b"e": lambda machine: append(machine, machine.since_mark()),
    b"l": _push(_list_of),
    b")": _push(lambda _: ()),
    b"t": _push(_tuple_of),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"}": _container(DICT, lambda _: {}),
    b"d": _container(DICT, dict_of),
    b"s": set_item,
    b"u": lambda machine: set_items(machine, machine.since_mark()),
    b"\x8f": _container(SET, lambda _: set()),
    b"\x90": add_items,
    b"\x91": _container(SET, frozen_set),
    b"g": _memoized(None),
    b"h": _memoized(1),
    b"j": _memoized(4),
    b"p": _memoize(None),
    b"q": _memoize(1),
    b"r": _memoize(4),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"c": _push(named),
    b"\x93": _push(named_on_stack),
    b"R": _push(called),
    b"b": build,
    b"i": _push(object_named),
    b"o": _push(object_of_stack),
    b"\x81": _push(new_object),
    b"\x92": _push(new_object_ex),
    b"P": _refuse("a persistent id"),
    b"Q": _refuse("a persistent id"),
    b"\x82": _refuse("an extension code"),
    b"\x83": _refuse("an extension code"),
    b"\x84": _refuse("an extension code"),
    b"\x97": _refuse("an out-of-band buffer"),
    b"\x98": _refuse("an out-of-band buffer"),
}
OPCODES = [BY_CODE.get(bytes([code]), _unknown) for code in range(256)]
