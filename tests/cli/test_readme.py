"""What the README shows is what happens: quick start, commands, options, configuration."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from watcher.cli import COMMANDS
from watcher.config import load as configuration

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


@pytest.fixture
def shell(tmp_path, environment):
    """Give text to bash, where `watcher` is this Python's."""
    program = tmp_path / "bin" / "watcher"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m watcher "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{environment['PATH']}"
    root = str(Path(__file__).parent.parent.parent)

    def run(text, *options):
        assert shutil.which("bash")
        return subprocess.run(
            ["bash", *options],
            input=text.replace("/tmp/spool", str(tmp_path / "spool")),
            env=environment | {"PATH": path, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def first_block(heading):
    section = README.split(f"\n## {heading}\n")[1]
    found = re.search(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("options", [(), ("-m",)], ids=["a script", "with job control"])
def test_the_quick_start_pasted_as_a_block_handles_the_entry(shell, tmp_path, options):
    ended = shell(first_block("Quick start"), *options)
    name = "[0-9]+\\.[0-9]+\\+[0-9a-f]{40}"
    assert re.search(f"spool: {name} stdout: {name}: 6 bytes$", ended.stderr, re.MULTILINE), ended
    assert "drained" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 0
    assert [path.name for path in (tmp_path / "spool").iterdir()] == [".watcher"]


NOT_OURS = {
    "--upgrade",
    "--delete",
    "--partial-dir",
    "--stdin",
    "--errors",
}  # rsync's, a handler's, a script's


def test_every_command_and_option_that_is_shown_exists():
    commands = {name: importlib.import_module(f"watcher.cli.{name}").command for name in COMMANDS}
    shown = set(re.findall(r"`watcher ([a-z]+)|^watcher ([a-z]+)", README, re.MULTILINE))
    assert {one or other for one, other in shown} <= set(commands)
    known = {flag for each in commands.values() for option in each.params for flag in option.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - NOT_OURS <= known


def test_the_configuration_that_is_shown_loads(tmp_path):
    block = re.search(r"^```toml\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert block
    (tmp_path / "watcher.toml").write_text(block[1])
    assert set(configuration.load(f"{tmp_path}/watcher.toml", {})) == {"incoming", "reports"}
