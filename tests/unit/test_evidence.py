"""The decision on an entry, against the table in the module and docs/design.md, "Evidence"."""

from __future__ import annotations

import itertools

import pytest

from watcher.rules import evidence
from watcher.rules.evidence import (
    QUIET,
    Action,
    AgeLimits,
    Finish,
    Proof,
    Shape,
    Writer,
    came_by_link,
    finish_of,
    rule,
)

GRACE = 300.0
SETTLES = (0.0, 20.0, 2 * GRACE)  # off, shorter and longer than the grace age
AGES = (0.0, QUIET - 0.001, QUIET, 20.0, GRACE - 0.001, GRACE, 2 * GRACE - 0.001, 2 * GRACE, 1e9)
CASES = list(itertools.product(Shape, Proof, Writer, Finish, SETTLES, AGES))

# The words of the docstring's table, and what each stands for.
SHAPES = {"whole": {Shape.WHOLE}, "pair": {Shape.PAIR}, "half": {Shape.HALF}, "any": set(Shape)}
EYES = {
    "its rename": {Proof.RENAMED},
    "its link": {Proof.LINKED},
    "catch-up scan": {Proof.NO_WRITER},
    "both halves' closing": {Proof.CLOSED},
    "anything": set(Proof),
}
WRITERS = {
    "any": set(Writer),
    "none": {Writer.NONE},
    "unknown": {Writer.UNKNOWN},
    "some": {Writer.SOME},
    "not some": {Writer.NONE, Writer.UNKNOWN},
}
FINISHES = {
    "any": set(Finish),
    "committed": {Finish.COMMITTED},
    "moved": {Finish.MOVED},
    "at once": {Finish.AT_ONCE},
}
HEAD = ["shape", "found by", "writer", "finish", "settle", "age", "decision"]


def rows_of_the_docstring():
    lines = [line for line in evidence.__doc__.splitlines() if line.startswith("|")]
    head, rule_line, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines
    ]
    assert head == HEAD
    assert set("".join(rule_line)) == {"-"}
    return rows


ROWS = rows_of_the_docstring()


def by_the_docstring(shape, proof, writer, finish, settle, age):
    """Return the ruling of the first row that fits."""
    ages = {
        "any": True,
        ">= grace": age >= GRACE,
        ">= quiet": age >= QUIET,
        ">= settle": age >= settle,
        ">= both": age >= max(GRACE, settle),
    }
    settles = {"any": True, "off": settle == 0, "set": settle > 0}
    for row_shape, eye, row_writer, row_finish, row_settle, row_age, ruling in ROWS:
        fits = shape in SHAPES[row_shape] and proof in EYES[eye] and writer in WRITERS[row_writer]
        if fits and finish in FINISHES[row_finish] and settles[row_settle] and ages[row_age]:
            return ruling
    return None


def ruled(shape, proof, writer, finish, settle, age, grace=GRACE):
    return rule(shape, proof, writer, age, AgeLimits(grace, settle), finish)


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("proof", Proof)
def test_the_docstrings_table_and_the_code_agree(shape, proof):
    for case in (case for case in CASES if case[:2] == (shape, proof)):
        assert ruled(*case).action.value == by_the_docstring(*case), case


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:5]))
def test_every_row_of_the_docstrings_table_decides_something(row):
    others = [other for other in ROWS if other is not row]
    decided = [by_the_docstring(*case) for case in CASES]
    ROWS[:], before = others, list(ROWS)
    try:
        without = [by_the_docstring(*case) for case in CASES]
    finally:
        ROWS[:] = before
    assert without != decided, "the other rows say all that this one does"


YOUNG, OLD = 0.0, GRACE
DESIGN = [  # docs/design.md, "Evidence", row by row
    (".pck: IN_MOVED_TO", Shape.WHOLE, Proof.RENAMED, Writer.NONE, YOUNG, Action.TAKE),
    ("catch-up, a lease granted", Shape.WHOLE, Proof.NO_WRITER, Writer.NONE, YOUNG, Action.TAKE),
    ("catch-up, no lease", Shape.WHOLE, Proof.NO_WRITER, Writer.UNKNOWN, YOUNG, Action.WAIT),
    ("catch-up, no lease, old", Shape.WHOLE, Proof.NO_WRITER, Writer.UNKNOWN, OLD, Action.TAKE),
    ("sweep, young", Shape.WHOLE, Proof.NONE, Writer.NONE, YOUNG, Action.WAIT),
    ("sweep, old", Shape.WHOLE, Proof.NONE, Writer.NONE, OLD, Action.TAKE),
    ("sweep, old, no lease", Shape.WHOLE, Proof.NONE, Writer.UNKNOWN, OLD, Action.TAKE),
    ("pair, both closed", Shape.PAIR, Proof.CLOSED, Writer.NONE, YOUNG, Action.TAKE),
    ("pair, both closed, a writer", Shape.PAIR, Proof.CLOSED, Writer.SOME, YOUNG, Action.LEAVE),
    ("pair, both closed, no lease", Shape.PAIR, Proof.CLOSED, Writer.UNKNOWN, YOUNG, Action.WAIT),
    ("pair by catch-up, young", Shape.PAIR, Proof.NO_WRITER, Writer.NONE, YOUNG, Action.WAIT),
    ("pair by catch-up, old", Shape.PAIR, Proof.NO_WRITER, Writer.NONE, OLD, Action.TAKE),
    ("pair by sweep, young", Shape.PAIR, Proof.NONE, Writer.NONE, YOUNG, Action.WAIT),
    ("pair by sweep, old", Shape.PAIR, Proof.NONE, Writer.NONE, OLD, Action.TAKE),
    ("half, young", Shape.HALF, Proof.NONE, Writer.NONE, YOUNG, Action.WAIT),
    ("half, young, its rename seen", Shape.HALF, Proof.RENAMED, Writer.NONE, YOUNG, Action.WAIT),
    ("half, old", Shape.HALF, Proof.NONE, Writer.NONE, OLD, Action.ORPHAN),
    ("half, old, its rename seen", Shape.HALF, Proof.RENAMED, Writer.NONE, OLD, Action.ORPHAN),
    ("a writer, whole, ancient", Shape.WHOLE, Proof.NONE, Writer.SOME, 1e9, Action.LEAVE),
    ("a writer, pair, ancient", Shape.PAIR, Proof.NONE, Writer.SOME, 1e9, Action.LEAVE),
    ("a writer, half, ancient", Shape.HALF, Proof.NONE, Writer.SOME, 1e9, Action.LEAVE),
]


