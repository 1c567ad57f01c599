"""The opcodes of a pickle that make and change containers and objects, as hostile pickles use them.

Guarantees: a name that is not on the exact allow-list (`values.ALLOWED`) is refused. Only the inert
records and plain values of `values` are made; nothing else is imported, called or changed. Copies
are charged to the budget. Keys are flat, and so few that hashing them is cheap.
Fails: Undecodable; IndexError if the stack is empty, which `pickled.read` explains.
"""

from __future__ import annotations

from typing import Any

from watcher.errors import Undecodable
from watcher.mailman.budget import ENTRY, INERT, SET
from watcher.mailman.machine import Machine
from watcher.mailman.values import (
    ALLOWED,
    OBJECT,
    RECONSTRUCTOR,
    Class,
    Inert,
    is_key,
    keys,
)


def _find(module: str, name: str) -> Class:
    found = ALLOWED.get((module, name))
    if found is None:
        shown = f"{module}.{name}"[:80].encode("unicode_escape").decode()
        raise Undecodable(f"refused: {shown} is not on the allow-list")
    return found


def _call(machine: Machine, function: Any, arguments: Any) -> Any:
    if not isinstance(function, Class) or not isinstance(arguments, tuple):
        raise Undecodable("refused: a call of something that is not a class")
    if function.make is not None:
        machine.pay(SET)  # the largest object that a call without arguments makes
        for argument in arguments:
            if isinstance(argument, str | bytes):
                machine.pay(len(argument))
            elif isinstance(argument, list | tuple | set | frozenset):
                machine.pay(ENTRY * len(argument))
        return function.make(*arguments)
    if function.kind == RECONSTRUCTOR:
        match arguments:
            case (Class() as wanted, Class(kind="object"), None):
                return _new(machine, wanted)
            case _:
                raise Undecodable(
                    "refused: an object that is rebuilt from a class other than object"
                )
    return _new(machine, function)


def _new(machine: Machine, wanted: Any) -> Inert:
    """Make an inert record; the arguments of its constructor are ignored."""
    if not isinstance(wanted, Class) or wanted.make or wanted.kind in (RECONSTRUCTOR, OBJECT):
        raise Undecodable("refused: an object of something that is not a class")
    machine.pay(INERT)
    return Inert(wanted.kind)


def build(machine: Machine) -> None:
    """Remove the state from the top of the stack, and give it to the object below."""
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(state, tuple) and len(state) == 2:  # noqa: PLR2004 - (state, slots)
        parts = [part for part in state if part is not None]
    else:
        parts = [state]
    if not isinstance(target, Inert) or not all(isinstance(part, dict) for part in parts):
        raise Undecodable("refused: a state for something that cannot have one")
    for part in parts:
        machine.pay(ENTRY * (1 + len(part)))
        target.state.update((key, value) for key, value in part.items() if isinstance(key, str))


def append(machine: Machine, items: list[Any]) -> None:
    """Add items to the list on top of the stack."""
    target = machine.stack[-1]
    if not isinstance(target, list):
        raise Undecodable("damaged: items for something that is not a list")
    target.extend(items)


def set_items(machine: Machine, items: list[Any]) -> None:
    """Set keys and values, in turn, in the dict on top of the stack."""
    _set_items(machine, machine.stack[-1], items)


def _set_items(machine: Machine, target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise Undecodable("damaged: items for something that is not a dict")
    # the first entry of a dict makes room for five
    machine.pay(ENTRY * (len(items) // 2 + (not target)))
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not is_key(key, len(target)):
            raise Undecodable("refused: a key that is neither text nor number")
        target[key] = value


def set_item(machine: Machine) -> None:
    """Set one key and value, from the top of the stack, in the dict below them."""
    value, key = machine.stack.pop(), machine.stack.pop()
    set_items(machine, [key, value])


def add_items(machine: Machine) -> None:
    """Add the items after the mark to the set below the mark."""
    items, target = machine.since_mark(), machine.stack[-1]
    if not isinstance(target, set):
        raise Undecodable("damaged: members for something that is not a set")
    machine.pay(ENTRY * len(items))
    for item in items:
        if not is_key(item, len(target)):
            raise Undecodable("refused: a set's member that is neither text nor number")
        target.add(item)


def dict_of(machine: Machine) -> dict[Any, Any]:
    """Return a dict of the keys and values after the mark, in turn."""
    made: dict[Any, Any] = {}
    _set_items(machine, made, machine.since_mark())
    return made


def frozen_set(machine: Machine) -> frozenset[Any]:
    """Return a frozenset of the items after the mark."""
    members = machine.since_mark()
    machine.pay(ENTRY * len(members))
    return frozenset(keys(members))


def named(machine: Machine) -> Class:
    """Return the class that two lines name, if it is on the allow-list."""
    module, name = machine.line(), machine.line()
    return _find(module.decode("ascii", "replace"), name.decode("ascii", "replace"))


def named_on_stack(machine: Machine) -> Class:
    """Return the class that two texts on the stack name, if it is on the allow-list."""
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise Undecodable("damaged: a class whose name is not text")
    return _find(module, name)


def called(machine: Machine) -> Any:
    """Return the value that a call makes, if its arguments have the right types."""
    arguments, function = machine.stack.pop(), machine.stack.pop()
    return _call(machine, function, arguments)


def new_object(machine: Machine) -> Any:
    """Return an object of the class on the stack; its arguments are ignored."""
    _arguments, wanted = machine.stack.pop(), machine.stack.pop()
    if isinstance(wanted, Class) and wanted.make is not None:
        return _call(machine, wanted, _arguments)
    return _new(machine, wanted)


def new_object_ex(machine: Machine) -> Inert:
    """Do as `new_object`, for a call with named arguments."""
    _keywords, _arguments, wanted = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    return _new(machine, wanted)


def object_of_stack(machine: Machine) -> Any:
    """Return an object of the class that follows the mark."""
    wanted, *_arguments = machine.since_mark()
    return _new(machine, wanted)


def object_named(machine: Machine) -> Any:
    """Return an object of the class that two lines name."""
    wanted = named(machine)
    machine.since_mark()
    return _new(machine, wanted)
