"""The programs of docs/python.md run, and their types are right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_has_its_programs():
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_program_of_the_page_runs(queue_dir, put, start, where, number):
    assert "/srv/in" in BLOCKS[number]
    names = ["a", "b", "c"]
    put(*names)
    text = BLOCKS[number].replace('"/srv/in"', "queue_dir")
    if "wait=False" not in text:
        text = text.replace('format="raw"', 'format="raw", wait=False')
    text = text.replace('format="raw"', 'format="raw", writers="rename"')
    program = start(text)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    if number == 0:
        assert out == "a 1\nb 1\nc 1\n"
    if "retry" in text:
        assert [name[-1] for name in where()["deferred"]] == names
    else:
        assert where() == {}


@pytest.mark.slow
def test_the_programs_of_the_page_have_their_types(tmp_path):
    pytest.importorskip("mypy")
    for number, text in enumerate(BLOCKS):
        (tmp_path / f"program{number}.py").write_text(text)
    (tmp_path / "wrong.py").write_text(
        'import watcher\nwatcher.entries("/srv/in", formats="raw")\n'
    )
    strict = ("--strict", "--config-file=", "--follow-imports=silent")
    files = map(str, sorted(tmp_path.glob("*.py")))
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", *strict, *files], cwd=ROOT, capture_output=True, text=True
    )
    assert re.findall(r"(\w+)\.py:\d+: error: .*formats", ended.stdout) == ["wrong"], ended
    assert "Found 1 error in 1 file" in ended.stdout
