"""A publisher, workers and the server are killed again and again: `scripts/beyond_one_machine`."""

from __future__ import annotations

import pytest

pytest.importorskip("nats")

from beyond_one_machine.nats_servers import PROGRAM
from beyond_one_machine.run import Plan, run

pytestmark = [pytest.mark.slow, pytest.mark.promise2, pytest.mark.promise3]


@pytest.fixture(autouse=True)
def installed():
    if PROGRAM is None:
        pytest.skip("no nats-server")


def show(result):
    account = result.account
    print(result.seconds, account.counts, account.calls_per_entry, account.attempts, result.pauses)
    assert not account.wrong
    assert not result.wrong
    assert account.counts["effects"] + account.counts["dead letters"] == account.counts["entries"]


def test_whatever_is_killed_each_entry_has_its_effect_once(tmp_path):
    plan = Plan(seed=7, entries=200, every=0.8, kills=5, rate=60.0, ack_wait=1.0)
    show(result := run(str(tmp_path), plan))
    assert sum(count for what, count in result.account.counts.items() if "kills" in what) >= 5
