"""What no source may use: a private name of the standard library, for the next Python has others.

Also in the programs that tests hold as text. What an instance keeps private is ruff's business
(SLF001), in all but the tests. And no test draws from chance without a seed: a failure that cannot
be had again teaches nothing. tests/unit/ needs neither a disk nor another process.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = [path for part in ("watcher", "scripts", "tests") for path in (ROOT / part).rglob("*.py")]
DOCUMENTED = {"os._exit"}
DATA = {"email._policybase"}  # the module that Mailman's pickles name
IN_TEXT = re.compile(rf"\b(?:{'|'.join(sorted(sys.stdlib_module_names))})\._[a-zA-Z]\w*")


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def bindings(tree: ast.AST) -> dict[str, str]:
    """Return what each imported name of a module stands for, where that is the library's."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return {
        name: of for name, of in found.items() if of.partition(".")[0] in sys.stdlib_module_names
    }


def dotted(node: ast.expr, known: dict[str, str]) -> str | None:
    """Return the whole name of an attribute of what was imported."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, known)
        return base and f"{base}.{node.attr}"
    return None


def uses(source: str) -> Iterator[str]:
    """Yield `module._name` for each use in a program's text."""
    tree = ast.parse(source)
    known = bindings(tree)
    yield from (of for of in known.values() if private(of.rpartition(".")[2]))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            base = dotted(node.value, known)
            if base:
                yield f"{base}.{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from IN_TEXT.findall(node.value)


def test_no_source_uses_a_private_name_of_the_standard_library():
    found = {}
    for path in SOURCES:
        if path != Path(__file__):  # the examples are here
            names = set(uses(path.read_text(encoding="utf-8"))) - DOCUMENTED - DATA
            found[str(path.relative_to(ROOT))] = names
    assert len(found) > 100
    assert not {path: names for path, names in found.items() if names}


def draws(source: str) -> Iterator[str]:
    """Yield what a program draws from chance that has no seed of its own."""
    tree = ast.parse(source)
    known = bindings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func, known) or ""
            seeded = name == "random.Random" and (node.args or node.keywords)
            if name.startswith(("random.", "secrets.", "uuid.uuid", "os.urandom")) and not seeded:
                yield name


def test_no_test_draws_from_chance_without_a_seed():
    tests = [path for path in SOURCES if "tests" in path.relative_to(ROOT).parts]
    found = {
        str(path.relative_to(ROOT)): list(draws(path.read_text(encoding="utf-8"))) for path in tests
    }
    assert not {path: names for path, names in found.items() if names}


def test_unit_tests_use_neither_disk_nor_processes():
    needs = re.compile(r"\b(tmp_path|tempfile|subprocess|multiprocessing|os\.fork|os\.mkdir)\b")
    found = {path.name: needs.findall(path.read_text()) for path in (ROOT / "tests/unit").iterdir()
             if path.suffix == ".py"}  # fmt: skip
    assert not {name: used for name, used in found.items() if used}


@pytest.mark.parametrize(
    ("source", "is_unique_name"),
    [
        ("import os\nos.urandom(3)", ["os.urandom"]),
        ("import random\nrandom.random()", ["random.random"]),
        ("from random import choice\nchoice([1])", ["random.choice"]),
        ("import random\nrandom.Random()", ["random.Random"]),
        ("import random\nchance = random.Random(1)\nchance.random()", []),
    ],
)
def test_the_check_of_chance_sees(source, is_unique_name):
    assert list(draws(source)) == is_unique_name


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("import threading\nthreading._shutdown()", "threading._shutdown"),
        ("import os.path as p\np._joinrealpath", "os.path._joinrealpath"),
        ("from ctypes import _Pointer", "ctypes._Pointer"),
        ("from weakref import finalize\nfinalize._registry", "weakref.finalize._registry"),
        ("PROGRAM = 'import atexit; atexit._clear()'", "atexit._clear"),
        ("import watcher.daemon.queue_worker\nwatcher.daemon.queue_worker._serve", None),
        ("import os\nos.__file__", None),
    ],
)
def test_the_check_sees(source, used):
    assert list(uses(source)) == ([used] if used else [])
