"""The manual pages are those of the program, and no tool warns of them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

import man_pages
from watcher.cli import COMMANDS
from watcher.config.options import OPTIONS, RETRY

each_page = pytest.mark.parametrize("name", ["watcher.1", "watcher.toml.5"])


def test_the_pages_are_those_of_the_program():
    """`make docs` writes them."""
    assert (man_pages.PAGES / "watcher.1").read_text() == man_pages.watcher_1()
    assert (man_pages.PAGES / "watcher.toml.5").read_text() == man_pages.watcher_toml_5()


def test_every_command_and_every_key_has_its_place():
    page = man_pages.watcher_1()
    found = re.findall(r"^\.SS watcher (\S+)", page, re.MULTILINE)
    assert list(dict.fromkeys(found)) == list(COMMANDS)
    both = re.findall(r"^\.SS watcher (nats|work) (\w+) ", page, re.MULTILINE)
    assert [second for _first, second in both] == ["list", "requeue", "delete", "init", "check"]
    assert page.count(".B \\-\\-grace\\-age") == 1, "once for all commands"
    keys = re.findall(r"^\.B ([a-z_]+)$", man_pages.watcher_toml_5(), re.MULTILINE)
    assert set(keys) >= {*OPTIONS, *RETRY}


def test_text_cannot_become_a_macro():
    assert man_pages._escaped(".SH x") == "\\&.SH x"
    assert man_pages._escaped("'\\-") == "\\&'\\e\\-"
    assert man_pages._escaped("\u2026").isascii()


@each_page
@pytest.mark.skipif(shutil.which("mandoc") is None, reason="no mandoc here")
def test_mandoc_warns_of_nothing(name):
    argv = ["mandoc", "-T", "lint", "-W", "warning", man_pages.PAGES / name]
    assert subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout == ""


@each_page
@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
def test_groff_warns_of_nothing(name):
    argv = ["groff", "-man", "-Tutf8", "-ww", "-z", man_pages.PAGES / name]
    assert subprocess.run(argv, capture_output=True, text=True, timeout=30).stderr == ""
