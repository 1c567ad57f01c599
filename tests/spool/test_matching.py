"""Which directories of the disk a pattern names."""

from __future__ import annotations

import os

import pytest

from watcher.config.expand import of_template
from watcher.config.queue_settings import Queue
from watcher.rules.path_pattern import PathPattern
from watcher.spool import matching
from watcher.spool.matching import find_directories


def found_by(pattern):
    return find_directories(PathPattern.parse(str(pattern)))


def test_links_are_followed_and_come_after_what_they_lead_to(tmp_path):
    (tmp_path / "in" / "victim" / "y").mkdir(parents=True)
    (tmp_path / "in" / "evil").mkdir()
    (tmp_path / "in" / "evil" / "link").symlink_to(tmp_path / "in" / "victim")
    (tmp_path / "in" / "evil" / "x").symlink_to(tmp_path / "in" / "victim" / "y")
    (tmp_path / "in" / "evil" / "loop").symlink_to("loop")
    found = found_by(tmp_path / "in/*/*")
    assert list(found.directories) == [
        f"{tmp_path}/in/{name}" for name in ("victim/y", "evil/link", "evil/x")
    ]


@pytest.mark.parametrize("pattern", ["in/*/*/y", "in/*/*/*"])
def test_no_user_takes_anothers_queue_by_a_link_in_the_middle_of_a_path(tmp_path, pattern):
    (tmp_path / "in" / "victim" / "box" / "y").mkdir(parents=True)
    (tmp_path / "in" / "evil").mkdir()
    (tmp_path / "in" / "evil" / "box").symlink_to(tmp_path / "in" / "victim" / "box")
    template = Queue(name="in", path=f"{tmp_path}/{pattern}", many=True)
    (name,) = of_template(template, found_by(tmp_path / pattern), set())
    assert name == "in/victim/box/y"


def test_what_cannot_be_read_is_named_and_not_taken_for_gone(tmp_path, monkeypatch):
    (tmp_path / "in" / "one" / "x").mkdir(parents=True)
    (tmp_path / "in" / "two" / "x").mkdir(parents=True)
    real = os.scandir

    def refusing(path):
        if str(path).endswith("/one"):
            raise OSError(24, "Too many open files")
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = found_by(tmp_path / "in/*/*")
    assert list(found.directories) == [f"{tmp_path}/in/two/x"]
    assert found.unreadable == [f"{tmp_path}/in/one"]
    assert "Too many open files" in found.trouble


def test_their_number_is_bounded_and_the_rest_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(matching, "MOST", 3)
    for number in range(5):
        (tmp_path / str(number)).mkdir()
    found = found_by(tmp_path / "[0-9]")
    assert len(found.directories) == 3
    assert "more than 3" in found.trouble
