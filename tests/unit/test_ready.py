"""Ready: each name once, to one worker, none lost, bounded; with many orders and with threads."""

from __future__ import annotations

import itertools
import random
import threading

import pytest
from hypothesis import given, strategies as st

from watcher.daemon.ready import Item, Ready
from watcher.rules.evidence import Proof
from watcher.rules.names import DEFERRED

HOWS = st.sampled_from(Proof)
NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
MOVES = st.one_of(
    st.tuples(st.just("push"), NAMES, HOWS),
    st.tuples(st.just("pop"), NAMES, HOWS),
    st.tuples(st.just("finish"), NAMES, HOWS),
    st.tuples(st.just("put back"), NAMES, HOWS),
)


@given(st.lists(MOVES, max_size=60), st.integers(1, 4))
def test_every_order_of_moves_keeps_the_promises(moves, limit):
    ready = Ready(limit)
    waiting: list[bytes] = []  # the model: names in order, and the best proof of each
    best: dict[bytes, Proof] = {}
    working: dict[bytes, Proof | None] = {}
    for what, name, proof in moves:
        if what == "push":
            room = name in working or name in best or len(waiting) < limit
            assert ready.push(name, proof) == room
            if name in working:
                before = working[name]
                working[name] = proof if before is None else max(before, proof)
            elif room:
                if name not in best:
                    waiting.append(name)
                best[name] = max(proof, best.get(name, proof))
        elif what == "pop" and waiting:
            expected = waiting.pop(0)
            assert ready.pop()[:2] == (expected, best.pop(expected))
            assert expected not in working
            working[expected] = None
        elif what == "finish" and name in working:
            again = working.pop(name)
            if again is not None:
                waiting.append(name)
                best[name] = again
            assert ready.finish(name) == len(waiting)
        elif what == "put back" and name in working:
            again = working.pop(name)
            waiting.insert(0, name)
            best[name] = proof if again is None else max(proof, again)
            ready.put_back(Item(name, proof))
        assert len(ready) == len(waiting) <= limit + len(moves)
        assert {name for name in (b"a", b"b", b"c", b"d") if ready.is_ready(name)} == {
            *waiting,
            *working,
        }
        assert ready.working() == list(working)


def test_first_come_first_served():
    ready = Ready()
    for name in (b"c", b"a", b"b", b"a"):
        ready.push(name, Proof.NONE)
    assert [ready.pop()[0] for _ in range(3)] == [b"c", b"a", b"b"]


def test_a_full_lane_of_due_ones_leaves_the_fresh_their_room():
    ready = Ready(2)
    for number in (b"1", b"2"):
        assert ready.push(b"deferred/" + number, Proof.NONE)
    assert not ready.push(b"deferred/3", Proof.NONE)
    assert ready.push(b"a", Proof.RENAMED)
    assert ready.push(b"b", Proof.RENAMED)
    assert not ready.push(b"c", Proof.RENAMED)


def test_fresh_and_due_entries_take_turns():
    ready = Ready()
    for number in range(3):
        ready.push(b"deferred/%d" % number, Proof.NONE)
    for number in range(5):
        ready.push(b"%d" % number, Proof.RENAMED)
    order = [ready.pop()[0] for _ in range(8)]
    due, fresh = ([name for name in order if (b"/" in name) is kind] for kind in (True, False))
    assert due == [b"deferred/0", b"deferred/1", b"deferred/2"]
    assert fresh == [b"0", b"1", b"2", b"3", b"4"]
    kinds = [b"/" in name for name in order]
    assert [first != second for first, second in itertools.pairwise(kinds)][:5] == [True] * 5


