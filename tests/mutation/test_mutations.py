"""Each mutation breaks a promise, and fails the test that it names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mutations import MUTATIONS

ROOT = Path(__file__).parent.parent.parent
PROMISES = range(1, 9)
COPIED = ("watcher", "tests", "scripts", "setup.cfg", "pyproject.toml", "docs", "README.md")
PATIENCE = "PATIENCE = 8.0"  # seconds that a test of the copy waits for what must come
LONGEST = "timeout=40"  # seconds: a test of the copy that hangs has failed
FAILED = 1  # pytest's exit code when tests failed: not one that could not be collected
BY_NAME = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)


@BY_NAME
def test_a_mutation_can_be_made(mutation):
    text = (ROOT / "watcher" / mutation.file).read_text()
    assert text.count(mutation.old) == 1, "what it changes is there once"
    assert mutation.new != mutation.old
    if mutation.file.endswith(".py"):
        compile(text.replace(mutation.old, mutation.new), mutation.file, "exec")
    tests = (ROOT / "tests" / mutation.test).read_text()
    for name in re.findall(r"test_\w+", mutation.only):
        assert f"def {name}" in tests, "the test is there"


def test_no_promise_is_left_out():
    assert {promise for mutation in MUTATIONS for promise in mutation.promises} == {*PROMISES}
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.fixture(scope="session")
def copy(tmp_path_factory):
    """Copy the project to where it can be broken."""
    place = tmp_path_factory.mktemp("mutation") / "project"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "mutation")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, place / name)
    for path in (place / "tests").rglob("*.py"):  # what never comes need not be waited for so long
        path.write_text(
            re.sub(r"^PATIENCE = [0-9.]+", PATIENCE, path.read_text(), flags=re.MULTILINE)
        )
    # Compiled once: a run neither writes bytecode nor takes that of a file that was changed since.
    compiled = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
    subprocess.run([*compiled, "watcher", "tests", "scripts"], cwd=place, check=True)
    found = subprocess.run(
        [sys.executable, "-c", "import watcher; print(watcher.__file__)"],
        cwd="/",
        env=environment(place),
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(place)), "the copy is what runs, not what is installed"
    return place


def environment(place):
    """Return our environment in which the modules of the copy come before those installed."""
    paths = [str(place), str(place / "scripts"), os.environ.get("PYTHONPATH", "")]
    paths = os.pathsep.join(path for path in paths if path)
    return {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def passes(copy):
    """Say, once for each file of tests, whether all that its mutations name passes unbroken."""
    known = {}

    def said(test):
        if test not in known:
            chosen = {mutation.only for mutation in MUTATIONS if mutation.test == test}
            known[test] = run(
                copy,
                test,
                "" if "" in chosen else " or ".join(f"({one})" for one in sorted(chosen)),
            )
        return known[test]

    return said


def run(copy, test, only):
    """Run tests of one file on the copy; return pytest's exit code and what it printed."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    argv += ["-o", LONGEST, *(["-k", only] if only else [])]
    ended = subprocess.run(
        [*argv, f"tests/{test}"],
        cwd=copy,
        env=environment(copy),
        capture_output=True,
        text=True,
    )
    return ended.returncode, ended.stdout[-3000:] + ended.stderr[-1000:]


def one_in_six():
    """Yield all mutations as parameters; five of six are long."""
    for number, mutation in enumerate(MUTATIONS):
        marks = [pytest.mark.long] if number % 6 else []
        yield pytest.param(mutation, id=mutation.name, marks=marks)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", list(one_in_six()))
def test_a_broken_promise_is_found(copy, passes, mutation):
    code, printed = passes(mutation.test)
    assert code == 0, printed
    file = copy / "watcher" / mutation.file
    text = file.read_text()
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        code, printed = run(copy, mutation.test, mutation.only)
    finally:
        file.write_text(text)
    assert code == FAILED, f"it passes, or cannot be run, although {mutation.name}:\n{printed}"
