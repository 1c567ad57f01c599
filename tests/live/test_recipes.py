"""Each page of docs/recipes/ does what it says: its files, its commands, the output that it shows.

`recipe.py` follows a page, in namespaces of its own. Without root, or where namespaces are refused,
the pages' configurations are read all the same.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from real_writers.servers import has
from watcher.config.load import load

FOLLOW = Path(__file__).with_name("recipe.py")
RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
PAGES = sorted(path.stem for path in RECIPES.glob("*.md") if path.stem != "README")
NAMESPACES = ["unshare", *["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]]
HEADINGS = [
    *("How", "Users and permissions", "Configuration", "Start it", "Check that it works"),
    "What is promised, and what is not",
]
# The programs of each page but those of util-linux, passwd and coreutils.
NEEDS: dict[str, tuple[str, ...]] = {
    "camera": (),
    "container": (),
    "copy-by-hand": (),
    "cron-export": (),
    "ftp": ("proftpd", "ftpasswd", "curl"),
    "maildir": (),
    "mailman": (),
    "rsync": ("rsync",),
    "samba": ("smbd", "smbpasswd", "smbclient"),
    "scanner": (),
    "sftp": ("sshd", "ssh-keygen", "sftp", "scp"),
}
UNIT = re.findall("^ExecStart=.*$", (RECIPES / "README.md").read_text(), re.MULTILINE)[0]
TAKES_LONG = {"camera", "copy-by-hand", "ftp", "samba", "scanner", "sftp"}  # some 5 s each

spec = importlib.util.spec_from_file_location("recipe", FOLLOW)
assert spec is not None
assert spec.loader is not None
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)


@functools.cache
def no_room() -> str:
    """Return why no page can be followed here, or ""."""
    missing = [each for each in ("unshare", "ip", "runuser", "setpriv", "useradd") if not has(each)]
    if os.geteuid() != 0 or missing:
        return f"needs {', '.join(missing) or 'root'}"
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def follow(page: Path, directory: Path, patience: str = "40") -> subprocess.CompletedProcess[str]:
    """Follow a page, and remove its room, which has a copy of /etc."""
    room = directory / "room"
    room.mkdir()
    try:
        return subprocess.run(
            [*NAMESPACES, sys.executable, str(FOLLOW), str(page), str(room)],
            env={**os.environ, "RECIPE_PATIENCE": patience},
            capture_output=True,
            text=True,
        )
    finally:
        shutil.rmtree(room)


def pages() -> list[object]:
    return [
        pytest.param(page, marks=[pytest.mark.slow] if page in TAKES_LONG else []) for page in PAGES
    ]


@pytest.mark.parametrize("page", pages())
def test_a_recipe_does_what_its_page_says(page, tmp_path):
    missing = [program for program in NEEDS[page] if not has(program)]
    if reason := f"not installed: {', '.join(missing)}" if missing else no_room():
        pytest.skip(reason)
    ended = follow(RECIPES / f"{page}.md", tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("page", PAGES)
def test_the_configuration_of_a_recipe_is_accepted(page, tmp_path):
    text = (RECIPES / f"{page}.md").read_text()
    found = [block for language, block in recipe.blocks(text) if language == "toml"]
    assert found
    for block in found:
        path = recipe.saved_as(block)
        assert path.startswith("/etc/watcher/")
        (tmp_path / "watcher.toml").write_text(block)
        assert load(str(tmp_path / "watcher.toml"), {})
        run = f"watcher run --config {path}"
        assert run in text
        assert UNIT.replace("%i", Path(path).stem) == f"ExecStart=/usr/local/bin/{run}"


@pytest.mark.parametrize("page", PAGES)
def test_a_recipe_has_the_headings_of_all_and_a_line_in_the_index(page):
    found = re.findall("^## (.+)$", (RECIPES / f"{page}.md").read_text(), re.MULTILINE)
    assert [found[0].split()[0], *found[1:]] == HEADINGS
    assert f"]({page}.md)" in (RECIPES / "README.md").read_text()


# -- of the test: a page that is wrong is found -------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [
        "```console\n$ echo one\ntwo\n```\n",
        "```console\n$ false\n```\n",
        "```sh\n# /srv/a\none\n```\n```console\n$ cat /srv/a\n# /srv/a\ntwo\n```\n",
    ],
)
def test_a_page_that_does_not_say_what_happens_is_found(block, tmp_path):
    if reason := no_room():
        pytest.skip(reason)
    page = tmp_path / "page.md"
    page.write_text(block)
    ended = follow(page, tmp_path, patience="1")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "the page says" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [("1 done", "2 done", "1 done"), ('mv "$file.tmp"', 'cp "$file.tmp"', "does not show")],
)
def test_a_recipe_that_becomes_wrong_is_found(right, wrong, found, tmp_path):
    if reason := no_room():
        pytest.skip(reason)
    text = (RECIPES / "cron-export.md").read_text()
    assert right in text
    page = tmp_path / "page.md"
    page.write_text(text.replace(right, wrong))
    ended = follow(page, tmp_path, patience="5")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert found in ended.stdout


@pytest.mark.parametrize(
    ("expected", "output", "alike"),
    [
        ("a ... c\n", "a b c\n", True),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nd\n", True),
        ("", "", True),
        ("", "a\n", False),
        ("a.c\n", "abc\n", False),
        ("a\n", "a\nb\n", False),
    ],
)
def test_an_output_is_compared_line_by_line(expected, output, alike):
    assert recipe.same(expected, output) is alike


def test_the_page_on_moving_and_restoring_does_what_it_says(tmp_path):
    if reason := no_room():
        pytest.skip(reason)
    ended = follow(RECIPES.parent / "moving.md", tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
