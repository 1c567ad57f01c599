"""`scripts/install_packages` says what is missing, and does nothing where nothing is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).parent.parent.parent / "scripts" / "install_packages"


@pytest.fixture
def run(tmp_path):
    """Run it on a machine of the test's own: which packages are there, what apt-get says."""

    def run(*arguments, installed, user=0):
        answers = {
            "dpkg-query": f'case " {installed} " in *" $4 "*|*" all "*) printf installed ;; esac',
            "apt-get": f'echo "$*" >> {tmp_path}/asked',
            "id": f"echo {user}",
        }
        for name, answer in answers.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
            (tmp_path / name).chmod(0o755)
        return subprocess.run(
            [INSTALL, *arguments],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )

    return run


def test_nothing_is_asked_for_when_all_are_there(run, tmp_path):
    ended = run(installed="all")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(("arguments", "user"), [(["--check"], 0), ([], 1000)])
def test_it_names_what_is_missing_and_installs_nothing(run, tmp_path, arguments, user):
    ended = run(*arguments, installed="strace rsync", user=user)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert " lftp " in ended.stderr
    assert "strace" not in ended.stderr
    assert not (tmp_path / "asked").exists()
