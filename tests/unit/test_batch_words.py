"""What a command says about single entries of its batch: each line as a row of a table."""

from __future__ import annotations

import json

import pytest

from watcher.rules.batch_words import LINES_EACH, MOST, Named, read_words
from watcher.rules.results import HANDLED, HandlerResult, Verdict

ENTRIES = [Named("a", "/dev/fd/7"), Named("b", "/dev/fd/8"), Named("b", "/dev/fd/9")]
ODD = Named("\udcff", "/dev/fd/4")


def words(*lines):
    return read_words("\n".join(lines).encode(), ENTRIES)


@pytest.mark.parametrize(
    ("line", "number", "result"),
    [
        ('{"index": 1, "result": "done"}', 1, HANDLED),
        ('{"entry": "a", "result": "done", "reason": "sent"}', 0, HANDLED),
        ('{"file": "/dev/fd/9", "result": "done", "mine": 1}', 2, HANDLED),
        (
            '{"index": 0, "result": "retry", "after": 60, "reason": "busy"}',
            0,
            HandlerResult(Verdict.RETRY, "busy", 60.0),
        ),
        (
            '{"index": 0, "entry": "a", "result": "reject"}',
            0,
            HandlerResult(Verdict.REJECT, "rejected by the handler"),
        ),
    ],
)
def test_a_word_is_the_result_of_its_entry(line, number, result):
    assert words(line) == ({number: result}, "")


@pytest.mark.parametrize(
    "line",
    [
        "done",
        "[]",
        "[" * 100_000,
        '{"result": "done"}',
        '{"entry": "b", "result": "done"}',  # two have that name
        '{"entry": "c", "result": "done"}',
        '{"index": 3, "result": "done"}',
        '{"index": -1, "result": "done"}',
        '{"index": true, "result": "done"}',
        '{"index": "0", "result": "done"}',
        '{"index": 0, "entry": "b", "result": "done"}',
        '{"index": 0, "result": "done"',
    ],
)
def test_a_line_that_names_no_entry_is_said_and_settles_nothing(line):
    results, unclear = words('{"index": 0, "result": "done"}', line)
    assert results == {0: HANDLED}
    assert unclear.startswith("descriptor 3, line 2: ")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"result": "Done"},
        {"result": None},
        {"result": ["done"]},
        {"result": "done", "after": 3},
        {"result": "reject", "after": 3},
        {"result": "retry", "after": -1},
        {"result": "retry", "after": "3"},
        {"result": "retry", "after": True},
        {"result": "retry", "after": 1e99},
        {"result": "reject", "reason": 3},
    ],
)
def test_a_word_that_makes_no_sense_has_its_entry_tried_again(more):
    results, unclear = words(json.dumps({"index": 2} | more))
    assert unclear == ""
    assert results[2].verdict is Verdict.RETRY
    assert results[2].reason.startswith("descriptor 3, line 1: ")


def test_two_words_of_one_entry_must_be_the_same():
    same = '{"index": 0, "result": "done"}'
    assert words(same, same) == ({0: HANDLED}, "")
    results, unclear = words(same, '{"entry": "a", "result": "retry"}')
    assert unclear == ""
    assert results[0].verdict is Verdict.RETRY
    assert results[0].reason.endswith("another line says something else")


def test_a_name_that_is_no_text_can_be_given_back_as_it_came():
    line = json.dumps({"entry": ODD.entry, "result": "done"}).encode()
    assert read_words(line, [ODD]) == ({0: HANDLED}, "")


def test_what_is_written_without_end_is_not_read_to_the_end():
    assert read_words(b"\n" * (MOST + 1), ENTRIES).unclear != ""


def test_lines_without_end_are_not_read_one_by_one():
    """A command that repeated one word kept the daemon for a minute: two million lines."""
    most = LINES_EACH * len(ENTRIES)
    line = b'{"index": 0, "result": "done"}\n'
    assert read_words(line * most, ENTRIES) == ({0: HANDLED}, "")
    found = read_words(line * most + b"y\n" * (MOST // 4), ENTRIES)
    assert found == ({0: HANDLED}, f"descriptor 3: more than {most} lines")