def test_a_backlog_is_filled_in_as_if_pushed_one_by_one():
    ready = Ready(4)
    ready.push(b"c", Proof.RENAMED, 9)
    ready.push(b"z", Proof.NONE)
    assert ready.pop()[:2] == (b"c", Proof.RENAMED)
    assert ready.fill([b"a", b"z", b"c", b"b", b"d", b"e"], Proof.NO_WRITER) == 5, (
        "there is room for 4"
    )
    assert [ready.pop()[:2] for _ in range(4)] == [
        (b"z", Proof.NO_WRITER),
        (b"a", Proof.NO_WRITER),
        (b"b", Proof.NO_WRITER),
        (b"d", Proof.NO_WRITER),
    ]
    ready.finish(b"c")
    assert ready.pop()[:2] == (b"c", Proof.NO_WRITER), "it may be a new file by now"


def test_a_full_one_says_no_to_new_names_only():
    ready = Ready(2)
    assert ready.push(b"a", Proof.NONE)
    assert ready.push(b"b", Proof.NONE)
    assert not ready.push(b"c", Proof.RENAMED)
    assert ready.push(b"a", Proof.RENAMED)
    assert not ready.is_ready(b"c")
    assert ready.pop()[:2] == (b"a", Proof.RENAMED)


@pytest.mark.parametrize("let_go", ["finish", "put back"])
def test_a_name_pushed_while_in_hand_comes_again_with_the_strongest_proof(let_go):
    ready = Ready()
    ready.push(b"a", Proof.NONE)
    ready.pop()
    ready.push(b"a", Proof.NONE)
    ready.push(b"a", Proof.RENAMED)
    ready.push(b"a", Proof.NO_WRITER)
    if let_go == "finish":
        assert ready.finish(b"a") == 1
    else:
        ready.put_back(Item(b"a", Proof.NONE))
    assert ready.pop()[:2] == (b"a", Proof.RENAMED)
    assert len(ready) == 0
    assert ready.finish(b"a") == 0


def test_put_back_goes_before_all_others():
    ready = Ready()
    ready.push(b"a", Proof.NONE)
    ready.push(b"b", Proof.NONE)
    ready.put_back(ready.pop())
    assert ready.pop()[:2] == (b"a", Proof.NONE)


def in_thread(target):
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def join(threads):
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_permits_hold_everything_or_let_so_many_through():
    ready = Ready()
    ready.allow(0)
    for name in (b"a", b"b", b"c"):
        ready.push(name, Proof.NONE)
    popped: list[bytes] = []
    came = threading.Semaphore(0)

    def work():
        while (item := ready.pop()) is not None:
            popped.append(item[0])
            came.release()

    worker = in_thread(work)
    assert not came.acquire(timeout=0.1)
    ready.allow(1)
    assert came.acquire(timeout=10)
    assert not came.acquire(timeout=0.1)
    assert popped == [b"a"]
    ready.allow(None)
    assert came.acquire(timeout=10)
    assert came.acquire(timeout=10)
    assert popped == [b"a", b"b", b"c"]
    ready.close()
    worker.join(10)
    assert not worker.is_alive()


