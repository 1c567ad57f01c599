"""Every command of `cli.COMMANDS`: its help, its row in the documents, its exit codes.

A new command fails here until it has arguments below, for a directory that does not exist.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import click
import pytest

from tests.command_server import run_command
from watcher.cli import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
NOWHERE: dict[str, tuple[str, ...]] = {  # arguments with which a command needs DIR; (): it has none
    "run": ("DIR", "--", "true"),
    "sweep": ("DIR", "--", "true"),
    "enqueue": ("DIR", "-"),
    "status": ("DIR",),
    "audit": ("DIR",),
    "list": ("DIR",),
    "history": ("DIR", "name"),
    "cat": ("DIR", "name"),
    "hold": ("DIR", "name"),
    "release": ("DIR", "name"),
    "requeue": ("DIR", "name"),
    "delete": ("DIR", "name", "--yes"),
    "attempt": ("DIR", "name", "--", "true"),
    "abort": ("DIR", "name"),
    "pause": ("DIR",),
    "resume": ("DIR",),
    "work": (),
    "nats": (),
    "explain": ("DIR/name.pck",),
    "check": ("DIR",),
    "torture": ("DIR", "--seconds", "1"),
}
each_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture
def run(watcher_command, environment):
    def running(*arguments):
        argv = [*watcher_command, *arguments]
        return run_command(argv, env=environment, text=True, input="")

    return running


def test_the_arguments_above_cover_every_command():
    assert NOWHERE.keys() == COMMANDS.keys()


def test_every_module_with_a_command_is_in_the_table():
    files = (ROOT / "watcher" / "cli").glob("*.py")
    commands = {
        path.stem
        for path in files
        if re.search(r"^def command\(|^command = ", path.read_text(), re.MULTILINE)
    }
    assert commands == COMMANDS.keys()


@each_command
def test_a_command_is_a_module_with_a_docstring_and_help_for_every_option(name):
    module = importlib.import_module(f"watcher.cli.{name}")
    assert isinstance(module.command, click.Command)
    assert module.command.name == name
    assert module.__doc__
    assert module.command.help
    options = [each for each in module.command.params if isinstance(each, click.Option)]
    assert not [option.name for option in options if not option.help]


@each_command
def test_the_readme_has_a_row_for_it(name):
    rows = re.findall(r"^\| `watcher ([^ `]+)", README, re.MULTILINE)
    assert name in {word for row in rows for word in row.replace("\\", "").split("|")}


@each_command
def test_an_option_that_it_has_not_is_one_line_and_64(run, name):
    ended = run(name, *NOWHERE[name][:1], "--no-such-option")
    assert (ended.returncode, ended.stdout) == (os.EX_USAGE, "")
    assert ended.stderr.startswith(f"watcher: {name}: ")
    assert len(ended.stderr.splitlines()) == 1


@each_command
def test_a_directory_that_does_not_exist_is_66_and_named(run, tmp_path, name):
    if not NOWHERE[name]:
        return  # tests/jetstream has its errors
    missing = str(tmp_path / "nowhere")
    ended = run(name, *(word.replace("DIR", missing) for word in NOWHERE[name]))
    assert missing in ended.stdout + ended.stderr
    assert ended.returncode == os.EX_NOINPUT
    assert "Traceback" not in ended.stderr
