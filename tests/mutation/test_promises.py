"""The markers `promise1` to `promise8` select the tests that hold each promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mutations import MUTATIONS

ROOT = Path(__file__).parents[2]
PLAIN = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
PROMISES = range(1, 9)
PAGE = (ROOT / "docs" / "architecture.md").read_text()
BY_HAND = {  # they try everything at once, and no mutation names them
    "crash/test_explorer.py": (1, 2, 3, 4),
    "crash/test_power_loss.py": (2, 5),
    "crash/test_killed.py": (2, 3, 4),
    "crash/test_chaos.py": (2, 4),
    "model/test_machine.py": (2, 4),
}


def file_of(promise: int) -> str:
    """Return the file of tests to look at for a promise: one that is collected quickly."""
    files = {mutation.test for mutation in MUTATIONS if promise in mutation.promises}
    return min(files, key=lambda file: ("unit/" not in file, file))


@pytest.fixture(scope="module")
def marked() -> dict[str, set[int]]:
    """Return the promises that the tests of some files are marked with, as `pytest -m` sees it."""
    program = """if True:
        import pytest, sys
        class Print:
            def pytest_collection_modifyitems(self, items):
                for item in items:
                    marks = {mark.name for mark in item.iter_markers()}
                    print("test", item.nodeid, *(m for m in marks if m.startswith("promise")))
        argv = ["-q", "--collect-only", "-p", "no:cacheprovider", *sys.argv[1:]]
        pytest.main(argv, plugins=[Print()])
    """
    argv = [sys.executable, "-c", program, *sorted({f"tests/{file_of(one)}" for one in PROMISES})]
    ended = subprocess.run(argv, cwd=ROOT, env=PLAIN, capture_output=True, text=True)
    found = re.findall(r"^test (.+?)((?: promise\d)*)$", ended.stdout, re.MULTILINE)
    return {test: {*map(int, re.findall(r"promise(\d)", marks))} for test, marks in found}


@pytest.mark.parametrize("promise", PROMISES)
def test_the_marker_of_a_promise_is_on_what_its_mutations_name_and_on_nothing_else(marked, promise):
    file = file_of(promise)
    named = [one.only for one in MUTATIONS if promise in one.promises and one.test == file]
    there = {test for test in marked if test.startswith(f"tests/{file}::")}
    found = {test for test in there if promise in marked[test]}
    assert found
    for only in named:  # each mutation of the promise has its tests among them
        assert any(word in test for word in only.split(" or ") for test in found), only
    assert found == {
        test for test in there if any(word in test for one in named for word in one.split(" or "))
    }


def test_the_option_m_selects_by_the_marker():
    argv = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    argv += ["-m", "promise6", "tests/unit/test_ready.py"]
    ended = subprocess.run(argv, cwd=ROOT, env=PLAIN, capture_output=True, text=True)
    selected = [line for line in ended.stdout.splitlines() if "::" in line]
    assert selected
    assert f"{len(selected)}/" in ended.stdout, "the others of the file are deselected"


@pytest.mark.parametrize("file", BY_HAND)
def test_what_tries_everything_says_which_promises_it_holds(file):
    text = (ROOT / "tests" / file).read_text()
    marks = re.search(r"^pytestmark = \[([^]]+)\]$", text, re.MULTILINE)
    assert marks is not None
    assert tuple(map(int, re.findall(r"promise(\d)", marks[1]))) == BY_HAND[file]


def test_the_markers_are_the_promises_of_the_architecture(request):
    registered = [
        re.fullmatch(r"promise(\d): (.*)", line) for line in request.config.getini("markers")
    ]
    markers = {int(one[1]): one[2] for one in registered if one}
    listed = re.findall(r"^(\d)\. (.+)\.$", PAGE.partition("## The promises")[2], re.MULTILINE)
    assert [*markers] == [*PROMISES]
    for number, words in listed[: len(PROMISES)]:
        assert plain(markers[int(number)]) == plain(words)


def plain(words: str) -> list[str]:
    """Return the words alone: a colon or a capital is no difference."""
    return re.findall(r"\w+", words.lower())


def test_mutations_name_their_tests_by_words_and_or_alone():
    for mutation in MUTATIONS:  # what the hook that adds the markers understands
        assert all(re.fullmatch(r"\w*", word) for word in mutation.only.split(" or "))