@pytest.mark.parametrize("each_alone", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_who_listens_looks_up_if_there_is_more_than_those_who_wait_can_take(each_alone, count):
    ready, told = Ready(), []
    worker = in_thread(ready.pop)
    while not ready._waiters:
        pass
    assert ready.begin_leading(lambda: told.append(True))
    names = [b"%d" % number for number in range(count)]
    if each_alone:
        for name in names:
            ready.push(name, Proof.NONE)
    else:
        ready.fill(names, Proof.NO_WRITER)
    worker.join(10)
    assert told == [True] * (count - 1)


def test_close_ends_every_worker_and_gives_out_no_more():
    ready = Ready()
    got: list[object] = []
    workers = [in_thread(lambda: got.append(ready.pop())) for _ in range(4)]
    ready.close()
    for worker in workers:
        worker.join(10)
    assert got == [None] * 4
    ready.push(b"a", Proof.NONE)
    assert ready.pop() is None


def test_threads_one_holder_at_a_time_and_no_push_is_lost():
    """Each push happens before a later turn with its name: what a commit behind our back needs."""
    names = [b"%d" % number for number in range(20)]
    ready = Ready(limit=8)
    pushed = dict.fromkeys(names, 0)  # the latest push of each name that was taken, as a number
    served = dict.fromkeys(names, 0)
    guard = threading.Lock()
    held: set[bytes] = set()
    wrong: list[str] = []
    longest = 0

    def work():
        nonlocal longest
        while (item := ready.pop()) is not None:
            name = item.name
            with guard:
                if name in held:
                    wrong.append(f"{name!r} twice at once")
                held.add(name)
                served[name] = pushed[name]
                longest = max(longest, len(ready))
            with guard:
                held.discard(name)
            ready.finish(name)

    def push(seed):
        turns = random.Random(seed)
        for _ in range(3_000):
            name = turns.choice(names)
            with guard:
                pushed[name] += 1  # before the push, as a rename is before its event
            while not ready.push(name, Proof.NONE):
                pass

    workers = [in_thread(work) for _ in range(4)]
    pushers = [in_thread(lambda seed=seed: push(seed)) for seed in range(3)]
    join(pushers)
    while any(ready.is_ready(name) for name in names):
        pass
    ready.close()
    join(workers)
    assert wrong == []
    assert served == pushed
    assert sum(pushed.values()) == 9_000
    assert longest <= 8 + len(workers)


def test_what_was_put_aside_comes_after_all_others_and_only_when_it_may():
    ready = Ready()
    for name in (b"a", b"b", DEFERRED + b"c", b"d"):
        ready.push(name, Proof.NONE)
    ready.allow(1)
    ready.put_aside(ready.pop())
    assert len(ready) == 4, "it waits, as the others do"
    first = sorted(ready._aside)
    for _ in range(3):
        ready.allow(1)
        ready.put_aside(ready.pop())
    assert sorted(ready._aside) == [b"a", b"b", b"d", DEFERRED + b"c"]
    ready.allow(1)
    assert not ready._may_pop(), "each was tried"
    ready.allow(1, again=True)
    assert [ready.pop()[0]] == first, "the first that was tried"
    assert not ready._may_pop()
    ready.allow_another()
    assert ready._may_pop()


def test_what_was_put_aside_comes_back_before_all_others_in_its_order():
    ready = Ready()
    for name in (b"a", b"b", b"c", b"d"):
        ready.push(name, Proof.RENAMED)
    ready.allow(2)
    ready.put_aside(ready.pop())
    ready.put_aside(ready.pop())
    assert ready.push(b"a", Proof.NONE), "a name is in here once"
    ready.allow(None)
    assert [ready.pop()[:2] for _ in range(4)] == [
        (name, Proof.RENAMED) for name in (b"a", b"b", b"c", b"d")
    ]
    assert len(ready) == 0


def test_the_names_aside_are_bounded(monkeypatch):
    monkeypatch.setattr("watcher.daemon.ready.MAX_ASIDE", 2)
    ready = Ready()
    for name in (b"a", b"b", b"c", b"d"):
        ready.push(name, Proof.NONE)
    for _ in range(3):
        ready.put_aside(ready.pop())
    assert [ready.pop()[0] for _ in range(2)] == [b"d", b"a"]


def test_a_worker_that_listens_is_woken_for_what_is_aside_when_it_may_come_again():
    ready, woken = Ready(), []
    ready.push(b"a", Proof.NONE)
    ready.allow(1)
    ready.put_aside(ready.pop())
    assert ready.begin_leading(lambda: woken.append(True))
    ready.allow(1, again=True)
    assert woken


def test_no_more_names_are_given_out_than_may_be_in_hand():
    ready = Ready()
    ready.limit_in_hand(1)
    for name in (b"a", b"b", b"c"):
        ready.push(name, Proof.RENAMED)
    asked = []

    def raise_limit():
        asked.append(ready.working())
        ready.limit_in_hand(2)

    assert ready.pop(raise_limit).name == b"a"
    assert asked == []
    assert ready.pop(raise_limit).name == b"b"
    assert asked == [[b"a"]]
    ready.finish(b"a")
    assert ready.pop(raise_limit).name == b"c"
    assert asked == [[b"a"]]
