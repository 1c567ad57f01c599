"""The ruling on an entry, against the table in the module's docstring and the one of the design."""

from __future__ import annotations

import itertools

import pytest

from watcher import evidence
from watcher.evidence import Action, How, Shape, Writer, rule

GRACE = 300.0
AGES = (0.0, GRACE - 0.001, GRACE, GRACE + 0.001, 1e9)
CASES = list(itertools.product(Shape, How, Writer, AGES))

# The words of the docstring's table, and what each stands for. Seeing a whole entry closed proves
# nothing about it, so that there CLOSED is a hint like any other.
SHAPES = {"whole": {Shape.WHOLE}, "pair": {Shape.PAIR}, "half": {Shape.HALF}, "any": set(Shape)}
EYES = {
    "its rename": {How.RENAMED},
    "catch-up scan": {How.CATCH_UP},
    "sweep, a hint": {How.SWEEP, How.CLOSED},
    "both halves' closing": {How.CLOSED},
    "anything else": set(How),
    "anything": set(How),
}
WRITERS = {
    "any": set(Writer),
    "": set(Writer),
    "none": {Writer.NONE},
    "some": {Writer.SOME},
    "unknown": {Writer.UNKNOWN},
    "not some": {Writer.NONE, Writer.UNKNOWN},
}


def rows_of_the_docstring():
    lines = [line for line in evidence.__doc__.splitlines() if line.startswith("|")]
    head, rule_line, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines
    ]
    assert head == ["shape", "what drew our eye", "writer", "age", "ruling"]
    assert set("".join(rule_line)) == {"-"}
    return rows


ROWS = rows_of_the_docstring()


def by_the_docstring(shape, how, writer, age):
    """Return the first word of the ruling of the first row that fits."""
    for row_shape, eye, row_writer, row_age, ruling in ROWS:
        of_age = {"any": True, ">= grace": age >= GRACE, "< grace": age < GRACE}[row_age]
        fits = shape in SHAPES[row_shape] and how in EYES[eye] and writer in WRITERS[row_writer]
        if fits and of_age:
            return ruling.split()[0].strip(":,")
    return None


@pytest.mark.parametrize(("shape", "how", "writer", "age"), CASES)
def test_the_docstrings_table_and_the_code_agree(shape, how, writer, age):
    assert rule(shape, how, writer, age, GRACE).action.value == by_the_docstring(
        shape, how, writer, age
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:4]))
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
DESIGN = [  # section 5, row by row
    (".pck: IN_MOVED_TO", Shape.WHOLE, How.RENAMED, Writer.NONE, YOUNG, Action.TAKE),
    ("catch-up, a lease granted", Shape.WHOLE, How.CATCH_UP, Writer.NONE, YOUNG, Action.TAKE),
    ("catch-up, no lease", Shape.WHOLE, How.CATCH_UP, Writer.UNKNOWN, YOUNG, Action.WAIT),
    ("catch-up, no lease, old", Shape.WHOLE, How.CATCH_UP, Writer.UNKNOWN, OLD, Action.TAKE),
    ("sweep, young", Shape.WHOLE, How.SWEEP, Writer.NONE, YOUNG, Action.WAIT),
    ("sweep, old", Shape.WHOLE, How.SWEEP, Writer.NONE, OLD, Action.TAKE),
    ("sweep, old, no lease", Shape.WHOLE, How.SWEEP, Writer.UNKNOWN, OLD, Action.TAKE),
    ("pair, both closed", Shape.PAIR, How.CLOSED, Writer.NONE, YOUNG, Action.TAKE),
    ("pair, both closed, a writer", Shape.PAIR, How.CLOSED, Writer.SOME, YOUNG, Action.LEAVE),
    ("pair, both closed, no lease", Shape.PAIR, How.CLOSED, Writer.UNKNOWN, YOUNG, Action.WAIT),
    ("pair by catch-up, young", Shape.PAIR, How.CATCH_UP, Writer.NONE, YOUNG, Action.WAIT),
    ("pair by catch-up, old", Shape.PAIR, How.CATCH_UP, Writer.NONE, OLD, Action.TAKE),
    ("pair by sweep, young", Shape.PAIR, How.SWEEP, Writer.NONE, YOUNG, Action.WAIT),
    ("pair by sweep, old", Shape.PAIR, How.SWEEP, Writer.NONE, OLD, Action.TAKE),
    ("half, young", Shape.HALF, How.SWEEP, Writer.NONE, YOUNG, Action.WAIT),
    ("half, young, its rename seen", Shape.HALF, How.RENAMED, Writer.NONE, YOUNG, Action.WAIT),
    ("half, old", Shape.HALF, How.SWEEP, Writer.NONE, OLD, Action.ORPHAN),
    ("half, old, its rename seen", Shape.HALF, How.RENAMED, Writer.NONE, OLD, Action.ORPHAN),
    ("a writer, whole, ancient", Shape.WHOLE, How.SWEEP, Writer.SOME, 1e9, Action.LEAVE),
    ("a writer, pair, ancient", Shape.PAIR, How.SWEEP, Writer.SOME, 1e9, Action.LEAVE),
    ("a writer, half, ancient", Shape.HALF, How.SWEEP, Writer.SOME, 1e9, Action.LEAVE),
]


@pytest.mark.parametrize(
    ("shape", "how", "writer", "age", "action"),
    [row[1:] for row in DESIGN],
    ids=[row[0] for row in DESIGN],
)
def test_the_designs_table(shape, how, writer, age, action):
    assert rule(shape, how, writer, age, GRACE).action is action


@pytest.mark.parametrize(("shape", "how", "writer", "age"), CASES)
def test_a_wait_ends_at_the_grace_age_and_nothing_else_waits(shape, how, writer, age):
    ruling = rule(shape, how, writer, age, GRACE)
    assert ruling.wait == (GRACE - age if ruling.action is Action.WAIT else 0.0)
    assert ruling.why
    if ruling.action is Action.WAIT:
        then = rule(shape, how, writer, age + ruling.wait, GRACE)
        assert then.action in {Action.TAKE, Action.ORPHAN}


def test_no_half_is_ever_taken_and_only_halves_are_orphans():
    actions = {case: rule(*case, GRACE).action for case in CASES}
    assert all(
        action is not Action.TAKE for case, action in actions.items() if case[0] is Shape.HALF
    )
    assert {case[0] for case, action in actions.items() if action is Action.ORPHAN} == {Shape.HALF}
