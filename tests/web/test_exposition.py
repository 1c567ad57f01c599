"""The metrics, read by the real parsers: right numbers, no name that breaks them, few labels."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import watcher
from watcher.inspect.failure_reasons import Failures
from watcher.inspect.queue_status import EntryInHand, QueueStatus
from watcher.inspect.state_counts import SHOWN, StateCount
from watcher.inspect.summary import Row
from watcher.rules.lifecycle import State
from watcher.spool.daemon_status import DaemonStatus, Failure, Histogram, InHand, Sweep, Window
from watcher.web.exposition import exposition
from watcher.web.metrics import BUILD, METRICS
from watcher.web.series import Type
from watcher.web.sweep_metrics import SWEEP_METRICS

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"
EVERY = (BUILD, *METRICS, *SWEEP_METRICS)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
NOW = 1_795_741_526.5
DAEMON = DaemonStatus(
    process=4711,
    user="list",
    host="mail1",
    queue="in",
    started=NOW - 60,
    written=NOW - 1,
    next_by=NOW + 150,
    troubles={"breaker": "the last 20 attempts failed alike: no route", "disk": "full"},
    watch="inotify",
    concurrency=2,
    in_hand=[InHand("secret.pck", 2, NOW - 4, 812, "c0ffee")],
    totals=Window(3, 2, 1),
    histograms={"handler": Histogram([0.01, 3.0], [3, 2, 1], 65.5)},
    failures=[Failure("no route to secret", 2, NOW - 50, NOW - 1)],
    last_success=NOW - 55,
    in_a_row=2,
    taken=4,
    overflows=5,
    missed=6,
    last_sweep=Sweep(NOW - 9, 0.02, 1),
)


def status(name="in", *daemons, **fields):
    """Return a queue with two ready entries and one deferred one that is due."""
    states = {state: StateCount() for state in SHOWN}
    states[State.READY] = StateCount(2, 30.5)
    states[State.CLAIMED] = StateCount(1)
    states[State.DEFERRED] = StateCount(1, 90.0, due=1)
    known = QueueStatus(
        name=name,
        path="/q",
        at=NOW,
        daemons=daemons,
        silent=(),
        last=None,
        paused="",
        states=states,
        in_hand=[EntryInHand("secret.pck", 4711, 2, NOW - 4)],
        failures=Failures([(State.DEFERRED, Row("no route to secret", (1, 0, 0)))], 1, whole=True),
        rates=None,
        done_in=None,
        free_bytes=1 << 30,
        free_share=0.25,
        findings=(),
    )
    return known._replace(**fields)


def parsed(text, content_type):
    """Return each sample's value by its name and labels, read by the parser of its format."""
    if content_type.startswith("application/openmetrics-text"):
        families = openmetrics.text_string_to_metric_families(text.decode())
    else:
        families = text_string_to_metric_families(text.decode())
    found = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "no series twice"
            found[key] = sample.value
    return found


def values(found, name, **labels):
    return found[name, frozenset(labels.items())]


@pytest.fixture(params=["", OPENMETRICS], ids=["text", "OpenMetrics"])
def read(request):
    """Expose queues in one of the formats, and read them again."""
    return lambda *args: parsed(*exposition(*args, accept=request.param))


def test_every_number_is_read_as_it_was(read):
    found = read([status("in", DAEMON)])
    for name, value in {
        "queue_readable": 1,
        "sampled_timestamp_seconds": NOW,
        "up": 1,
        "daemons": 1,
        "daemon_start_time_seconds": NOW - 60,
        "daemon_sign_of_life_timestamp_seconds": NOW - 1,
        "watched": 1,
        "breaker_open": 1,
        "paused": 0,
        "due_entries": 1,
        "workers": 2,
        "last_success_timestamp_seconds": NOW - 55,
        "failures_since_success": 2,
        "entries_missed_total": 6,
        "event_overflows_total": 5,
        "entries_taken_total": 4,
        "last_sweep_timestamp_seconds": NOW - 9,
        "last_sweep_duration_seconds": 0.02,
        "disk_free_bytes": 1 << 30,
        "disk_free_ratio": 0.25,
        "handler_seconds_count": 6,
        "handler_seconds_sum": 65.5,
    }.items():
        assert values(found, f"watcher_{name}", queue="in") == value, name
    for labels, value in (
        ({"result": "handled"}, 3),
        ({"result": "failed"}, 2),
        ({"result": "rejected"}, 1),
    ):
        assert values(found, "watcher_attempts_total", queue="in", **labels) == value
    for state, count, age in (
        ("ready", 2, 30.5),
        ("claimed", 1, 4.0),
        ("deferred", 1, 90.0),
        ("dead", 0, 0.0),
    ):
        assert values(found, "watcher_entries", queue="in", state=state) == count
        assert values(found, "watcher_oldest_entry_age_seconds", queue="in", state=state) == age
    for end, count in (("0.01", 3), ("3.0", 5), ("+Inf", 6)):
        assert values(found, "watcher_handler_seconds_bucket", queue="in", le=end) == count
    assert values(found, "watcher_trouble", queue="in", what="disk") == 1
    assert values(found, "watcher_build_info", version=watcher.__version__) == 1


