"""A file of every kind, through every command: `KIND_INFO` says what each of them does with it.

A new member of `Kind` fails here until it has a row in the table, a name below, and a rule in
`Layout.kind`.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.command_server import run_command
from watcher.inspect.counts import tally
from watcher.rules.kinds import ENTRY_KINDS, HALVES, KIND_INFO, Kind
from watcher.rules.names import Layout, wrong_suffix
from watcher.rules.patterns import DEFAULT_IGNORE, compiled
from watcher.spool.spool import Spool

LEGACY = Layout(legacy=True)
RAW = Layout(b"", raw=True, ignore=compiled(DEFAULT_IGNORE), match=compiled(("*.csv", "e*")))
MARKED = Layout(
    *(b"", True),
    ignore=compiled(DEFAULT_IGNORE),
    marker=b"{name}.done",
    companions=(b"{name}.aria2", b".~lock.{name}#"),
)
NAMES: dict[Kind, tuple[str, ...]] = {
    Kind.ENTRY: ("e.pck",),
    Kind.MESSAGE_HALF: ("m.msg",),
    Kind.METADATA_HALF: ("d.db",),
    Kind.TEMPORARY: ("t.pck.tmp", ".hidden"),
    Kind.LEFTOVER: ("l.bak", "l.psv"),
    Kind.MARKER: (),  # in the raw format alone
    Kind.COMPANION: (),
    Kind.IGNORED: (),  # in the raw format alone
    Kind.FOREIGN: ("f.txt",),
}
RAW_NAMES: dict[Kind, tuple[str, ...]] = {
    Kind.ENTRY: ("e.dat", "x.csv"),
    Kind.TEMPORARY: ("t.csv.tmp", ".hidden.csv"),
    Kind.IGNORED: ("e.dat.part", "~$x.csv", "Thumbs.db"),
    Kind.FOREIGN: ("f.txt",),
}
MARKED_NAMES: dict[Kind, tuple[str, ...]] = {
    Kind.ENTRY: ("e.dat",),
    Kind.MARKER: ("gone.dat.done",),
    Kind.COMPANION: ("e.dat.aria2", ".~lock.e.dat#"),
}
FLAGS = {
    LEGACY: ("--legacy",),
    RAW: ("--format", "raw", "--match", "*.csv", "--match", "e*"),
    MARKED: (
        *("--format", "raw", "--marker", "{name}.done"),
        *("--companions", "{name}.aria2", "--companions", ".~lock.{name}#"),
    ),
}
LAYOUTS = {LEGACY: NAMES, RAW: RAW_NAMES, MARKED: MARKED_NAMES}
CALLED = {LEGACY: "legacy", RAW: "raw", MARKED: "marked"}
EVERY_NAME = [
    pytest.param(layout, kind, name, id=f"{CALLED[layout]}-{name}")
    for layout, names in LAYOUTS.items()
    for kind, some in names.items()
    for name in some
]
every_name = pytest.mark.parametrize(("layout", "kind", "name"), EVERY_NAME)
in_every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=CALLED.values())


def names_in(layout):
    """Return the kind and the name of each file that `run` puts there."""
    return [(kind, name) for kind, names in LAYOUTS[layout].items() for name in names]


@pytest.fixture
def run(watcher_command, environment, queue):
    """Put a file of every kind into the queue; run one command on it with --json."""

    def running(layout, command, *arguments, json_lines=True):
        for _, name in names_in(layout):
            (queue / name).write_bytes(b"x")
        argv = [*watcher_command, command, *arguments, *FLAGS[layout]]
        ended = run_command(
            [*argv, "--json"] if json_lines else argv,
            env=environment,
            capture_output=True,
            timeout=30,
        )
        assert b"Traceback" not in ended.stderr, ended.stderr
        assert b"bug:" not in ended.stderr, ended.stderr
        if json_lines:
            return [json.loads(line) for line in ended.stdout.splitlines()]
        return ended

    return running


def test_every_kind_has_its_row_and_a_name_for_these_tests():
    assert set(KIND_INFO) == set(Kind)
    assert set(NAMES) == set(Kind)
    assert all(any(names.get(kind) for names in LAYOUTS.values()) for kind in Kind)
    assert HALVES < ENTRY_KINDS


@every_name
def test_the_name_is_of_its_kind(layout, kind, name):
    assert layout.kind(os.fsencode(name)) is kind


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_a_row_has_the_words_that_its_kind_needs(kind):
    info = KIND_INFO[kind]
    assert info.label
    assert bool(info.left_alone) != info.entry
    assert bool(info.waiting) == (info.listed and not info.entry)
    assert bool(info.remedy) == (not info.entry and not info.by_ending)
    if info.entry:
        assert info.listed
        assert info.readable
    if info.by_ending:
        assert all(info.advice_for(os.fsencode(name)) for name in NAMES[kind])


@in_every_layout
def test_list_shows_the_kinds_that_the_table_says(run, queue, layout):
    shown = {file: line for line in run(layout, "list", str(queue)) for file in line["files"]}
    assert set(shown) == {name for kind, name in names_in(layout) if KIND_INFO[kind].listed}
    for kind, name in names_in(layout):
        if KIND_INFO[kind].waiting:
            assert (shown[name]["state"], shown[name]["why"]) == (
                "arriving",
                KIND_INFO[kind].waiting,
            )


@every_name
def test_explain_says_what_the_table_says(run, queue, layout, kind, name):
    (found,) = run(layout, "explain", str(queue / name))
    info = KIND_INFO[kind]
    assert found["name"].startswith(info.label)
    assert found.get("advice", "") == info.advice_for(os.fsencode(name))
    assert ("ignored by" in found) == (kind is Kind.IGNORED)
    if info.entry:
        assert not found["verdict"].startswith("left alone")
    else:
        assert found["verdict"].startswith(f"left alone: {info.left_alone}")


@in_every_layout
def test_check_reports_each_kind_that_is_no_entry(run, queue, layout):
    lines = run(layout, "check", str(queue))
    for kind, names in LAYOUTS[layout].items():
        info = KIND_INFO[kind]
        said = [line["what"] for line in lines if line["about"] == kind.value]
        if info.entry or not names:
            assert not said
            continue
        for name in names:
            assert any(name in each for each in said), (kind, said)
        if info.by_ending:
            assert len(said) == len(info.advice)
        elif not info.normal_when_young:
            assert all(info.remedy in each for each in said)


def test_check_shows_the_patterns_of_a_raw_queue(run, queue):
    said = {line["about"]: line["what"] for line in run(RAW, "check", str(queue))}
    assert said["match"] == "*.csv e*"
    assert said["ignore"] == " ".join(DEFAULT_IGNORE)
    assert "match" not in {line["about"] for line in run(LEGACY, "check", str(queue))}


@in_every_layout
def test_a_dry_sweep_takes_the_entries_and_counts_the_rest(run, queue, layout):
    *taken, summary = run(layout, "sweep", str(queue), "--dry-run")
    assert {line["file"] for line in taken} == {
        name for kind, name in names_in(layout) if KIND_INFO[kind].entry
    }
    assert summary["left_alone"] == {
        kind.value: len(names)
        for kind, names in LAYOUTS[layout].items()
        if names and not KIND_INFO[kind].entry
    }


@every_name
def test_cat_finds_by_its_own_name_what_is_readable(run, queue, layout, kind, name):
    ended = run(layout, "cat", str(queue), name, "--raw", json_lines=False)
    if KIND_INFO[kind].readable:
        assert (ended.returncode, ended.stdout) == (os.EX_OK, b"x")
    else:
        assert ended.returncode == os.EX_NOINPUT


@in_every_layout
def test_the_count_of_a_status_line_counts_the_entries(run, queue, layout):
    run(layout, "list", str(queue))
    counted = tally(Spool(os.fsencode(queue), layout))
    entries = sum(kind in ENTRY_KINDS for kind, _ in names_in(layout))
    # One that waits for its marker is complete to no worker.
    assert (counted.waiting if layout.marker else counted.ready) == entries


@pytest.mark.parametrize("layout", [LEGACY, Layout(), Layout(b"", raw=True)], ids=str)
def test_the_fast_test_of_the_count_knows_every_kind(queue, layout):
    """Without patterns, `counts` has a test of names of its own, faster than `Layout.kind`."""
    names = [name for of in LAYOUTS for _, name in names_in(of)]
    for name in names:
        (queue / name).touch()
    kinds = [layout.kind(os.fsencode(name)) for name in {*names}]
    counted = tally(Spool(os.fsencode(queue), layout))
    assert counted.ready == sum(kind in ENTRY_KINDS for kind in kinds)


@every_name
def test_a_suffix_that_is_allowed_makes_entries(layout, kind, name):
    """Else a queue with this suffix would handle nothing."""
    suffix = os.path.splitext(name)[1]
    if wrong_suffix(suffix) is None:
        made = Layout(os.fsencode(suffix), raw=True).kind(os.fsencode(f"x{suffix}"))
        assert made is Kind.ENTRY, (layout, kind)
