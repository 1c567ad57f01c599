"""`scripts/make_venv` says in one line what is missing, and leaves no stamp behind then."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

MAKE_VENV = Path(__file__).parent.parent.parent / "scripts" / "make_venv"
TOO_OLD = "#!/bin/sh\nexit 1\n"
WITHOUT_ENSUREPIP = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\n'


@pytest.fixture
def make_venv(tmp_path):
    """Run make_venv with a python of the test's own; return the finished process."""

    def run(program):
        python = tmp_path / "python"
        python.write_text(program)
        python.chmod(0o755)
        return subprocess.run(
            [MAKE_VENV, tmp_path / "venv", "nothing"],
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("program", "remedy"),
    [(TOO_OLD, "make PYTHON=/path/to/python3"), (WITHOUT_ENSUREPIP, "install python3-venv")],
)
def test_one_line_says_what_to_do(make_venv, tmp_path, program, remedy):
    result = make_venv(program)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert remedy in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_failed_install_leaves_no_stamp(make_venv, tmp_path):
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "python").write_text('#!/bin/sh\ncase "$*" in *install*) exit 3 ;; esac\n')
    (venv / "python").chmod(0o755)
    assert make_venv(TOO_OLD).returncode == 3
    assert not (tmp_path / "venv" / ".stamp").exists()
