"""A python handler: `package.module:function`, called with the `Entry`, or with a list of them.

Guarantees: no exception of the function leaves `run`, not even SystemExit or KeyboardInterrupt.
If the function returns something that still has to run (a coroutine, a generator), the result is
MISCONFIGURED: nothing was done. An entry whose earlier process died goes to another handler, which
runs the function in a worker process, so that another crash harms no other entry.
Fails: `load` raises BadConfiguration if it finds no such function.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from watcher.durations import LONGEST
from watcher.errors import BadConfiguration, Undecodable
from watcher.handle.batch_handler import BatchResult
from watcher.handle.entry import Entry
from watcher.handle.handler import Handler, Reject, Retry
from watcher.rules.results import HANDLED, HandlerResult, Verdict, shortened

KEPT = 4096  # characters of a traceback
_NOT_RUN = "expected a function that works when called, not `async def` or a generator"


class Function:
    """Calls one function for every entry, in this process.

    `alone` handles the entries that were in hand when a process died; None: this process does.
    """

    def __init__(self, function: Callable[[Entry], object], alone: Handler | None = None) -> None:
        self._function = function
        self._alone = alone

    def run(self, entry: Entry) -> HandlerResult:
        """Call the function with the entry: if it returns, the entry is done."""
        if self._alone is not None and entry.crashes > 0:
            return self._alone.run(entry)
        generation = _generation[0]
        try:
            returned = self._function(entry)
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler must not end the worker
            outcome = failure(error)
        else:
            outcome = HANDLED
            if returned is not None and _unrun(returned):
                outcome = HandlerResult(Verdict.MISCONFIGURED, f"nothing ran: {_NOT_RUN}")
        if _generation[0] != generation:
            _leave(outcome)
        return outcome

    def terminate(self) -> None:
        """End the worker processes of `alone`; a function in this process ends with it."""
        if self._alone is not None:
            self._alone.terminate()


class FunctionBatch(Function):
    """Calls one function for a list of up to `most` entries, in this process."""

    def __init__(
        self,
        function: Callable[[list[Entry]], object],
        alone: Handler | None = None,
        most: int = 1,
        wait: float = 0.0,
    ) -> None:
        super().__init__(lambda entry: function([entry]), alone)
        self._with_list = function
        self.most = most
        self.wait = wait

    def run(self, entry: Entry) -> HandlerResult:
        """Call the function with a list of one entry."""
        result = self.run_batch([entry])
        return result.words.get(0, result.whole)

    def run_batch(self, entries: Sequence[Entry]) -> BatchResult:
        """Call the function with a list of entries; what it returns may be a list of results."""
        if self._alone is not None and any(entry.crashes > 0 for entry in entries):
            return self._each_alone(self._alone, entries)
        generation, returned = _generation[0], None
        try:
            returned = self._with_list(list(entries))
        except BaseException as error:  # noqa: BLE001 - as above
            result = BatchResult(failure(error), {})
        else:
            result = _of_list(returned, len(entries))
        if _generation[0] != generation:
            _leave(result.whole)
        return result

    @staticmethod
    def _each_alone(alone: Handler, entries: Sequence[Entry]) -> BatchResult:
        words = {number: alone.run(entry) for number, entry in enumerate(entries)}
        return BatchResult(HANDLED, words)


def load(spec: str, alone: Handler | None = None) -> Function:
    """Return the handler of `package.module:function`; raise BadConfiguration.

    `alone` as in `Function`.
    """
    return Function(function_of(spec), alone)


def function_of(spec: str) -> Callable[..., object]:
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
    return target


_LATER = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


_generation = [0]  # changes in a forked child; os.getpid() would cost a system call


def _in_child() -> None:
    _generation[0] += 1


os.register_at_fork(after_in_child=_in_child)


def _leave(outcome: HandlerResult) -> NoReturn:
    """End a child that the function forked and that returned here: the parent has the entry."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(os.EX_OK if outcome.verdict is Verdict.DONE else os.EX_SOFTWARE)


def _unrun(returned: object) -> bool:
    """Whether a call returned something that has to run before any work is done."""
    if inspect.iscoroutine(returned) or inspect.isgenerator(returned):
        returned.close()
        return True
    return inspect.isawaitable(returned) or inspect.isasyncgen(returned)


def _of_list(returned: object, count: int) -> BatchResult:
    """Return what a function's return value says of its entries; anything but None is checked."""
    if returned is None:
        return BatchResult(HANDLED, {})
    if _unrun(returned):
        return BatchResult(
            HandlerResult(Verdict.MISCONFIGURED, f"nothing ran: {_NOT_RUN}"), {}, True
        )
    if not isinstance(returned, list) or len(returned) != count:
        got = f"{len(returned)}" if isinstance(returned, list) else type(returned).__name__
        why = f"the function returned {got}; expected None, or a list of {count} results"
        return BatchResult(HandlerResult(Verdict.RETRY, why), {}, True)
    return BatchResult(HANDLED, {number: _word(each) for number, each in enumerate(returned)})


def _word(said: object) -> HandlerResult:
    if said is None:
        return HANDLED
    if isinstance(said, (Retry, Reject)):
        return failure(said)
    kind = type(said).__name__
    return HandlerResult(
        Verdict.RETRY, f"the function returned {kind} for it; expected None, Retry or Reject"
    )


def failure(error: BaseException) -> HandlerResult:
    """Return what an exception means: `Retry` and `Reject` say so, any other is a retry."""
    if isinstance(error, Retry):
        return _retry(error)
    if isinstance(error, Reject):
        return HandlerResult(Verdict.REJECT, _text(error) or "rejected by the handler")
    if isinstance(error, Undecodable):
        return HandlerResult(Verdict.REJECT, str(error))
    text = "".join(traceback.format_exception(error))[-KEPT:]
    return HandlerResult(Verdict.RETRY, f"{type(error).__name__}: {_text(error)}", None, text)


def _retry(retry: Retry) -> HandlerResult:
    """Read a `Retry`; if its `after` is no number of seconds, ignore it and say so."""
    reason = _text(retry) or "the handler asks for a retry"
    after = getattr(retry, "after", None)
    if after is None:
        return HandlerResult(Verdict.RETRY, reason)
    if type(after) in (int, float) and 0 <= after <= LONGEST:
        return HandlerResult(Verdict.RETRY, reason, float(after))
    return HandlerResult(
        Verdict.RETRY, f"{reason} (its `after` is passed over: not a number of seconds)"
    )


def _text(error: BaseException) -> str:
    """Return an exception's text in one line; its __str__ may raise as well."""
    try:
        return shortened(str(error))
    except Exception as another:  # noqa: BLE001 - it is the handler's code
        return f"(it has no text: {type(another).__name__})"
