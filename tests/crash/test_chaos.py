"""Chaos with threads: twenty seconds of it here; `python scripts/chaos` for ten minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.account import WRONG, balance
from chaos.test_message import message_for, token_of
from watcher.torture.event_log import Line

CHAOS = Path(__file__).parent.parent.parent / "scripts" / "chaos"
S = 1_000_000_000
pytestmark = [pytest.mark.promise2, pytest.mark.promise4]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "more",
    [
        pytest.param([], id="kills"),
        pytest.param(["--gentle"], id="reloads alone", marks=pytest.mark.long),
    ],
)
def test_twenty_seconds_of_chaos_lose_nothing_and_mix_nothing_up(more):
    # Not below tmp_path: the other user may not go there.
    argv = [sys.executable, CHAOS, "--seconds", "20", "--seed", "1", *more]
    ended = subprocess.run(argv, capture_output=True, text=True)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "audits that balance: 3 of 3" in ended.stdout or "one user" in ended.stdout


# -- of the test: each wrong is found ---------------------------------------------------------


def line(what, second, process=1, name="n", token="t"):
    return Line(what, process, process, int(second * S), token, name)


ACCEPTED = [line("accepted", 0, process=9)]
BEGIN, DONE = line("begin", 1), line("done", 2)
AGAIN = [line("begin", 3, process=2), line("done", 4, process=2)]


@pytest.mark.parametrize(
    ("handled", "deaths", "requeues", "wrong"),
    [
        ([BEGIN, DONE], {}, [], None),
        ([], {}, [], "lost"),
        ([BEGIN], {1: 2 * S}, [], "lost"),
        ([line("torn", 1), BEGIN, DONE], {}, [], "torn"),
        ([BEGIN, line("overwritten", 1.5), DONE], {}, [], "overwritten"),
        ([line("begin", 1, name="m"), DONE], {}, [], "mixed up"),
        ([BEGIN, DONE, *AGAIN], {}, [], "doubled"),
        ([BEGIN, DONE, *AGAIN], {1: int(2.5 * S)}, [], None),
        ([BEGIN, DONE, *AGAIN], {1: 20 * S}, [], "doubled"),
        ([BEGIN, DONE, *AGAIN], {2: int(2.5 * S)}, [], "doubled"),
        ([BEGIN, DONE, *AGAIN], {}, [(2 * S, 3 * S)], "doubled"),
        ([BEGIN, line("reject", 2), *AGAIN], {}, [], "doubled"),
        ([BEGIN, line("reject", 2), *AGAIN], {}, [(2 * S, 3 * S)], None),
        ([BEGIN, line("retry", 2), *AGAIN], {}, [], None),
        ([BEGIN, *AGAIN], {}, [], "at once"),
        ([BEGIN, *AGAIN], {1: 2 * S}, [], None),
        ([BEGIN, AGAIN[0], line("done", 3.5), AGAIN[1]], {1: 4 * S}, [], "at once"),
    ],
)
def test_the_account_finds_what_is_wrong(handled, deaths, requeues, wrong):
    account = balance(ACCEPTED, handled, deaths, requeues, {})
    assert {kind for kind in WRONG if account.wrong[kind]} == ({wrong} if wrong else set())


def test_contents_say_whose_they_are_and_whether_they_are_whole():
    for token in ("1.2.3", "4.0.17"):
        whole = message_for(token)
        assert token_of(whole) == (token, True)
        assert token_of(whole[:-1]) == (token, False)
        assert token_of(whole + b"x") == (token, False)
        assert token_of(message_for("9.9.9")[:20] + whole[20:])[1] is False
    assert token_of(b"") == ("-", False)
