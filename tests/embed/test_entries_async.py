"""`watcher.entries_async`: the words, tasks that are cancelled, and a loop that goes on."""

from __future__ import annotations

import asyncio

import pytest

import watcher
from watcher.errors import Usage

RAW = {"format": "raw", "writers": "rename"}
PATIENCE = 30.0  # seconds


async def use_as_context(entry):
    async with entry:
        assert entry.key


def raising(error):
    async def handle(entry):
        async with entry:
            raise error

    return handle


async def release(entry):
    entry.release()


async def say_nothing(_entry):
    pass


WORDS = {
    "done": (lambda entry: entry.done(), {}),
    "retry": (lambda entry: entry.retry("later", after=3600), {"deferred": 1}),
    "reject": (lambda entry: entry.reject("never"), {"dead": 1}),
    "release": (release, {"queue": 1}),
    "no word": (say_nothing, {"queue": 1}),
    "the end of its block": (use_as_context, {}),
    "Reject": (raising(watcher.Reject("never")), {"dead": 1}),
    "a bug": (raising(ZeroDivisionError()), {"deferred": 1}),
}


@pytest.mark.parametrize("word", WORDS)
def test_each_word_has_its_result(queue_dir, put, where, word):
    say, expected = WORDS[word]
    put("a")

    async def main():
        async with watcher.entries_async(queue_dir, **RAW) as queue:
            await say(await queue.take())

    asyncio.run(main())
    assert {state: len(names) for state, names in where().items()} == expected


def test_an_iteration_gives_each_entry_once_and_in_order(queue_dir, put, where):
    put("a", "b", "c")
    seen = []

    async def main():
        async with watcher.entries_async(queue_dir, wait=False, **RAW) as queue:
            async for entry in queue:
                seen.append(entry.message.decode())
                assert await entry.done()

    asyncio.run(main())
    assert seen == ["a", "b", "c"]
    assert where() == {}


def test_tasks_share_a_queue_and_each_entry_is_handled_once(queue_dir, put, where):
    names = [f"{number:03}" for number in range(40)]
    put(*names)
    seen = []

    async def handle(queue):
        async for entry in queue:
            async with entry:
                await asyncio.sleep(0)
                seen.append(entry.name)

    async def main():
        async with watcher.entries_async(queue_dir, wait=False, concurrency=4, **RAW) as queue:
            await asyncio.gather(*(handle(queue) for _ in range(4)))

    asyncio.run(main())
    assert sorted(seen) == names
    assert where() == {}


def test_a_task_that_is_cancelled_while_it_waits_takes_no_entry(queue_dir, put):
    async def main():
        async with watcher.entries_async(queue_dir, **RAW) as queue:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await queue.take()
            put("a")
            async with watcher.entries_async(queue_dir, wait=False, **RAW) as second:
                return [entry.name async for entry in second if await entry.done()]

    assert asyncio.run(main()) == ["a"]


def test_a_cancelled_task_gives_the_entry_in_its_block_back(queue_dir, put):
    async def main():
        async with watcher.entries_async(queue_dir, **RAW) as queue:
            begun = asyncio.Event()

            async def handle():
                async with await queue.take():
                    begun.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(handle())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            again = await queue.take()
            return again.name, again.attempt, await again.done()

    put("a")
    assert asyncio.run(main()) == ("a", 1, True)


def test_the_loop_goes_on_while_a_task_waits(queue_dir, put):
    async def main():
        async with watcher.entries_async(queue_dir, **RAW) as queue:
            waiting = asyncio.create_task(queue.take())
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert not waiting.done()
            put("a")
            return await (await waiting).done()

    assert asyncio.run(main())


def test_a_loop_that_ends_gives_back_what_its_tasks_have_in_hand(queue_dir, put, where):
    async def main():
        async with watcher.entries_async(queue_dir, **RAW) as queue:
            await queue.take()
            await asyncio.Event().wait()

    put("a")
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(main(), 0.3))
    with watcher.entries(queue_dir, wait=False, **RAW) as queue:
        assert [(entry.name, entry.attempt) for entry in queue if entry.done()] == [("a", 1)]
    assert where() == {}


def test_stop_ends_the_iteration_of_every_task(queue_dir):
    async def main():
        async with watcher.entries_async(queue_dir, concurrency=2, **RAW) as queue:

            async def count():
                return [entry async for entry in queue]

            tasks = [asyncio.create_task(count()) for _ in range(2)]
            await asyncio.sleep(0.01)
            queue.stop()
            return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [[], []]


def test_an_entry_without_a_word_is_told_of_where_the_next_would_wait_for_ever(queue_dir, put):
    async def main():
        async with watcher.entries_async(queue_dir, **RAW) as queue:
            await queue.take()
            with pytest.raises(Usage, match="a: it has no word yet"):
                await queue.take()

    put("a")
    asyncio.run(main())


def test_an_exception_that_leaves_the_block_is_the_word_for_the_entry_in_hand(
    queue_dir, put, where
):
    async def main():
        async with watcher.entries_async(queue_dir, **RAW) as queue:
            await queue.take()
            raise watcher.Reject("no")

    put("a")
    with pytest.raises(watcher.Reject):
        asyncio.run(main())
    assert list(where()) == ["dead"]
