"""What is shipped: the built wheel holds the whole package and nothing else, and it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel out of a copy, where no earlier build lies about; return its path."""
    directory = tmp_path_factory.mktemp("wheel")
    sources = directory / "sources"
    shutil.copytree(ROOT / "watcher", sources / "watcher", ignore=lambda *_: ["__pycache__"])
    for name in ("scripts/completion", "docs/man"):
        shutil.copytree(ROOT / name, sources / name)
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, sources)
    argv = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", directory, sources]
    subprocess.run(argv, check=True)
    (built,) = directory.glob("spool_watcher-*.whl")
    return built


def test_it_holds_every_module_and_nothing_else(wheel):
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "watcher").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed" or path.parent.name == "page"
    }
    assert "watcher/web/page/index.html" in modules
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {name.partition(".data/data/share/")[2] for name in names if ".data/" in name}
    assert data == {
        "bash-completion/completions/watcher",
        "fish/vendor_completions.d/watcher.fish",
        "man/man1/watcher.1",
        "man/man5/watcher.toml.5",
        "zsh/site-functions/_watcher",
    }
    inside = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert inside == modules
    assert any(name.endswith("/LICENSE") for name in names)
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    extras = re.findall(
        r"^Provides-Extra: (\w+)$", zipfile.ZipFile(wheel).read(metadata).decode(), re.MULTILINE
    )
    assert {"rich", "metrics", "page"} <= {*extras}


def test_it_runs_with_the_sources_out_of_the_way(wheel, tmp_path):
    shipped = tmp_path / "shipped"
    zipfile.ZipFile(wheel).extractall(shipped)
    environment = os.environ | {"PYTHONPATH": str(shipped), "PYTHONSAFEPATH": "1"}
    where = "import watcher.cli; print(watcher.__file__)"
    out = subprocess.check_output([sys.executable, "-c", where], env=environment, cwd=tmp_path)
    assert out.decode().startswith(str(shipped))
    queue = tmp_path / "queue"
    queue.mkdir()
    run = [sys.executable, "-P", "-m", "watcher", "enqueue", queue, "-"]
    subprocess.run(run, env=environment, cwd=tmp_path, input=b"Subject: x\n\n", check=True)
    assert [path.suffix for path in queue.glob("*.*") if path.is_file()] == [".pck"]
