"""A python handler: `package.module:function`, called with the `Entry`.

Guarantees: nothing the function raises leaves `run`, SystemExit and KeyboardInterrupt included.
A function that only returned something still to be run (`async def`, a generator) has done nothing
yet, and is the operator's mistake rather than done. An entry that was in the hands of a process
that died is handled in a process of its own, so that it takes no other with it.
Fails: `load` raises BadConfiguration when there is no such function.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from watcher.durations import LONGEST
from watcher.entry import Entry
from watcher.errors import BadConfiguration, Undecodable
from watcher.handle.isolated import Isolated
from watcher.handle.outcome import DONE, Outcome, Reject, Retry, Verdict, shortened

KEPT = 4096  # characters of a traceback
_NOT_RUN = "expected a function that works when called, not `async def` or a generator"


class Function:
    """Calls one function for every entry."""

    def __init__(self, function: Callable[[Entry], object], alone: Isolated | None = None) -> None:
        self._function = function
        self._alone = alone

    def run(self, entry: Entry) -> Outcome:
        """Handle one entry, a suspect in a process of its own."""
        if self._alone is not None and entry.crashes > 0:
            return self._alone.run(entry)
        return self.here(entry)

    def here(self, entry: Entry) -> Outcome:
        """Call the function in this process."""
        generation = _generation[0]
        outcome = self._call(entry)
        if _generation[0] != generation:
            _leave(outcome)
        return outcome

    def _call(self, entry: Entry) -> Outcome:
        """Call the function: returning is done, `Retry` and `Reject` say so, the rest retries."""
        try:
            returned = self._function(entry)
        except Retry as retry:
            return _retry(retry)
        except Reject as reject:
            return Outcome(Verdict.REJECT, _text(reject) or "rejected by the handler")
        except Undecodable as error:
            return Outcome(Verdict.REJECT, str(error))
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler must not end the worker
            text = "".join(traceback.format_exception(error))[-KEPT:]
            return Outcome(Verdict.RETRY, f"{type(error).__name__}: {_text(error)}", None, text)
        if returned is not None and _unrun(returned):
            return Outcome(Verdict.MISCONFIGURED, f"nothing ran: {_NOT_RUN}")
        return DONE

    def abandon(self) -> None:
        """End what runs in another process; what runs in this one ends with it."""
        if self._alone is not None:
            self._alone.abandon()


def load(spec: str) -> Function:
    """Import `package.module:function`; raise BadConfiguration naming what is missing."""
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise BadConfiguration(f"handler {spec!r}: expected package.module:function")
    try:
        target: object = importlib.import_module(module_name)
        for attribute in name.split("."):
            target = getattr(target, attribute)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may do anything at import
        raise BadConfiguration(
            f"handler {spec!r}: cannot be imported ({type(error).__name__}: {_text(error)});"
            " expected package.module:function, importable with this PYTHONPATH"
        ) from None
    if not callable(target):
        raise BadConfiguration(
            f"handler {spec!r}: expected a function, got {type(target).__name__}"
        )
    if any(kind(target) for kind in _LATER):
        raise BadConfiguration(f"handler {spec!r}: {_NOT_RUN}")
    return Function(target, Isolated(spec, keep=False))


_LATER = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


_generation = [0]  # how often this process is a child's child: os.getpid() is a system call


def _in_child() -> None:
    _generation[0] += 1


os.register_at_fork(after_in_child=_in_child)


def _leave(outcome: Outcome) -> NoReturn:
    """End a process that the function forked: it came here, and the entry is not its own."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(os.EX_OK if outcome.verdict is Verdict.DONE else os.EX_SOFTWARE)


def _unrun(returned: object) -> bool:
    """Whether a call only made something that would do the work, had somebody run it."""
    if inspect.iscoroutine(returned) or inspect.isgenerator(returned):
        returned.close()
        return True
    return inspect.isawaitable(returned) or inspect.isasyncgen(returned)


def _retry(retry: Retry) -> Outcome:
    """Read a handler's wish; an `after` that is no number of seconds is said and passed over."""
    reason = _text(retry) or "the handler asks for a retry"
    after = getattr(retry, "after", None)
    if after is None:
        return Outcome(Verdict.RETRY, reason)
    if type(after) in (int, float) and 0 <= after <= LONGEST:
        return Outcome(Verdict.RETRY, reason, float(after))
    return Outcome(Verdict.RETRY, f"{reason} (its `after` is passed over: not a number of seconds)")


def _text(error: BaseException) -> str:
    """Return what an exception says, in one line; its own __str__ may raise as well."""
    try:
        return shortened(str(error))
    except Exception as another:  # noqa: BLE001 - it is the handler's code
        return f"(its text cannot be had: {type(another).__name__})"
