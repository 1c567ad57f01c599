"""`watcher check` recognises a folder that another program mirrors, and says what to set."""

from __future__ import annotations

import json

import pytest

from tests.command_server import run_command
from watcher.inspect.mirrors import mirrors_of

TRACES = [
    (".stfolder/", "Syncthing"),
    (".stignore", "Syncthing"),
    (".syncthing.report.csv.tmp", "Syncthing"),
    ("~syncthing~report.csv.tmp", "Syncthing"),
    (".~tmp~/", "rsync"),
    (".rsync-partial/", "rsync"),
    (".report.csv.x4Kq2Z", "rsync"),
    (".unison.report.csv.1a2b.unison.tmp", "Unison"),
    (".sync_0a1b2c3d4e5f.db", "Nextcloud"),
    ("._sync_0a1b2c3d4e5f.db", "Nextcloud"),
    (".dropbox", "Dropbox"),
    (".dropbox.cache/", "Dropbox"),
]
NONE = [".unison/", ".dropbox/", ".notes.sqlite", "report.csv", ".report.csv.part", ".x4Kq2Z"]


def make(directory, name):
    if name.endswith("/"):
        (directory / name).mkdir()
    else:
        (directory / name).write_bytes(b"")


@pytest.mark.parametrize(("name", "program"), TRACES)
def test_a_mirror_is_recognised_by_what_it_leaves_in_the_folder(queue, name, program):
    make(queue, name)
    (mirror,) = mirrors_of(bytes(queue))
    assert (mirror.trace.program, mirror.folder) == (program, bytes(queue))


@pytest.mark.parametrize("name", NONE)
def test_other_files_and_the_directories_of_a_home_are_no_traces(queue, name):
    make(queue, name)
    make(queue.parent, name)
    assert list(mirrors_of(bytes(queue))) == []


def test_a_folder_above_is_recognised_but_not_by_a_random_name(queue):
    (queue / "in").mkdir()
    make(queue, ".stfolder/")
    make(queue, ".report.csv.x4Kq2Z")
    (mirror,) = mirrors_of(bytes(queue / "in"))
    assert (mirror.trace.program, mirror.folder) == ("Syncthing", bytes(queue))


@pytest.fixture
def check(queue, watcher_command, environment):
    """Return what `check` says about mirrors."""

    def run(*options):
        argv = [*watcher_command, "check", str(queue), "--json", *map(str, options)]
        ended = run_command(argv, env=environment, capture_output=True, text=True)
        lines = map(json.loads, ended.stdout.splitlines())
        return [(one["grade"], one["what"]) for one in lines if one["about"] == "mirrored"]

    return run


def test_check_advises_a_state_directory_outside_the_mirrored_folder(queue, check):
    assert check() == []
    make(queue, ".stfolder/")
    ((grade, what),) = check()
    assert grade == "warning"
    assert "deleted at the other side" in what
    assert f"set state_dir to a directory outside {queue}" in what


def test_with_it_outside_only_the_consequence_is_said(queue, check, tmp_path):
    make(queue, ".~tmp~/")
    ((_, what),) = check("--state-dir", tmp_path / "state")
    assert "comes again with its next run" in what
    assert "state_dir" not in what


def test_a_daemon_whose_state_directory_is_taken_away_names_the_mirror(
    queue, start_daemon, recorder, tmp_path
):
    make(queue, ".stfolder/")
    daemon = start_daemon(queue, "--sweep-every", "200ms", handler=recorder.argv())
    (queue / ".watcher").rename(tmp_path / "taken")
    (said,) = daemon.wait_for("mirrored")
    assert "Syncthing" in said["detail"]
    assert "set state_dir" in said["detail"]
    assert daemon.end() == 0
