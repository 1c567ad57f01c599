"""A python handler: `package.module:function`, called with the `Entry`.

Guarantees: nothing the function raises leaves `run`, SystemExit and KeyboardInterrupt included.
Fails: `load` raises BadConfiguration when there is no such function.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable

from watcher.entry import Entry
from watcher.errors import BadConfiguration, Undecodable
from watcher.handle.outcome import DONE, Outcome, Reject, Retry, Verdict

KEPT = 4096  # characters of a traceback


class Function:
    """Calls one function for every entry."""

    def __init__(self, function: Callable[[Entry], object]) -> None:
        self._function = function

    def run(self, entry: Entry) -> Outcome:
        """Call the function: returning is done, `Retry` and `Reject` say so, the rest retries."""
        try:
            self._function(entry)
        except Retry as retry:
            return Outcome(Verdict.RETRY, str(retry) or "the handler asks for a retry", retry.after)
        except Reject as reject:
            return Outcome(Verdict.REJECT, str(reject) or "rejected by the handler")
        except Undecodable as error:
            return Outcome(Verdict.REJECT, str(error))
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler must not end the worker
            text = "".join(traceback.format_exception(error))[-KEPT:]
            return Outcome(Verdict.RETRY, f"{type(error).__name__}: {error}", None, text)
        return DONE

    def abandon(self) -> None:
        """Do nothing: the function ends with the process."""


def load(spec: str) -> Function:
    """Import `package.module:function`; raise BadConfiguration naming what is missing."""
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise BadConfiguration(f"handler {spec!r}: expected package.module:function")
    try:
        target: object = importlib.import_module(module_name)
        for attribute in name.split("."):
            target = getattr(target, attribute)
    except Exception as error:  # noqa: BLE001 - a module may raise anything at import
        raise BadConfiguration(
            f"handler {spec!r}: cannot be imported ({type(error).__name__}: {error});"
            " expected package.module:function, importable with this PYTHONPATH"
        ) from None
    if not callable(target):
        raise BadConfiguration(
            f"handler {spec!r}: expected a function, got {type(target).__name__}"
        )
    return Function(target)