def test_without_a_daemon_nothing_is_counted(read):
    found = read([status("in")])
    assert values(found, "watcher_up", queue="in") == 0
    assert not [name for name, _ in found if name.endswith(("_total", "_bucket"))]
    assert not [name for name, _ in found if name.startswith("watcher_last_success")]


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"next_by": NOW - 1}, "up", 0),
        ({"watch": ""}, "watched", 0),
        ({"troubles": {"watch": "no space for watches"}}, "watched", 0),
        ({"troubles": {"blind watch": "no canary was seen"}}, "watched", 0),
        ({"troubles": {}}, "breaker_open", 0),
        ({"command": "sweep"}, "up", 0),
        ({"command": "sweep"}, "daemons", 0),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_daemon_is_a_number(change, name, value):
    said = msgspec.structs.replace(DAEMON, **change)
    found = parsed(*exposition([status("in", said)]))
    assert values(found, f"watcher_{name}", queue="in") == value


def test_the_numbers_of_two_daemons_are_added_up(read):
    newer = msgspec.structs.replace(
        DAEMON,
        process=4712,
        started=NOW - 5,
        troubles={},
        histograms={"handler": Histogram([0.01, 3.0], [1, 0, 0], 0.5)},
    )
    found = read([status("in", DAEMON, newer)])
    assert values(found, "watcher_daemons", queue="in") == 2
    assert values(found, "watcher_attempts_total", queue="in", result="failed") == 4
    assert values(found, "watcher_handler_seconds_bucket", queue="in", le="0.01") == 4
    assert values(found, "watcher_handler_seconds_sum", queue="in") == 66.0
    assert values(found, "watcher_breaker_open", queue="in") == 1
    assert values(found, "watcher_daemon_start_time_seconds", queue="in") == NOW - 5
    other = msgspec.structs.replace(newer, histograms={"handler": Histogram([7.0], [1, 0], 0.5)})
    found = read([status("in", DAEMON, other)])
    assert values(found, "watcher_handler_seconds_count", queue="in") == 6, "of the first daemon"


HOSTILE = [
    "plain",
    'a"b\\c',
    'x"} 1\nwatcher_up{queue="fake',
    "\x1b[2J\r\n\t\0",
    "\udcff",
    "\N{SNOWMAN} \N{LINE SEPARATOR}",
    "",
    " ",
    "long" * 2000,
    "long" * 2000 + "er",
    "plain",
    "plain~2",
]


def test_no_name_of_a_queue_breaks_the_text(read):
    found = read([status(name, DAEMON) for name in HOSTILE], ["plain", "\udcfe"])
    assert sum(name == "watcher_up" for name, _ in found) == len(HOSTILE)
    assert sum(name == "watcher_queue_readable" for name, _ in found) == len(HOSTILE) + 2
    assert values(found, "watcher_up", queue='a"b\\c') == 1
    assert values(found, "watcher_queue_readable", queue="\\udcfe") == 0
    for _, labels in found:
        assert all(value.isprintable() and len(value) < 300 for _, value in labels)


def test_labels_are_a_queue_and_words_from_short_lists():
    odd = {f"subject {number}": "secret" for number in range(500)}
    said = msgspec.structs.replace(DAEMON, troubles=odd)
    text, content_type = exposition([status("in", said)])
    assert b"secret" not in text, "no entry, and nothing that a handler printed"
    found = parsed(text, content_type)
    assert len(found) < 150
    allowed = {"queue", "state", "result", "what", "version", "le"}
    assert {label for _, labels in found for label, _ in labels} == allowed
    assert not [name for name, _ in found if not name.startswith("watcher_")]


def test_twenty_queues_have_twenty_times_as_much(read):
    one, many = (read([status(f"q{n}", DAEMON) for n in range(count)]) for count in (1, 20))
    assert len(many) <= 20 * len(one)


def test_the_names_are_those_that_promtool_expects():
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: prometheus)")
    text, _ = exposition([status("in", DAEMON), status('"\\\n', DAEMON)], ["other"])
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_each_metric_is_in_the_table_once_and_in_a_sentence():
    names = [metric.name for metric in EVERY]
    assert len(set(names)) == len(names)
    for metric in EVERY:
        assert re.fullmatch(r"watcher(_[a-z]+)+", metric.name)
        assert metric.help.endswith(".")
        assert not metric.name.endswith(("_total", "_info", "_count", "_sum", "_bucket"))
        assert metric.type is not Type.HISTOGRAM or metric.name.endswith("_seconds")


def test_the_documents_tables_of_metrics_are_those_of_the_code():
    """Run by `make docs` with WRITE_DOCUMENTS=1 to write it anew."""
    text = PAGE.read_text()
    begin = text.index("-->\n", text.index("<!-- metrics: ")) + len("-->\n")
    end = text.index("<!-- end -->", begin)
    rows = [
        (
            f"`{metric.exposed}`",
            metric.type.value,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.help,
        )
        for metric in EVERY
    ]
    made = f"\n| metric | type | labels | what it says |\n|{' --- |' * 4}\n"
    made += "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n"
    if os.environ.get("WRITE_DOCUMENTS"):
        PAGE.write_text(text[:begin] + made + text[end:])
        return
    assert text[begin:end] == made, "run `make docs`"
