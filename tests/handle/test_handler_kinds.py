"""A new kind of handler is one row of the table and one file: here a row and a class of the test's.

The configuration reads it, a sweep runs it, and the message for a wrong kind names it.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping
from typing import ClassVar

import pytest

from watcher.cli import parameters
from watcher.config import load as configuration
from watcher.errors import BadConfiguration, Usage
from watcher.handle import handler_kinds
from watcher.handle.handler_kinds import KINDS, settings_class, with_timeout
from watcher.handle.handler_settings import HandlerSettings
from watcher.handle.kinds.run_command import Exec
from watcher.handle.kinds.run_function import Python
from watcher.rules.option import Option, period
from watcher.rules.results import HANDLED, AttemptEnd
from watcher.sweep import Limits, Sweep, SweepOptions


class Copy:
    """A handler that writes the message to a directory."""

    def __init__(self, directory, timeout):
        self.directory = directory
        self.timeout = timeout

    def run(self, entry):
        with open(os.path.join(self.directory, entry.name), "wb") as file:
            file.write(entry.message)
        return HANDLED

    def terminate(self):
        raise AssertionError("a sweep that ends by itself terminates nothing")


class CopySettings(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ copy = "DIRECTORY", timeout = "2m" }`."""

    copy: str
    timeout: float = 60.0

    OPTIONS: ClassVar[Mapping[str, Option]] = {"timeout": Option(period, "a duration", "1m", "")}
    EXAMPLE: ClassVar[str] = '{ copy = "DIRECTORY" }'

    def mistake(self):
        return None if self.copy else ("copy", "a directory")

    def load(self):
        if not os.path.isdir(self.copy):
            raise BadConfiguration(f"handler.copy: {self.copy}: no such directory")
        return Copy(self.copy, self.timeout)


@pytest.fixture
def load(queue, tmp_path, monkeypatch):
    """Load a configuration of one queue with some handler, the new kind being registered."""
    monkeypatch.setitem(KINDS, "copy", f"{__name__}:CopySettings")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[CopySettings.__module__])
    file = tmp_path / "w.toml"

    def loaded(handler):
        file.write_text(f'[queues.q]\npath = "{queue}"\ngrace_age = "0s"\nhandler = {handler}\n')
        return configuration.load(str(file), {})["q"]

    return loaded


def test_a_new_kind_is_read_by_its_row_and_run_by_a_sweep(load, queue, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    (queue / "1.pck").write_bytes(pickle.dumps(b"message", 2) + pickle.dumps({}, 2))
    settings = load(f'{{ copy = "{copies}", timeout = "2m" }}')
    handler = parameters.handler_for(settings)
    assert (type(handler), handler.timeout) == (Copy, 120.0)
    orders = SweepOptions(settings.name, parameters.terms_for(settings), settings.retry)
    sweep = Sweep(parameters.open_spool(settings), orders, handler, Limits())
    assert [line.report.result for line in sweep.lines(lambda _record: None)] == [AttemptEnd.DONE]
    assert (copies / "1").read_bytes() == b"message"
    assert not (queue / "1.pck").exists()


EVERY_KIND = ", ".join([*KINDS, "copy"])
WRONG = {
    "a wrong kind": ("{ uucp = 'x' }", f": no such kind: 'uucp'; one of: {EVERY_KIND}"),
    "two kinds": ("{ copy = 'x', exec = ['a'] }", f": expected one of: {EVERY_KIND}; got"),
    "a wrong option": ("{ copy = 'x', timeout = 5 }", ".timeout: expected a duration; got 5"),
    "a mistake of its own": ("{ copy = '' }", ".copy: expected a directory"),
    "a wrong type": ("{ copy = 5 }", ": Expected `str`, got `int` - at `$.copy`; expected { exec"),
    "an option of another kind": ("{ copy = 'x', memory = 5 }", "unknown field `memory`"),
}


@pytest.mark.parametrize(("handler", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_new_kind_is_said_as_of_the_others(load, handler, expected):
    with pytest.raises(BadConfiguration) as caught:
        load(handler)
    assert f"queues.q.handler{expected}" in str(caught.value) or expected in str(caught.value)


def test_a_new_kind_that_cannot_be_loaded_is_named_with_its_place(load):
    with pytest.raises(BadConfiguration, match=r"queues\.q\.handler\.copy: /nowhere: no such"):
        load("{ copy = '/nowhere' }").load_handler()


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_has_a_field_of_its_own_name_and_an_example(kind):
    row = settings_class(kind)
    assert row.__struct_fields__[0] == kind
    assert row.__struct_config__.forbid_unknown_fields
    assert set(row.OPTIONS) <= set(row.__struct_encode_fields__)
    assert f"{{ {kind} = " in row.EXAMPLE
    assert row.COST.endswith(".")
    assert issubclass(row, handler_kinds.HandlerSettings)


def test_the_flag_sets_the_timeout_in_place_of_the_configured_one():
    assert with_timeout(Exec(("true",)), "2m").timeout == 120.0
    assert with_timeout(Exec(("true",), timeout=5.0), "90").timeout == 90.0
    assert with_timeout(Python("a:b", isolate=True), "1s").timeout == 1.0


@pytest.mark.parametrize(
    ("handler", "text", "said"),
    [
        (Exec(("true",)), "soon", "--timeout: expected a duration"),
        (Exec(("true",)), "0s", "--timeout: expected a duration"),
        (Python("a:b"), "1s", "--timeout: expected isolate = true beside it"),
        (HandlerSettings(), "1s", "--timeout: the handler is of a kind that has none"),
    ],
)
def test_a_timeout_that_cannot_be_is_refused(handler, text, said):
    with pytest.raises(Usage) as caught:
        with_timeout(handler, text)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (Exec(("true",)), "set a timeout"),
        (Python("a:b"), "set isolate = true and a timeout"),
        (Python("a:b", isolate=True), "set a timeout"),
        (Exec(("true",), timeout=5.0), ""),
        (Python("a:b", isolate=True, timeout=5.0), ""),
    ],
)
def test_an_attempt_without_end_is_told_of_where_one_can_be(handler, said):
    words = handler.endless()
    assert said in words
    assert bool(words) == bool(said)


TARGETS = {
    "exec": ["/bin/true"],
    "python": "json:loads",
    "worker": ["/bin/true"],
    "move": "DIRECTORY",
    "maildir": "DIRECTORY",
    "lmtp": "/no/socket",
    "smtp": "127.0.0.1:1",
    "http": "http://127.0.0.1:1/",
    "nats": "nats://127.0.0.1:1",
    "trigger": ["/bin/true"],
}
BESIDE = {"nats": {"stream": "MAIL"}}  # what a kind cannot be without


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_at_a_target_says_what_it_is_about(kind, tmp_path):
    """A program that reads `check --json` finds the handlers by this word."""
    pytest.importorskip("httpx2")
    pytest.importorskip("nats")
    for part in ("cur", "new", "tmp"):
        (tmp_path / part).mkdir()
    target = str(tmp_path) if TARGETS[kind] == "DIRECTORY" else TARGETS[kind]
    settings = handler_kinds.read_handler({kind: target} | BESIDE.get(kind, {}), "handler")
    settings.load()
    assert {check.about for check in settings.try_target()} == {"handler"}
