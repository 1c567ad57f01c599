"""A command takes the beginning of a name that one entry has; delete takes a whole name."""

from __future__ import annotations

import os

import pytest

from tests.command_server import run_command

DEAD = ("monday-a", "monday-b", "tuesday-1", "tuesday-10")


@pytest.fixture
def watcher(queue, watcher_command, environment):
    """Run a command on a queue of dead entries; return its exit code and its text."""
    place = queue / ".watcher" / "dead"
    place.mkdir(parents=True, mode=0o700)
    for name in DEAD:
        (place / f"{name}.pck").write_bytes(b"x")
        (place / f"{name}.json").write_text('{"why": "no"}')

    def run(command, *arguments):
        argv = [*watcher_command, command, str(queue), *arguments]
        ended = run_command(argv, env=environment, text=True, timeout=30)
        return ended.returncode, ended.stdout + ended.stderr

    return run


def test_the_beginning_of_one_name_is_enough_and_the_whole_name_is_printed(queue, watcher):
    (queue / "other.pck").write_bytes(b"y")
    assert watcher("requeue", "monday-a")[0] == 0
    assert watcher("requeue", "dead/mon") == (0, "monday-b  dead, requeued\n")
    assert watcher("hold", "oth") == (0, "other  ready, held\n")
    assert watcher("cat", "held/oth", "--raw") == (0, "y")
    assert watcher("release", "oth") == (0, "other  held, released\n")


def test_a_beginning_of_several_names_them_and_moves_none(queue, watcher):
    for command in ("requeue", "cat"):
        code, told = watcher(command, "mon")
        assert code == os.EX_USAGE
        assert "several entries begin so: say more of dead/monday-" in told
        assert "dead/monday-a.pck" in told
        assert "dead/monday-b.pck" in told
    assert len(os.listdir(queue / ".watcher" / "dead")) == 2 * len(DEAD)


def test_a_whole_name_comes_before_others_that_begin_so_and_stands_for_none_of_them(watcher):
    assert watcher("requeue", "tuesday-1") == (0, "tuesday-1  dead, requeued\n")
    code, told = watcher("requeue", "tuesday-1")
    assert code == os.EX_NOINPUT
    assert "is ready" in told
    code, told = watcher("hold", "tuesday-1", "monday-a.pck")
    assert (code, told.splitlines()[0]) == (os.EX_NOINPUT, "tuesday-1  ready, held")


def test_a_script_with_a_name_that_is_gone_gets_no_other_entry(queue, watcher):
    (queue / ".watcher" / "dead" / "tuesday-1.pck").unlink()
    code, told = watcher("requeue", "tuesday-1")
    assert (code, "no such entry" in told) == (os.EX_NOINPUT, True)


def test_delete_takes_a_whole_name_and_says_which(queue, watcher):
    (queue / ".watcher" / "dead" / "monday-b.pck").unlink()
    code, told = watcher("delete", "mon", "--yes")
    assert code == os.EX_NOINPUT
    assert "no such entry" in told
    assert "did you mean monday-a.pck" in told
    assert watcher("delete", "monday-a", "--yes")[0] == 0


def test_many_names_are_whole_names(watcher):
    """To look for each beginning would read the directories once a name."""
    names = [f"gone-{number}" for number in range(20)]
    code, told = watcher("requeue", *names, "monday")
    assert code == os.EX_NOINPUT
    assert told.count("no such entry") == 21
