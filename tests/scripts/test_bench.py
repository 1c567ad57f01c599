"""The benchmark measures what it says: its limit, its figures and its page are right."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import xml.dom.minidom

import pytest

from bench import (
    consumers,
    figures,
    handler,
    handlers_page,
    page,
    plot,
    reference,
    rooms,
    strace,
    writer,
)
from bench.figures import Spread
from bench.measures import handlers
from bench.peers import contract
from bench.rows import Row, Target, verdict
from bench.stand import Stand

QUICK = ("exec", "xargs -n 100")
FIELDS = {"handled", "began", "first", "last", "first_commit", "p50", "p99", "most"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The reference, compiled."""
    made = reference.build(str(tmp_path_factory.mktemp("reference")))
    if made is None:
        pytest.skip("no C compiler")
    return made


@pytest.fixture
def place(tmp_path):
    with rooms.room(str(tmp_path)) as made:
        yield made


@pytest.mark.parametrize("mode", ["drain", "drain-any"])
def test_the_reference_drains_a_backlog(program, place, mode):
    place.fill(50)
    with open(f"{place.queue}/1.tmp", "w"):
        pass
    said = subprocess.run(
        [program, mode, place.queue, "100"], capture_output=True, check=True
    ).stdout
    found = json.loads(said)
    assert found["handled"] == 50
    assert found["first"] <= found["last"]
    assert os.listdir(place.queue) == ["1.tmp"]


def test_the_reference_hears_renames(program, place):
    made = rooms.Writer(place, 40)
    with consumers.running([program, "events", place.queue, "40"], place) as consumer:
        consumer.wait_ready()
        made.go()
        made.wait()
        found = consumer.result(10.0)
    assert found["handled"] == 40
    assert 0 < found["p50"] <= found["p99"] <= found["most"] < 10e9
    assert place.waiting() == 0


def test_the_reference_commits_whole_files(program, place):
    argv = [program, "commit", place.queue, "3", "1800"]
    found = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    names = os.listdir(place.queue)
    assert found["handled"] == len(names) == 3
    assert all(name.endswith(".pck") for name in names)
    assert {os.path.getsize(f"{place.queue}/{name}") for name in names} == {1800}


def test_the_daemon_is_measured_as_the_reference_is(place):
    made = rooms.Writer(place, 30)
    with consumers.running(consumers.daemon_argv(place), place, 30) as consumer:
        consumer.wait_armed()
        made.go()
        made.wait()
        found = consumer.result(10.0)
    assert found.keys() >= FIELDS
    assert found["handled"] == 30
    assert 0 < found["p50"] <= found["most"] < 10e9


def test_a_result_that_does_not_come_is_asked_for(place):
    with consumers.running(consumers.daemon_argv(place), place, 5) as consumer:
        consumer.wait_armed()
        made = rooms.Writer(place, 2)
        made.go()
        made.wait()
        assert consumer.result(1.0)["handled"] == 2


def test_a_name_says_when(tmp_path):
    name = writer.name_at(12_000_000_034, 7)
    assert handler.moment(name) == contract.moment_of(name) == 12_000_000_034
    assert float(name.partition("+")[0]) == pytest.approx(12.000000034)


def test_a_peer_reports_like_the_rest(capsys):
    class Peer:
        put = None

        def serve(self, notes):
            for commit in (5, 1, 9):
                notes.handle(commit)
            assert notes.full

    contract.consume(Peer(), 3)
    ready, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert ready == "ready"
    assert found.keys() >= FIELDS
    assert (found["handled"], found["first_commit"]) == (3, 1)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3, 1, 2], 50, 2), ([5], 99, 5), (range(1, 101), 99, 99), (range(1, 101), 50, 50)],
)
def test_percentile_is_the_nearest_rank(values, percent, expected):
    assert figures.percentile(list(values), percent) == expected
    assert handler.ranked(sorted(values), percent) == expected