@pytest.mark.parametrize(
    ("shape", "proof", "writer", "age", "action"),
    [row[1:] for row in DESIGN],
    ids=[row[0] for row in DESIGN],
)
def test_the_designs_table(shape, proof, writer, age, action):
    assert rule(shape, proof, writer, age, AgeLimits(GRACE)).action is action


RAW = [  # docs/design.md, "Evidence", the rows of the raw format
    ("renamed in, no writer", Proof.RENAMED, Writer.NONE, Finish.OVER_TIME, YOUNG, Action.TAKE),
    ("renamed in, a writer", Proof.RENAMED, Writer.SOME, Finish.COMMITTED, 1e9, Action.LEAVE),
    ("renamed in, no lease", Proof.RENAMED, Writer.UNKNOWN, Finish.OVER_TIME, YOUNG, Action.TAKE),
    ("linked in, no writer", Proof.LINKED, Writer.NONE, Finish.OVER_TIME, YOUNG, Action.TAKE),
    ("linked in, a writer", Proof.LINKED, Writer.SOME, Finish.COMMITTED, 1e9, Action.LEAVE),
    ("linked in, no lease", Proof.LINKED, Writer.UNKNOWN, Finish.OVER_TIME, 299, Action.WAIT),
    ("linked in, no lease, old", Proof.LINKED, Writer.UNKNOWN, Finish.MOVED, OLD, Action.TAKE),
    ("catch-up, moved", Proof.NO_WRITER, Writer.NONE, Finish.MOVED, YOUNG, Action.TAKE),
    ("catch-up, moved, a writer", Proof.NO_WRITER, Writer.SOME, Finish.MOVED, OLD, Action.LEAVE),
    (
        "catch-up, moved, no lease",
        Proof.NO_WRITER,
        Writer.UNKNOWN,
        Finish.MOVED,
        YOUNG,
        Action.WAIT,
    ),
    ("catch-up, at once, young", Proof.NO_WRITER, Writer.NONE, Finish.AT_ONCE, 9.9, Action.WAIT),
    ("catch-up, at once, quiet", Proof.NO_WRITER, Writer.NONE, Finish.AT_ONCE, QUIET, Action.TAKE),
    (
        "catch-up, at once, no lease",
        Proof.NO_WRITER,
        Writer.UNKNOWN,
        Finish.AT_ONCE,
        99,
        Action.WAIT,
    ),
    ("catch-up, over time", Proof.NO_WRITER, Writer.NONE, Finish.OVER_TIME, 299, Action.WAIT),
    ("catch-up, over time, old", Proof.NO_WRITER, Writer.NONE, Finish.OVER_TIME, OLD, Action.TAKE),
    ("sweep, moved", Proof.NONE, Writer.NONE, Finish.MOVED, 299, Action.WAIT),
    ("sweep, at once, quiet", Proof.NONE, Writer.NONE, Finish.AT_ONCE, 299, Action.WAIT),
    ('writers = "rename"', Proof.NO_WRITER, Writer.NONE, Finish.COMMITTED, YOUNG, Action.TAKE),
]


@pytest.mark.parametrize(
    ("proof", "writer", "finish", "age", "action"),
    [row[1:] for row in RAW],
    ids=[r[0] for r in RAW],
)
def test_the_designs_table_of_the_raw_format(proof, writer, finish, age, action):
    assert ruled(Shape.WHOLE, proof, writer, finish, 0.0, age).action is action


