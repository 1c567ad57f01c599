"""`watcher.entries`: what each word does, when an iteration ends, and what threads share."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

import watcher
from watcher.config.options import OPTIONS, RETRY
from watcher.embed.settings import Options, Retries
from watcher.errors import BadConfiguration, NoSuch, Unavailable, Undecodable, Usage

RAW = {"format": "raw", "writers": "rename"}
PATIENCE = 30.0  # seconds


def test_every_entry_comes_once_and_is_removed_when_done_returns(queue_dir, put, where):
    put("a", "b", "c")
    seen = []
    with watcher.entries(queue_dir, wait=False, **RAW) as queue:
        for entry in queue:
            assert (entry.message.decode(), entry.attempt) == (entry.name, 1)
            assert entry.done()
            assert not (queue_dir / entry.name).exists()
            seen.append(entry.name)
    assert seen == ["a", "b", "c"]
    assert where() == {}


def raising(error):
    def handle(entry):
        with entry:
            raise error

    return handle


def use_as_context(entry):
    with entry:
        assert entry.key


WORDS = {
    "done": (lambda entry: entry.done(), {}),
    "retry": (lambda entry: entry.retry("later", after=3600), {"deferred": 1}),
    "reject": (lambda entry: entry.reject("never"), {"dead": 1}),
    "release": (lambda entry: entry.release(), {"queue": 1}),
    "no word": (repr, {"queue": 1}),
    "the end of its block": (use_as_context, {}),
    "Retry": (raising(watcher.Retry("later", after=3600)), {"deferred": 1}),
    "Reject": (raising(watcher.Reject("never")), {"dead": 1}),
    "damage": (raising(Undecodable("cut off")), {"dead": 1}),
    "a bug": (raising(ZeroDivisionError()), {"deferred": 1}),
}


@pytest.mark.parametrize("word", WORDS)
def test_each_word_has_its_result(queue_dir, put, where, word):
    say, expected = WORDS[word]
    put("a")
    with watcher.entries(queue_dir, **RAW) as queue:
        say(queue.take(PATIENCE))
        queue.stop()
    assert {state: len(names) for state, names in where().items()} == expected


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("no"), "deferred"),
        (watcher.Reject("no"), "dead"),
        (KeyboardInterrupt(), "queue"),
    ],
)
def test_what_leaves_the_queues_block_is_the_word_for_the_entry_in_hand(
    queue_dir, put, where, error, state
):
    put("a")

    def take_and_fail():
        with watcher.entries(queue_dir, **RAW) as queue:
            queue.take(PATIENCE)
            raise error

    with pytest.raises(type(error)):
        take_and_fail()
    assert list(where()) == [state]


def test_an_interrupt_in_an_entrys_block_gives_it_back(queue_dir, put):
    put("a")
    with watcher.entries(queue_dir, **RAW) as queue:
        entry = queue.take(PATIENCE)
        with pytest.raises(KeyboardInterrupt), entry:
            raise KeyboardInterrupt
        again = queue.take(PATIENCE)
        assert (again.name, again.attempt, again.done()) == ("a", 1, True)


def test_an_entry_has_one_word(queue_dir, put):
    put("a")
    with watcher.entries(queue_dir, **RAW) as queue:
        entry = queue.take(PATIENCE)
        entry.done()
        with pytest.raises(Usage, match="has its word already"):
            entry.retry("again")


def test_an_entry_without_a_word_is_told_of_where_the_next_would_wait_for_ever(queue_dir, put):
    put("a", "b")
    with watcher.entries(queue_dir, **RAW) as queue:
        entry = queue.take(PATIENCE)
        with pytest.raises(Usage, match="a: it has no word yet"):
            queue.take(PATIENCE)
        entry.done()
        assert queue.take(PATIENCE).done()


def test_no_entry_is_claimed_that_no_thread_asked_for(queue_dir, put):
    put("a", "b", "c")
    with watcher.entries(queue_dir, concurrency=3, **RAW) as first:
        mine = first.take(PATIENCE)
        with watcher.entries(queue_dir, wait=False, **RAW) as second:
            others = [entry.name for entry in second if entry.done()]
        assert sorted([mine.name, *others]) == ["a", "b", "c"]
        assert mine.done()


def test_a_thread_that_no_longer_waits_takes_no_entry(queue_dir, put, where):
    with watcher.entries(queue_dir, **RAW) as queue:
        assert queue.take(timeout=0.05) is None
        put("a")
        with watcher.entries(queue_dir, wait=False, **RAW) as second:
            assert [entry.name for entry in second if entry.done()] == ["a"]
        assert queue.take(timeout=0.05) is None


def test_an_iteration_waits_for_what_is_to_come_until_it_is_stopped(queue_dir, put):
    seen, came = [], threading.Event()

    def iterate(queue):
        for entry in queue:
            seen.append(entry.name)
            entry.done()
            came.set()

    with watcher.entries(queue_dir, **RAW) as queue:
        thread = threading.Thread(target=iterate, args=(queue,))
        thread.start()
        put("a")
        assert came.wait(PATIENCE)
        queue.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert queue.take() is None
    assert seen == ["a"]


def test_threads_share_a_queue_and_each_entry_is_handled_once(queue_dir, put, where):
    names = [f"{number:03}" for number in range(60)]
    put(*names)
    seen: list[str] = []
    together = threading.Barrier(3)

    def iterate(queue):
        for number, entry in enumerate(queue):
            if number == 0:
                together.wait(PATIENCE)  # each has one in hand
            with entry:
                seen.append(entry.message.decode())

    with watcher.entries(queue_dir, wait=False, concurrency=3, **RAW) as queue:
        threads = [threading.Thread(target=iterate, args=(queue,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert sorted(seen) == names
    assert where() == {}


def test_a_deferred_entry_comes_again_with_its_attempts(queue_dir, put):
    put("a")
    retry = {"initial": "10ms", "jitter": 0.0}
    with watcher.entries(queue_dir, retry=retry, **RAW) as queue:
        queue.take(PATIENCE).retry("not yet")
        again = queue.take(PATIENCE)
        assert (again.name, again.attempt, again.done()) == ("a", 2, True)


def test_an_iteration_that_does_not_wait_ends_where_the_queue_is_paused(queue_dir, put, where):
    put("a")
    with watcher.entries(queue_dir, wait=False, **RAW) as queue:
        assert next(iter(queue)).done()
    (queue_dir / ".watcher" / "paused").write_text("{}")
    put("b")
    with watcher.entries(queue_dir, wait=False, **RAW) as queue:
        assert list(queue) == []
    assert where() == {"queue": ["b"]}


def test_trouble_is_no_exception_for_a_thread_that_waits(queue_dir, put):
    with watcher.entries(queue_dir, sweep_every="50ms", **RAW) as queue:
        assert queue.trouble == ""
        queue_dir.rename(queue_dir.with_name("away"))
        deadline = time.monotonic() + PATIENCE
        while not queue.trouble and time.monotonic() < deadline:
            assert queue.take(timeout=0.02) is None
        assert str(queue_dir) in queue.trouble


def test_an_iteration_that_does_not_wait_raises_where_nothing_can_be_known(queue_dir):
    queue = watcher.entries(queue_dir, wait=False, sweep_every="50ms", **RAW)
    with queue:
        assert queue.take() is None
        queue_dir.rename(queue_dir.with_name("away"))

        def take_for_long():
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                assert queue.take() is None

        with pytest.raises(Unavailable, match="queue"):
            take_for_long()


def test_a_handled_entry_that_was_written_to_comes_again(queue_dir, put):
    put("a")
    with watcher.entries(queue_dir, **RAW) as queue:
        entry = queue.take(PATIENCE)
        assert entry.message == b"a"
        with open(queue_dir / "a", "a") as file:
            file.write("more")
        assert not entry.done()
    assert (queue_dir / "a").read_text() == "amore"


def test_the_queue_says_itself_what_its_entries_are(queue_dir, put):
    put("x.csv", "x.txt")
    options = RAW | {"match": ["*.csv"]}
    with watcher.entries(queue_dir, wait=False, **options) as queue:
        assert [entry.name for entry in queue if entry.done()] == ["x.csv"]
    put("y.csv", "y.txt")
    with watcher.entries(queue_dir, wait=False) as queue:
        assert queue._settings.format == "raw"
        assert queue._settings.suffix == ".csv"


WRONG = [
    ({"formats": "raw"}, "formats: no such option"),
    ({"concurrency": 0}, "concurrency: expected a number from 1 to 256"),
    ({"grace_age": 5}, "grace_age: expected a duration"),
    ({"retry": {"first": "1s"}}, "retry.first: unknown key"),
    ({"suffix": ".csv"}, 'suffix: goes with format = "raw" only'),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_a_wrong_option_is_named(queue_dir, options, text):
    with pytest.raises(BadConfiguration, match=f"^watcher.entries: {text}"):
        watcher.entries(queue_dir, **options)


def test_a_directory_that_is_not_there_is_an_error_at_once(queue_dir):
    with pytest.raises(NoSuch, match="does not exist"):
        watcher.entries(queue_dir / "no")
    with pytest.raises(Usage, match="not open"):
        watcher.entries(queue_dir).take()


def test_every_option_of_a_queue_has_its_type():
    assert set(Options.__annotations__) == {*OPTIONS, "retry"}
    assert set(Retries.__annotations__) == set(RETRY)


def test_lines_go_to_the_logger_and_to_no_descriptor(queue_dir, put, caplog, capfd):
    put("a")
    with (
        caplog.at_level(logging.INFO, logger="watcher"),
        watcher.entries(queue_dir, **RAW) as queue,
    ):
        queue.take(PATIENCE).reject("the word\nof two lines")
    assert capfd.readouterr() == ("", "")
    said = [(one.levelname, one.message) for one in caplog.records if "dead/" in one.message]
    assert [level for level, _ in said] == ["WARNING"]
    assert r"the word\nof two lines" in said[0][1]


def test_nothing_of_a_closed_queue_is_left(queue_dir, put, descriptors):
    put("a")
    with watcher.entries(queue_dir, **RAW) as queue:
        queue.take(PATIENCE).done()  # faulthandler and the like are ready
    before, threads = descriptors(), set(threading.enumerate())
    for _ in range(3):
        put("a")
        with watcher.entries(queue_dir, **RAW) as queue:
            queue.take(PATIENCE).done()
            assert os.listdir(queue_dir / ".watcher" / "inflight")
    # What another test left may have gone meanwhile.
    assert descriptors() <= before
    assert set(threading.enumerate()) <= threads
    assert os.listdir(queue_dir / ".watcher" / "inflight") == []
