"""`status --metrics` and `sweep --metrics-file`, read by the real parser."""

from __future__ import annotations

import os
import pickle
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

import watcher
from tests.command_server import run_command

WHOLE = pickle.dumps(b"message", 2) + pickle.dumps({}, 2)


@pytest.fixture
def run(watcher_command, environment):
    """Run a command; return its exit status, its output, its error."""

    def run(*arguments):
        argv = [*watcher_command, *map(str, arguments)]
        ended = run_command(argv, env=environment, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in ended.stderr
        return ended.returncode, ended.stdout, ended.stderr

    return run


def samples(text):
    """Return each value by its name and the labels' values, in the order of the labels' names."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def put(queue, *names, data=WHOLE):
    for name in names:
        (queue / "scratch.tmp").write_bytes(data)
        (queue / "scratch.tmp").rename(queue / name)


def test_what_a_daemon_did_is_counted_to_the_last_attempt(queue, start_daemon, run, eventually):
    handler = ["sh", "-c", 'case "$(cat)" in bad*) exit 65;; esac']
    start_daemon(queue, "--sweep-every", "1h", handler=handler)
    for number in range(12):
        watcher.enqueue(queue, b"bad" if number % 4 == 0 else b"good")

    def found():
        code, out, err = run("status", queue, "--metrics")
        assert (code, err) == (0, "")
        known = samples(out)
        ended = [known["watcher_attempts_total", "queue", each] for each in ("handled", "rejected")]
        return known if sum(ended) == 12 else None

    known = eventually(found)
    assert known["watcher_attempts_total", "queue", "handled"] == 9
    assert known["watcher_attempts_total", "queue", "failed"] == 0
    for stage in ("wait", "handler", "settle"):
        assert known[f"watcher_{stage}_seconds_count", "queue"] == 12
        assert known[f"watcher_{stage}_seconds_bucket", "+Inf", "queue"] == 12
    assert known["watcher_entries", "queue", "dead"] == 3
    assert known["watcher_up", "queue"] == known["watcher_watched", "queue"] == 1


def test_a_queue_that_cannot_be_looked_at_says_so(tmp_path, queue, run):
    config = tmp_path / "w.toml"
    config.write_text(
        f'[queues.a]\npath = "{queue}"\nhandler = {{ exec = ["true"] }}\n'
        f'[queues.b]\npath = "{tmp_path}/gone"\nhandler = {{ exec = ["true"] }}\n'
    )
    code, out, err = run("status", "--config", config, "--metrics")
    assert code == os.EX_NOINPUT
    assert err.count("\n") == 1
    known = samples(out)
    assert known["watcher_queue_readable", "a"] == 1
    assert known["watcher_queue_readable", "b"] == 0
    assert ("watcher_up", "b") not in known
    code, out, err = run("status", tmp_path / "gone", "--metrics")
    assert (code, out) == (os.EX_NOINPUT, "")


@pytest.mark.parametrize("other", ["--json", "--check", "--watch"])
def test_metrics_are_one_form_of_the_output(queue, run, other):
    code, out, err = run("status", queue, "--metrics", other)
    assert (code, out) == (os.EX_USAGE, "")
    assert "--metrics" in err


@pytest.mark.parametrize("command", ["status", "sweep"])
def test_without_the_package_one_line_says_what_to_install(
    tmp_path, queue, watcher_command, environment, command
):
    (tmp_path / "prometheus_client.py").write_text("raise ImportError")
    put(queue, "a.pck")
    options = ["--metrics"] if command == "status" else ["--metrics-file", tmp_path / "q.prom"]
    argv = [*watcher_command, command, queue, *options]
    ended = subprocess.run(
        [*map(str, argv), *(["--", "true"] if command == "sweep" else [])],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (os.EX_UNAVAILABLE, "")
    assert ended.stderr == (
        "watcher: metrics need the package prometheus-client:"
        " pip install 'spool-watcher[metrics]'\n"
    )
    assert (queue / "a.pck").exists(), "said before the work"


# -- the file of a sweep --------------------------------------------------------------------------


@pytest.fixture
def sweep(queue, tmp_path, run):
    """Sweep a queue; return the exit status, the metrics and the error."""
    file = tmp_path / "watcher.prom"

    def sweep(*options, handler="true"):
        argv = ("sweep", queue, "--grace-age", "0s", "--metrics-file", file, *options)
        code, _, err = run(*argv, "--", "sh", "-c", handler)
        return code, samples(file.read_text()) if file.exists() else {}, err

    return sweep


def test_a_sweep_leaves_what_became_of_it(queue, sweep, tmp_path):
    put(queue, "a.pck", "b.pck", "c.pck")
    put(queue, "d.pck", data=b"no pickle")
    before = os.stat(queue).st_mtime
    code, known, _ = sweep(handler='test "$WATCHER_ENTRY" != b || exit 75')
    assert code == known["watcher_sweep_exit_code", "queue"] == os.EX_TEMPFAIL
    results = {key[2]: value for key, value in known.items() if key[0] == "watcher_sweep_entries"}
    assert results == {"handled": 2, "failed": 1, "rejected": 1, "orphaned": 0, "left": 0}
    assert known["watcher_sweep_last_run_timestamp_seconds", "queue"] >= before
    assert known["watcher_sweep_duration_seconds", "queue"] > 0
    assert known["watcher_sweep_complete", "queue"] == 1
    assert known["watcher_entries", "queue", "ready"] == 0
    assert known["watcher_entries", "queue", "deferred"] == 1
    assert known["watcher_oldest_entry_age_seconds", "queue", "deferred"] >= 0
    assert ("watcher_up", "queue") not in known, "nothing about daemons"
    assert (tmp_path / "watcher.prom").stat().st_mode & 0o777 == 0o644, "for the collector"
    assert [path.name for path in tmp_path.glob("*.tmp")] == []


def test_a_sweep_that_a_limit_ends_is_not_complete(queue, sweep):
    put(queue, "a.pck", "b.pck")
    code, known, _ = sweep("--max-entries", 1)
    assert code == 0
    assert known["watcher_sweep_complete", "queue"] == 0
    assert known["watcher_entries", "queue", "ready"] == 1


def test_a_paused_queue_is_not_swept_and_the_file_says_so(queue, sweep, run):
    put(queue, "a.pck")
    run("pause", queue)
    code, known, _ = sweep()
    assert code == known["watcher_sweep_exit_code", "queue"] == os.EX_TEMPFAIL
    assert known["watcher_sweep_complete", "queue"] == 0
    assert known["watcher_paused", "queue"] == 1
    assert ("watcher_sweep_entries", "queue", "handled") not in known


def test_every_queue_of_a_configuration_is_in_the_file(tmp_path, queue, run):
    config, file = tmp_path / "w.toml", tmp_path / "watcher.prom"
    config.write_text(
        f'[queues.a]\npath = "{tmp_path}/gone"\nhandler = {{ exec = ["true"] }}\n'
        f'[queues.b]\npath = "{queue}"\nhandler = {{ exec = ["true"] }}\n'
    )
    code, _, _ = run("sweep", "--config", config, "--metrics-file", file)
    known = samples(file.read_text())
    assert code == known["watcher_sweep_exit_code", "a"] == os.EX_NOINPUT
    assert known["watcher_sweep_exit_code", "b"] == 0
    assert known["watcher_sweep_complete", "a"] == 0


def test_a_link_of_the_files_name_is_replaced_and_not_followed(queue, tmp_path, sweep):
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / "watcher.prom").symlink_to(other)
    code, known, _ = sweep()
    assert (code, other.read_text()) == (0, "kept")
    assert known["watcher_sweep_complete", "queue"] == 1


@pytest.mark.parametrize(
    ("file", "options", "code"),
    [
        ("gone/q.prom", (), os.EX_NOINPUT),
        ("q.txt", (), os.EX_USAGE),
        ("q.prom", ("--dry-run",), os.EX_USAGE),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_the_work(
    tmp_path, queue, run, file, options, code
):
    put(queue, "a.pck")
    argv = ("sweep", queue, "--grace-age", "0s", "--metrics-file", tmp_path / file, *options)
    found, out, err = run(*argv, "--", "true")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert "--metrics-file" in err
    assert (queue / "a.pck").exists()


def test_a_file_that_cannot_be_written_is_said_after_the_work(tmp_path, queue, run):
    file = tmp_path / "q.prom"
    file.mkdir()
    put(queue, "a.pck")
    code, _, err = run("sweep", queue, "--grace-age", "0s", "--metrics-file", file, "--", "true")
    assert code == os.EX_CANTCREAT
    assert str(file) in err
    assert not (queue / "a.pck").exists()
    assert list(tmp_path.glob("*.tmp")) == []
