"""What a pickle's opcodes do to containers and to objects: the part where a pickle can be hostile.

Guarantees: a name that is not on the exact allow-list (`values.ALLOWED`) is refused; nothing is
imported, called or given a state but the inert records and plain values of `values`; what is
copied is paid for, and keys are flat and few enough to be hashed cheaply.
Fails: Undecodable; IndexError where the stack ends, which `pickled.read` explains.
"""

from __future__ import annotations

from typing import Any

from watcher.contents.machine import Machine
from watcher.contents.values import ALLOWED, OBJECT, RECONSTRUCTOR, Class, Inert, is_key
from watcher.errors import Undecodable


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
        for argument in arguments:
            if isinstance(argument, str | bytes | list | tuple | set | frozenset):
                machine.pay(len(argument))
        return function.make(*arguments)
    if function.kind == RECONSTRUCTOR:
        match arguments:
            case (Class() as wanted, Class(kind="object"), None):
                return _new(wanted)
        raise Undecodable("refused: an object rebuilt from another than object")
    return _new(function)


def _new(wanted: Any) -> Inert:
    """Make an inert record; what its constructor was given does not matter to it."""
    if not isinstance(wanted, Class) or wanted.make or wanted.kind in (RECONSTRUCTOR, OBJECT):
        raise Undecodable("refused: an object of something that is not a class")
    return Inert(wanted.kind)


def build(machine: Machine) -> None:
    """Give the object below the top of the stack the state that is on top."""
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(state, tuple) and len(state) == 2:  # noqa: PLR2004 - (state, slots)
        parts = [part for part in state if part is not None]
    else:
        parts = [state]
    if not isinstance(target, Inert) or not all(isinstance(part, dict) for part in parts):
        raise Undecodable("refused: a state for something that has none")
    for part in parts:
        machine.pay(len(part))
        target.state.update((key, value) for key, value in part.items() if isinstance(key, str))


def append(machine: Machine, items: list[Any]) -> None:
    """Add items to the list on top of the stack."""
    target = machine.stack[-1]
    if not isinstance(target, list):
        raise Undecodable("damaged: items for something that is not a list")
    target.extend(items)


def set_items(machine: Machine, items: list[Any]) -> None:
    """Set keys and values, in turn, in the dict on top of the stack."""
    target = machine.stack[-1]
    if not isinstance(target, dict) or len(items) % 2:
        raise Undecodable("damaged: items for something that is not a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not is_key(key, len(target)):
            raise Undecodable("refused: a key that is neither text nor number")
        target[key] = value


def set_item(machine: Machine) -> None:
    """Set one key and value in the dict below them."""
    value, key = machine.stack.pop(), machine.stack.pop()
    set_items(machine, [key, value])


def add_items(machine: Machine) -> None:
    """Add what follows the mark to the set below it."""
    items, target = machine.since_mark(), machine.stack[-1]
    if not isinstance(target, set):
        raise Undecodable("damaged: members for something that is not a set")
    for item in items:
        if not is_key(item, len(target)):
            raise Undecodable("refused: a set's member that is neither text nor number")
        target.add(item)


def dict_of(items: list[Any]) -> dict[Any, Any]:
    """Return a dict of keys and values in turn."""
    made = Machine(b"")
    made.stack.append({})
    set_items(made, items)
    result: dict[Any, Any] = made.stack[0]
    return result


def named(machine: Machine) -> Class:
    """Return what two lines name, if it is on the allow-list."""
    module, name = machine.line(), machine.line()
    return _find(module.decode("ascii", "replace"), name.decode("ascii", "replace"))


def named_on_stack(machine: Machine) -> Class:
    """Return what two texts on the stack name, if it is on the allow-list."""
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise Undecodable("damaged: a class whose name is not text")
    return _find(module, name)


def called(machine: Machine) -> Any:
    """Return what a call makes, if its arguments are of the right shape."""
    arguments, function = machine.stack.pop(), machine.stack.pop()
    return _call(machine, function, arguments)


def new_object(machine: Machine) -> Any:
    """Return an object of the class on the stack; what it would be made of does not matter."""
    _arguments, wanted = machine.stack.pop(), machine.stack.pop()
    if isinstance(wanted, Class) and wanted.make is not None:
        return _call(machine, wanted, _arguments)
    return _new(wanted)


def new_object_ex(machine: Machine) -> Inert:
    """Return the same, for a call that names its arguments."""
    _keywords, _arguments, wanted = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    return _new(wanted)


def object_of_stack(machine: Machine) -> Any:
    """Return an object of the class that follows the mark."""
    wanted, *_arguments = machine.since_mark()
    return _new(wanted)


def object_named(machine: Machine) -> Any:
    """Return an object of the class that two lines name."""
    wanted = named(machine)
    machine.since_mark()
    return _new(wanted)
