"""`make install` and `make uninstall`, with three files in the place of the real environment.

The real environment is in the Debian package, whose test runs it: tests/packaging/test_deb.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from watcher.config.load import load

ROOT = Path(__file__).parents[2]
ENVIRONMENT = f"""#!/bin/sh
set -e
mkdir -p "$1/bin" "$1/lib/watcher" "$1/share/man/man1"
ln -s {sys.executable} "$1/bin/python"
echo "X = 1" >"$1/lib/watcher/__init__.py"
touch "$1/share/man/man1/watcher.1" "$1"/lib/watcher/"$VERSION"
"""


@pytest.fixture
def make(tmp_path):
    """Run make in a copy of the sources, into tmp_path/dest, as a certain version."""
    sources = tmp_path / "sources"
    for name in (
        "docs",
        *map("scripts/{}".format, ("packages", "systemd", "monitoring", "nats-server")),
    ):
        shutil.copytree(ROOT / name, sources / name)
    for name in ("Makefile", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, sources / name)
    (sources / "scripts/packages/environment").write_text(ENVIRONMENT)

    def make(target, *arguments, version="1", status=0):
        argv = ["make", target, f"DESTDIR={tmp_path}/dest", *arguments]
        ended = subprocess.run(
            argv, cwd=sources, env={"PATH": "/usr/bin:/bin", "VERSION": version},
            capture_output=True, text=True,
        )  # fmt: skip
        assert (ended.returncode != 0) == bool(status), ended.stdout + ended.stderr
        return ended.stderr

    return make


def installed(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if not path.is_dir() and "__pycache__" not in path.parts
    }


def test_all_that_is_installed_is_of_the_prefix_and_an_uninstall_removes_it(make, tmp_path):
    destination = tmp_path / "dest"
    make("install", "PREFIX=/opt/w")
    found = installed(destination)
    assert {
        *("etc/watcher/watcher.toml", "opt/w/bin/watcher", "opt/w/lib/watcher/bin/watcher"),
        *("opt/w/lib/systemd/system/watcher.service", "opt/w/lib/sysusers.d/spool-watcher.conf"),
        *("opt/w/share/man/man1/watcher.1", "opt/w/share/doc/spool-watcher/docs/install.md"),
    } <= found
    for name in found - {"opt/w/lib/watcher/bin/python"}:
        content = (destination / name).read_bytes()
        assert str(tmp_path).encode() not in content, f"{name} names the place of the build"
        if "/share/doc/" not in name:
            assert not re.search(rb"/usr/(bin|share/doc)/watcher", content), name
    for path in destination.rglob("*.pyc"):
        assert str(tmp_path).encode() not in path.read_bytes()
    program = (destination / "opt/w/bin/watcher").read_text()
    assert program.startswith("#!/opt/w/lib/watcher/bin/python -P\n")

    (destination / "opt/w/share/doc/another").touch()
    make("uninstall", "PREFIX=/opt/w")
    assert installed(destination) == {"etc/watcher/watcher.toml", "opt/w/share/doc/another"}
    assert not (destination / "opt/w/lib").exists()


def test_a_new_version_replaces_the_old_one_and_keeps_the_configuration(make, tmp_path):
    library = tmp_path / "dest/usr/local/lib/watcher/lib/watcher"
    configuration = tmp_path / "dest/etc/watcher/watcher.toml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text("mine")
    make("install", version="1")
    make("install", version="2")
    assert configuration.read_text() == "mine"
    assert {path.name for path in library.iterdir()} == {"__init__.py", "__pycache__", "2"}


@pytest.mark.parametrize("prefix", ["usr", "/a b", "/"])
def test_a_prefix_that_cannot_work_is_refused_in_one_line(make, tmp_path, prefix):
    said = make("install", f"PREFIX={prefix}", status=1)
    assert said.splitlines()[0].startswith("stage: PREFIX is ")
    assert not (tmp_path / "dest/etc").exists()


def test_the_example_configuration_has_no_queue_until_its_comment_is_removed(tmp_path):
    text = (ROOT / "scripts/packages/watcher.toml").read_text()
    assert tomllib.loads(text) == {}
    example = tmp_path / "watcher.toml"
    example.write_text(re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE))
    assert list(load(str(example), {})) == ["incoming"]
