"""A trigger's settings: which options do not go with it; and its command handles no entry."""

from __future__ import annotations

import os

import pytest

from watcher.config import load as configuration
from watcher.errors import BadConfiguration, Unavailable
from watcher.handle.entry import Entry
from watcher.handle.kinds.run_trigger import Trigger
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.form import Form
from watcher.rules.names import Layout
from watcher.rules.results import AttemptEnd, Verdict
from watcher.rules.retry import Policy
from watcher.spool import run_lock
from watcher.spool.claimed import ClaimOptions
from watcher.spool.spool import Spool
from watcher.sweep import SweepOptions
from watcher.trigger import NoRecord, TriggerRuns

REFUSED = {
    "concurrency = 2": ": concurrency: expected 1: a trigger runs its command once at a time",
    'archive = "done/"': ": archive: with a trigger the command removes the entries",
    "breaker = 5": ": breaker: with a trigger no attempts are counted",
    'retry = { give_up_after = "1d" }': ": retry.give_up_after: with a trigger no entry is given",
    "retry = { max_attempts = 3 }": ": retry.max_attempts: with a trigger no entry is given",
}


@pytest.fixture
def load(tmp_path):
    file = tmp_path / "w.toml"

    def loaded(line, handler='{ trigger = ["true"], timeout = "2m" }'):
        file.write_text(f'[queues.q]\npath = "{tmp_path}"\nhandler = {handler}\n{line}\n')
        return configuration.load(str(file), {})["q"]

    return loaded


@pytest.mark.parametrize(("line", "said"), REFUSED.items(), ids=REFUSED)
def test_an_option_that_does_not_go_with_a_trigger_is_refused(load, line, said):
    with pytest.raises(BadConfiguration) as caught:
        load(line)
    assert f"queues.q{said}" in str(caught.value)
    load(line, handler='{ exec = ["true"] }')


def test_what_goes_with_a_trigger_is_taken(load):
    settings = load('retry = { initial = "1s", max = "5m" }\nconcurrency = 1\nlegacy = true')
    assert settings.handler == Trigger(("true",), 120.0)
    assert settings.handler.endless() == ""
    assert "set a timeout" in Trigger(("true",)).endless()


def test_a_command_that_is_not_there_is_refused(load):
    with pytest.raises(BadConfiguration, match=r"queues\.q\.handler\.trigger: expected a command"):
        load("", handler='{ trigger = ["/nowhere"] }').load_handler()


def test_no_entry_is_handled_by_the_command():
    entry = Entry(queue="q", name=b"1", directory=b"/", parts=(), form=Form.RAW)
    result = Trigger(("true",)).load().run(entry)
    assert result.verdict is Verdict.MISCONFIGURED


def test_a_lock_that_cannot_be_taken_is_the_result_and_no_exception(tmp_path, monkeypatch):
    (tmp_path / "1.csv").touch()

    def refuse(_spool):
        raise Unavailable("our own directory cannot be used")

    monkeypatch.setattr(run_lock, "take", refuse)
    options = SweepOptions("q", ClaimOptions(0.0, Ages(SystemClock())), Policy())
    runs = TriggerRuns(Trigger(("true",)).load(), options, NoRecord())
    spool = Spool(os.fsencode(tmp_path), Layout(b".csv", raw=True))
    report = runs(spool, b"1.csv", Proof.NONE)
    assert (report.result, report.why) == (
        AttemptEnd.STUCK,
        "1.csv: our own directory cannot be used",
    )