@pytest.mark.parametrize(
    ("proof", "writer", "finish", "age", "action"),
    [
        (Proof.CLOSED, Writer.NONE, Finish.COMMITTED, 19.9, Action.WAIT),
        (Proof.CLOSED, Writer.NONE, Finish.COMMITTED, 20.0, Action.TAKE),
        (Proof.CLOSED, Writer.SOME, Finish.COMMITTED, 1e9, Action.LEAVE),
        (Proof.CLOSED, Writer.UNKNOWN, Finish.COMMITTED, 299, Action.WAIT),
        (Proof.CLOSED, Writer.UNKNOWN, Finish.COMMITTED, 300, Action.TAKE),
        (Proof.NONE, Writer.NONE, Finish.COMMITTED, 20.0, Action.TAKE),
        (Proof.NO_WRITER, Writer.NONE, Finish.MOVED, 19.9, Action.WAIT),
        (Proof.NO_WRITER, Writer.NONE, Finish.AT_ONCE, 10.0, Action.WAIT),
        (Proof.NO_WRITER, Writer.NONE, Finish.OVER_TIME, 20.0, Action.TAKE),
        (Proof.RENAMED, Writer.NONE, Finish.COMMITTED, YOUNG, Action.TAKE),
        (Proof.LINKED, Writer.NONE, Finish.COMMITTED, YOUNG, Action.TAKE),
    ],
)
def test_with_settle_a_whole_file_waits_for_it_and_for_nothing_else(
    proof, writer, finish, age, action
):
    assert ruled(Shape.WHOLE, proof, writer, finish, 20.0, age).action is action
    assert ruled(Shape.HALF, proof, writer, finish, 20.0, 20.0).action in {
        Action.WAIT,
        Action.LEAVE,
    }


@pytest.mark.parametrize("grace", [GRACE, QUIET / 2])
def test_a_wait_ends_in_time_and_nothing_else_waits(grace):
    at_once = (Shape.WHOLE, Proof.NO_WRITER, Writer.NONE, Finish.AT_ONCE, 0.0)
    for case in CASES:
        (*what, age), ruling = case, ruled(*case, grace)
        assert ruling.why
        if ruling.action is not Action.WAIT:
            assert ruling.wait == 0.0, case
            continue
        until = min(QUIET, grace) if tuple(what) == at_once else grace
        shape, _, writer, _, settle = what
        if settle and shape is Shape.WHOLE:
            until = settle if writer is Writer.NONE else max(grace, settle)
        assert ruling.wait == until - age, case
        then = ruled(*what, age + ruling.wait, grace)
        assert then.action in {Action.TAKE, Action.ORPHAN}, case


def test_no_half_is_ever_taken_and_only_halves_are_orphans():
    actions = {case: ruled(*case).action for case in CASES}
    assert all(
        action is not Action.TAKE for case, action in actions.items() if case[0] is Shape.HALF
    )
    assert {case[0] for case, action in actions.items() if action is Action.ORPHAN} == {Shape.HALF}


# -- what IN_CREATE tells ------------------------------------------------------------------------


def rows_of_a_link():
    lines = [line.strip() for line in came_by_link.__doc__.splitlines()]
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in row] for row in table]
    assert head == ["size", "closed", "proof"]
    return rows


def test_the_table_of_what_a_created_file_proves_and_the_code_agree():
    closed_in = {"any": [True, False, None], "yes": [True], "lost": [None], "no": [False]}
    told = [
        (size, closed, Proof[proof])
        for size_word, closed_word, proof in rows_of_a_link()
        for size in ([0] if size_word == "0" else [1, 1 << 40])
        for closed in closed_in[closed_word]
    ]
    assert len(told) == len({case[:2] for case in told}) == 9
    for size, closed, proof in told:
        assert came_by_link(size, closed) is proof


# -- what the times of a file tell --------------------------------------------------------------

T = 1_795_000_000_000_000_000
HOUR = 3_600_000_000_000
TIMES = [
    ("renamed later", T, T + HOUR, T + 2 * HOUR, Finish.MOVED),
    ("renamed one tick after its last write", T, T, T + 1_000_000, Finish.MOVED),
    ("its mtime was set back", T, T - HOUR, T, Finish.MOVED),
    ("renamed later, no birth time", None, T, T + 1, Finish.MOVED),
    ("made and written in one tick", T, T, T, Finish.AT_ONCE),
    ("written over the end of a tick", T, T + 10_000_000, T + 10_000_000, Finish.AT_ONCE),
    ("no birth time", None, T, T, Finish.OVER_TIME),
    ("written to two ticks later", T, T + 20_000_000, T + 20_000_000, Finish.OVER_TIME),
    ("written to an hour later", T, T + HOUR, T + HOUR, Finish.OVER_TIME),
    ("its mtime was set forward", T, T + HOUR, T, Finish.OVER_TIME),
    ("the clock was stepped back meanwhile", T, T - HOUR, T - HOUR, Finish.OVER_TIME),
]


@pytest.mark.parametrize(
    ("birth", "mtime", "ctime", "finish"), [row[1:] for row in TIMES], ids=[r[0] for r in TIMES]
)
def test_what_the_times_of_a_file_tell(birth, mtime, ctime, finish):
    assert finish_of(birth, mtime, ctime) is finish
