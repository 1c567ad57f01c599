"""Python handlers: what a function raises or returns, and what can be loaded at all."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
import threading

import pytest

from watcher.durations import LONGEST
from watcher.errors import BadConfiguration, Undecodable
from watcher.handle.function import KEPT, Function, load
from watcher.handle.handler import Reject, Retry
from watcher.rules.results import HANDLED, Verdict

ENTRY = object()  # a function is given whatever entry there is


def outcome_of(error):
    def handle(_entry):
        raise error

    return Function(handle).run(ENTRY)


def test_returning_is_done_whatever_is_returned():
    given = []
    assert Function(given.append).run(ENTRY) is HANDLED
    assert given == [ENTRY]
    for value in (False, 75, "retry", [], Verdict.REJECT):
        assert Function(lambda _entry, value=value: value).run(ENTRY) is HANDLED


def test_retry_and_reject_say_why():
    retry = outcome_of(Retry("busy", after=90))
    assert (retry.verdict, retry.reason, retry.after) == (Verdict.RETRY, "busy", 90.0)
    assert outcome_of(Retry()).after is None
    assert outcome_of(Retry()).reason == "the handler asks for a retry"
    reject = outcome_of(Reject("no such list"))
    assert (reject.verdict, reject.reason) == (Verdict.REJECT, "no such list")
    assert outcome_of(Reject()).reason == "rejected by the handler"


@pytest.mark.parametrize(
    "after", ["5m", -1, math.nan, math.inf, LONGEST * 2, 1 << 2000, True, b"1", [], object()]
)
def test_an_after_that_is_no_number_of_seconds_is_passed_over_and_said(after):
    outcome = outcome_of(Retry("busy", after=after))
    assert (outcome.verdict, outcome.after) == (Verdict.RETRY, None)
    assert outcome.reason == "busy (its `after` is passed over: not a number of seconds)"


def test_a_retry_whose_class_forgot_its_after_is_a_retry():
    class Mine(Retry):
        def __init__(self):
            pass

    assert outcome_of(Mine()).verdict is Verdict.RETRY


def test_an_entry_that_cannot_be_decoded_is_rejected():
    outcome = outcome_of(Undecodable("damaged: 3 bytes after the second pickle"))
    assert outcome.verdict is Verdict.REJECT
    assert outcome.reason == "damaged: 3 bytes after the second pickle"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(0),
        KeyboardInterrupt(),
        GeneratorExit(),
        MemoryError(),
        OSError(5),
    ],
    ids=repr,
)
def test_anything_else_that_is_raised_retries_with_its_traceback(error):
    outcome = outcome_of(error)
    assert outcome.verdict is Verdict.RETRY
    assert outcome.reason.startswith(f"{type(error).__name__}: ")
    assert "in handle\n    raise error" in outcome.stderr
    assert type(error).__name__ in outcome.stderr


def test_sys_exit_within_the_function_ends_nothing():
    outcome = Function(lambda _entry: sys.exit("enough")).run(ENTRY)
    assert (outcome.verdict, outcome.reason) == (Verdict.RETRY, "SystemExit: enough")


def test_an_exception_that_cannot_be_shown_is_a_retry_too():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("not even that")

    class MuteRetry(Mute, Retry):
        pass

    class MuteReject(Mute, Reject):
        pass

    assert outcome_of(Mute()).verdict is Verdict.RETRY
    assert "RuntimeError" in outcome_of(Mute()).reason
    assert outcome_of(MuteRetry()).verdict is Verdict.RETRY
    assert outcome_of(MuteReject()).verdict is Verdict.REJECT


def test_a_long_traceback_keeps_its_end_and_a_long_text_its_beginning():
    outcome = outcome_of(ValueError("a\n" + "b" * 100_000 + "the end"))
    assert len(outcome.stderr) == KEPT
    assert outcome.stderr.endswith("the end\n")
    assert outcome.reason.startswith("ValueError: a\\nbbb")
    assert len(outcome.reason) < 1000
    assert outcome.reason.isprintable()


def test_recursion_without_end_is_a_retry():
    def handle(entry):
        handle(entry)

    assert Function(handle).run(ENTRY).verdict is Verdict.RETRY


async def asynchronous(_entry):
    """Never runs."""


def generator(_entry):
    yield


async def asynchronous_generator(_entry):
    yield


LATER = [asynchronous, generator, asynchronous_generator]


@pytest.mark.parametrize("function", LATER)
def test_a_function_that_only_promises_to_work_is_not_done(function):
    """Its entry would be removed, and nothing would ever have happened."""
    hidden = functools.partial(function)
    outcome = Function(hidden).run(ENTRY)
    assert outcome.verdict is Verdict.MISCONFIGURED
    assert "nothing ran" in outcome.reason


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that can be imported during the test, and return its name."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(text):
        name = f"handler_module_{len(written)}"
        (tmp_path / f"{name}.py").write_text(text)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_load_finds_functions_methods_and_callables(module):
    name = module(
        "class Desk:\n"
        "    @staticmethod\n"
        "    def take(entry): raise ValueError(entry)\n"
        "def handle(entry): raise ValueError(entry)\n"
    )
    for spec in (f"{name}:handle", f"{name}:Desk.take"):
        assert load(spec).run("it").reason == "ValueError: it"


BAD = {
    "nothing": "",
    "no colon": "os",
    "no function": "os:",
    "no module": ":path",
    "no such module": "no_such_module_here:handle",
    "no such function": "os:no_such_function",
    "no such attribute": "os:path.join.nothing",
    "empty attribute": "os:path..join",
    "not callable": "os:sep",
    "relative": ".mod:handle",
    "NUL": "a\0b:handle",
    "newline": "a\nb:handle",
}


@pytest.mark.parametrize("spec", BAD.values(), ids=BAD.keys())
def test_load_says_in_one_line_what_it_expected(spec):
    with pytest.raises(BadConfiguration) as caught:
        load(spec)
    text = str(caught.value)
    assert text.isprintable()
    assert "expected" in text
    assert repr(spec) in text


BODIES = {
    "syntax error": "def handle(:",
    "raises": "raise RuntimeError('two\\nlines')",
    "raises what cannot be shown": (
        "class Mute(Exception):\n def __str__(self): raise ValueError\nraise Mute"
    ),
    "leaves": "import sys; sys.exit(0)",
    "imports what is not there": "import no_such_module_here",
    "async": "async def handle(entry): pass",
    "generator": "def handle(entry): yield",
    "async generator": "async def handle(entry): yield",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_load_refuses_a_module_that_cannot_serve(module, body):
    with pytest.raises(BadConfiguration) as caught:
        load(module(body) + ":handle")
    assert str(caught.value).isprintable()


FORKS = """
import os, sys
from watcher.handle.function import Function
def handle(entry):
    child = os.fork()
    if child == 0:
        {leaves}
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(Function(handle).run(None).verdict.name)
"""


@pytest.mark.parametrize(("leaves", "status"), [("return", 0), ("sys.exit(0)", os.EX_SOFTWARE)])
def test_a_child_that_the_function_forks_ends_with_the_function(leaves, status):
    """Or there would be two of us, and the first to be done would remove the entry."""
    program = FORKS.format(leaves=leaves)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines() == [str(status), "DONE"]


def test_a_function_is_called_from_several_threads_at_once():
    together = threading.Barrier(4, timeout=20)
    handler = Function(lambda _entry: together.wait())
    outcomes = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(handler.run(ENTRY))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [HANDLED] * 4
    handler.terminate()
