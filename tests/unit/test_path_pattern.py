"""A `path` with a pattern: what it matches, and what the queues are called."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.rules.path_pattern import (
    PathPattern,
    absolute,
    directory_queue,
    has_pattern,
    matches,
    wrong_pattern,
)

MATCHES = [
    ("tenant1", "*", True),
    ("tenant1", "tenant?", True),
    ("tenant12", "tenant?", False),
    ("tenant1", "tenant[12]", True),
    ("tenant3", "tenant[!12]", True),
    ("Tenant1", "tenant1", False),
    (".hidden", "*", False),
    (".hidden", "?hidden", False),
    (".hidden", ".h*", True),
    (".watcher", ".*", False),
    (".watcher", ".watcher", False),
    ("*", "[*]", True),
    ("x", "[*]", False),
    ("", "*", False),
    ("two\nlines", "two*", True),
    ("\udcff", "?", True),
]


@pytest.mark.parametrize(("name", "part", "expected"), MATCHES)
def test_a_name_matches_one_component_as_in_a_shell(name, part, expected):
    assert matches(name, part) is expected


@pytest.mark.parametrize(
    ("path", "root", "parts"),
    [
        ("/srv/in/*", "/srv/in", ("*",)),
        ("/*", "/", ("*",)),
        ("/srv/cam?/20*/new", "/srv", ("cam?", "20*", "new")),
    ],
)
def test_a_pattern_is_taken_apart_at_its_first_component_that_is_one(path, root, parts):
    assert PathPattern.parse(path) == (root, parts)


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/srv/cam/front/2026", "front/2026"),
        ("/srv/cam/front", None),
        ("/srv/cam/front/2026/a", None),
        ("/srv/camera/front/2026", None),
        ("/srv/cam/front/.watcher", None),
        ("/other", None),
    ],
)
def test_a_path_matches_only_at_the_depth_of_the_pattern(path, below):
    assert PathPattern.parse("/srv/cam/*/*").below(path) == below


def test_two_stars_are_refused_with_what_to_write():
    assert "write /* once for each level" in str(wrong_pattern("/srv/**/in"))
    assert wrong_pattern("/srv/*/in") is None


def test_the_folder_of_the_configuration_is_no_pattern():
    assert not has_pattern("incoming")
    pattern = PathPattern.parse(absolute("/etc/[x]", "in/*"))
    assert pattern.below("/etc/[x]/in/a") == "a"
    assert pattern.below("/etc/x/in/a") is None


@given(*[st.binary(min_size=1).filter(lambda name: b"/" not in name and b"\0" not in name)] * 2)
def test_two_directories_never_have_one_queue_name_and_it_is_one_line(one, other):
    import os

    names = [directory_queue("in", os.fsdecode(name)) for name in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert all(name.isprintable() for name in names)