def test_ratios_are_taken_within_a_round():
    assert figures.ratios([2.0, 9.0, 8.0], [1.0, 3.0, 2.0]) == Spread(3.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="shorter"):
        figures.ratios([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no rounds"):
        figures.spread([])


def test_order_is_told_by_how_late_an_entry_comes():
    assert handler.most_late([0, 1, 2, 3]) == 0
    assert handler.most_late([0, 3, 1, 2]) == 2


def test_a_rate_is_entries_over_the_time_between():
    assert figures.rate(100, 1_000_000_000, 3_000_000_000) == 50.0


SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 40.97    0.013782        3445        {fsync}           fsync
 18.11    0.006094           3      {stat}       116 newfstatat
------ ----------- ----------- --------- --------- ----------------
100.00    0.033641           6      9999       460 total
"""


def test_calls_an_entry_are_those_between_two_runs():
    few = strace.parsed(SUMMARY.format(fsync=4, stat=1000))
    many = strace.parsed(SUMMARY.format(fsync=4, stat=1300))
    assert few == {"fsync": 4, "newfstatat": 1000}
    assert strace.between(few, many, 100) == {"newfstatat": 3.0}


ONE = Spread(1.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(most=1.5), "met"),
        (Target(most=1.4), "NOT MET"),
        (Target(least=1.5), "met"),
        (Target(least=1.6), "NOT MET"),
        (Target(most=9.0, of="ours"), "NOT MET"),
        (Target(most=0.0, of="ours"), "NOT MET"),
        (Target(), "not measured"),
    ],
)
def test_a_target_is_held_against_the_median(target, expected):
    assert verdict(Row(1, "x", "us", Spread(10.0, 9.0, 11.0), ONE, "y", ONE, target)) == expected


def canned():
    rows = [
        Row(1, "latency, p50", "us", ONE, ONE, "reference", ONE, Target(most=2.0), plot="latency"),
        Row(
            11, "latency, p50", "us", ONE, ONE, "a | peer", ONE, Target(most=0.001), plot="latency"
        ),
        Row(3, "calls", "calls", ONE, table=[("call", "an entry"), ("flock", "1.00")]),
    ]
    about = {"processor": "P, 2 cores", "file system": "ext4"}
    found = {"command": "make bench", "date": "2026-01-02", "seconds": 9, "machine": about}
    return json.loads(json.dumps(found | {"rows": [row.as_json() for row in rows]}))


def test_the_page_has_every_row_and_its_command(tmp_path):
    page.write(canned(), str(tmp_path))
    text = (tmp_path / "benchmarks.md").read_text()
    assert "1 of 2 targets are met" in text
    assert "| latency, p50 | 1.5 us | reference 1.5 | 1.5 (1 to 2) | at most 2x | met |" in text
    assert "a \\| peer 1.5" in text
    assert "**not met**" in text
    assert "| flock | 1.00 |" in text
    assert "python scripts/bench --only 3" in text
    assert (
        "![From the rename to the start of the handler, the median](benchmarks/latency.svg)" in text
    )
    svg = (tmp_path / "benchmarks" / "latency.svg").read_text()
    assert all(label in svg for label in ("watcher", "reference", "a | peer"))


def test_a_table_has_as_many_cells_in_every_line():
    lines = page.rendered(canned()).splitlines()
    tables = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    for above, line in itertools.pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert above.replace("\\|", "").count("|") == line.replace("\\|", "").count("|")
    assert len(tables) > 8


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(side.name, marks=[] if side.name in QUICK else [pytest.mark.slow])
        for side in handlers.SIDES
    ],
)
def test_each_handler_empties_its_queue_and_is_timed(place, name):
    (side,) = (side for side in handlers.SIDES if side.name == name)
    if why := side.missing():
        pytest.skip(why)
    assert side.run(place, side._replace(entries=101), handlers.RAW, side.at_once[0]) > 0
    assert place.left() == 0


def test_one_bad_entry_of_a_batch_is_found_and_the_others_are_handled_once(tmp_path):
    if next(side for side in handlers.SIDES if side.option == "batch").missing():
        pytest.skip("no batch")
    (row,) = handlers.one_bad(Stand(str(tmp_path), None, quick=True))
    found = dict(row.table)
    assert found["the other entries that one successful call handled"] == str(handlers.BATCH - 1)
    assert found["the other entries that a second successful call handled"] == "0"
    assert row.ours.median < 20


def test_the_page_of_the_handlers_has_a_line_for_each(tmp_path):
    rows = [
        Row(
            12,
            f"disk: {side}: {number} at once",
            "entries/s",
            ONE,
            ONE,
            "loop",
            ONE,
            note="2 rounds",
        )
        for side, at_once in {"exec": (1, 8), "a | while read": (1,)}.items()
        for number in at_once
    ]
    rows.append(Row(12, "calls", "calls", ONE, table=[("one bad entry", ""), ("calls", "12")]))
    handlers_page.write(canned(), rows, str(tmp_path))
    text = (tmp_path / "benchmarks" / "handlers.md").read_text()
    assert "the median of 2 rounds" in text
    assert "| entries/s | 1 at once | 8 at once |" in text
    assert "| exec | 1.5 (1 to 2); 1.5x | 1.5 (1 to 2); 1.5x |" in text
    assert "| calls | 12 |" in text
    assert "| a \\| while read | 1.5 (1 to 2); 1.5x |  |" in text


def test_bars_are_in_proportion_and_well_formed():
    svg = plot.bars("a <title>", "us", [plot.Bar("a & b", 10.0, ours=True), plot.Bar("c", 5.0)])
    rectangles = xml.dom.minidom.parseString(svg).getElementsByTagName("rect")
    first, second = (float(each.getAttribute("width")) for each in rectangles[1:])
    assert first == pytest.approx(2 * second)
    far = [plot.Bar("a", 1.0), plot.Bar("b", 1000.0)]
    logarithmic = plot.bars("t", "us", far, logarithmic=True)
    rectangles = xml.dom.minidom.parseString(logarithmic).getElementsByTagName("rect")
    first, second = (float(each.getAttribute("width")) for each in rectangles[1:])
    assert second == pytest.approx(4 * first, rel=0.01)


def test_the_program_says_what_it_cannot_do():
    command = [sys.executable, os.path.join(consumers.SCRIPTS, "bench"), "--only", "77"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--only 77: expected some of 1, 2" in done.stderr
