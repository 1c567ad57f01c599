"""The examples of docs/worker-protocol.md, as they stand there, at work on entries."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from watcher.handle.worker_request import VERSION
from watcher.rules.results import Verdict
from watcher.rules.worker_answer import MOST

PAGE = (Path(__file__).parents[2] / "docs" / "worker-protocol.md").read_text()
EXAMPLES = dict(re.findall(r"^```(sh|python|perl|c)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
NEEDS = {"sh": "sh", "python": "python3", "perl": "perl", "c": "cc"}


@pytest.fixture(params=NEEDS)
def example(request, tmp_path):
    """The path of one example, ready to run."""
    language = request.param
    if shutil.which(NEEDS[language]) is None:
        pytest.skip(f"needs {NEEDS[language]}")
    if language == "perl" and subprocess.run(["perl", "-MJSON::PP", "-e", ""]).returncode:
        pytest.skip("needs the Perl module JSON::PP")
    program = tmp_path / f"example.{language}"
    program.write_text(EXAMPLES[language])
    program.chmod(0o755)
    if language != "c":
        return str(program)
    compiled = tmp_path / "example"
    subprocess.run(["cc", "-Wall", "-Werror", "-o", compiled, program], check=True)
    return str(compiled)


def test_an_example_copies_each_message_and_says_when_it_cannot(
    example,
    worker,
    claimed_entry,
    tmp_path,
):
    copies = tmp_path / "copies"
    handler = worker([example, str(copies)])
    entries = [
        claimed_entry(b"first", {"file": "/etc/passwd", 'x","file":"': '"key":"1"'}),
        claimed_entry(b"\0\xff\n" * 50_000, form="raw", stem=b'a "b" caf\xe9'),
        claimed_entry(b"", {"long": "x" * 40_000}, form="pair"),
    ]
    failed = handler.run(entries[0])
    assert (failed.verdict, failed.after) == (Verdict.RETRY, 60.0), failed
    copies.mkdir()
    for entry in entries:
        result = handler.run(entry)
        assert result.verdict is Verdict.DONE, result
        assert (copies / entry.key).read_bytes() == entry.message
    assert len(handler._running) == 1, "all by one process"
    assert sorted(path.name for path in copies.iterdir()) == sorted(e.key for e in entries)


def test_the_page_says_the_version_and_the_bound_of_an_answer():
    assert f'{{"version":{VERSION},' in PAGE
    assert f"| `version` | {VERSION} |" in PAGE
    assert f"{MOST:,} bytes" in PAGE
