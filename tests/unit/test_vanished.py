"""How many names that led to nothing may have a line: a flood costs little, a theft is named."""

from __future__ import annotations

from watcher.spool.vanished import FEW, MINUTE, MOST, OF_ONE, Vanished


def test_one_name_has_a_few_lines_in_a_minute():
    vanished = Vanished()
    allowed = sum(vanished.allows(b"X", 0.001 * number) for number in range(50_000))
    assert (allowed, vanished.unnamed, vanished.total) == (OF_ONE, 50_000 - OF_ONE, 50_000)
    assert vanished.allows(b"stolen", 50.0), "the others still have lines"
    assert vanished.allows(b"X", MINUTE + 1.0), "and so has it, a minute later"


def test_many_names_have_so_many_lines_and_few_while_it_goes_on():
    vanished = Vanished()
    a_minute = [
        sum(vanished.allows(b"%d" % name, minute * MINUTE + name / 1_000) for name in range(50_000))
        for minute in range(3)
    ]
    assert a_minute == [MOST, FEW, FEW]
    assert vanished.allows(b"X", 10 * MINUTE)
    assert sum(vanished.allows(b"%d" % name, 10 * MINUTE + 1) for name in range(5_000)) == MOST - 1


def test_what_has_no_line_is_counted_once_its_minute_is_over():
    vanished = Vanished()
    for _ in range(10):
        vanished.allows(b"X", 0.0)
    assert vanished.take_unnamed(1.0) == 0
    assert vanished.take_unnamed(MINUTE) == 10 - OF_ONE
    assert vanished.take_unnamed(MINUTE) == 0
