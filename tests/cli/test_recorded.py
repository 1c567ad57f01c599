"""A queue knows what it is: no command needs the flags of its daemon again."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.command_server import run_command
from watcher.config.load import queue as settings_of
from watcher.config.recorded import Role, Said, chosen, record_of
from watcher.errors import BadConfiguration, Usage
from watcher.rules.queue_record import QueueRecord

CSV = QueueRecord("raw", ("*.csv", "*.CSV"), ("*.part",))
MAILMAN = QueueRecord(legacy=True)
RAW_FLAGS = {"format": "raw", "match": ["*.csv", "*.CSV"], "ignore": ["*.part"]}


def said(flags=(), environment=(), base=None):
    return Said("/q", dict(flags), dict(environment), None, base)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("record", [CSV, MAILMAN])
def test_without_a_word_about_names_the_record_counts(role, record):
    settings, words = chosen(said({"grace_age": "7s"}), record, role)
    assert record_of(settings) == record
    assert (settings.grace_age, words) == (7.0, "")


@pytest.mark.parametrize("role", Role)
def test_what_agrees_with_the_record_is_no_contradiction(role):
    settings, words = chosen(said(RAW_FLAGS), CSV, role)
    assert (record_of(settings), words) == (CSV, "")
    configured = settings_of("/q", RAW_FLAGS, {})
    settings, words = chosen(said(base=configured), CSV, role)
    assert (record_of(settings), words) == (CSV, "")


@pytest.mark.parametrize("role", [Role.INSPECT, Role.COMMIT])
def test_one_flag_that_agrees_is_enough(role):
    settings, words = chosen(said({"format": "raw"}), CSV, role)
    assert (record_of(settings), words) == (CSV, "")


CONTRADICTIONS = [
    ({"suffix": ".txt"}, CSV, "match *.csv *.CSV, not *.txt as --suffix would have it"),
    ({"format": "mailman"}, CSV, "format raw, not mailman as --format would have it"),
    ({"legacy": True}, CSV, "as --legacy would have it"),
    ({"match": ["*.a"]}, MAILMAN, "as --match would have it"),
    ({"hard_links": True}, MAILMAN, "hard_links false, not true as --hard-links"),
]


@pytest.mark.parametrize("role", [Role.INSPECT, Role.COMMIT])
@pytest.mark.parametrize(("flags", "record", "expected"), CONTRADICTIONS)
def test_a_flag_that_contradicts_the_queue_is_refused(role, flags, record, expected):
    with pytest.raises(Usage) as refused:
        chosen(said(flags), record, role)
    assert expected in str(refused.value)
    assert "leave --" in str(refused.value)


def test_a_wrong_flag_is_still_named_as_wrong():
    with pytest.raises(Usage, match="--suffix: expected an ending"):
        chosen(said({"suffix": "a/b"}), CSV, Role.INSPECT)


ELSEWHERE = [
    (said(environment={"WATCHER_FORMAT": "mailman"}), "WATCHER_FORMAT"),
    (said(base=settings_of("/q", {"format": "raw", "suffix": ".txt"}, {})), "the configuration"),
    (said(base=settings_of("/q", {"legacy": True}, {})), "the configuration"),
]


@pytest.mark.parametrize(("words", "by"), ELSEWHERE)
def test_a_variable_or_a_configuration_gives_way_with_a_line_and_enqueue_refuses(words, by):
    settings, line = chosen(words, CSV, Role.INSPECT)
    assert record_of(settings) == CSV
    assert f"as {by} would have it; what the queue records counts" in line
    with pytest.raises(BadConfiguration, match=f"as {by} would have it: nothing was put here"):
        chosen(words, CSV, Role.COMMIT)


def test_a_daemon_does_what_it_is_told_and_a_try_says_the_difference():
    for words, record in ((said({"format": "raw"}), CSV), (said({"format": "raw"}), MAILMAN)):
        settings, line = chosen(words, record, Role.SERVE)
        assert (settings.suffix, settings.match, line) == ("", ("*",), "")
        settings, line = chosen(words, record, Role.TRY)
        assert (settings.suffix, settings.match) == ("", ("*",))
        assert line.endswith("as --format would have it; what is said here counts")


# -- the commands ---------------------------------------------------------------------------------


@pytest.fixture
def watcher(watcher_command, environment):
    """Run one command; return its status, output and errors."""

    def run(*arguments, **variables):
        argv = [*watcher_command, *map(str, arguments)]
        ended = run_command(argv, env=environment | variables, capture_output=True, timeout=30)
        assert b"Traceback" not in ended.stderr, ended.stderr
        return ended.returncode, ended.stdout.decode(), ended.stderr.decode()

    return run


@pytest.fixture
def served(queue, start_daemon):
    """A raw queue that a daemon served with flags; one entry was rejected."""
    daemon = start_daemon(
        queue, "--format", "raw", "--match", "*.csv", "--match", "*.CSV", handler=["false"]
    )
    (queue / "later.CSV").write_bytes(b"later")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(30) == os.EX_OK
    return queue


def test_no_command_needs_the_flags_of_the_daemon_again(served, watcher):
    record = json.loads((served / ".watcher" / "queue.json").read_bytes())
    assert (record["version"], record["format"]) == (1, "raw")
    assert record["match"] == ["*.csv", "*.CSV"]
    assert watcher("list", served)[1].split()[-1].startswith("later")
    assert watcher("cat", served, "later.CSV")[:2] == (0, "later")
    assert "an entry" in watcher("explain", served / "later.CSV")[1]
    assert "*.csv *.CSV" in watcher("check", served)[1]
    assert watcher("hold", served, "later.CSV")[0] == 0
    assert watcher("release", served, "ALL")[0] == 0
    assert watcher("audit", served)[0] == 0
    code, printed, _ = watcher("enqueue", served, served / "later.CSV")
    assert code == 0
    assert any(path.name.startswith(printed.strip()) and path.name.endswith(".csv")
               for path in served.iterdir())  # fmt: skip
    code, printed, errors = watcher("sweep", served, "--grace-age", "0s", "--", "true")
    assert (code, errors) == (0, "")
    assert "2 entries found" in printed


def test_a_contradiction_is_said_and_never_guessed_over(served, watcher):
    code, printed, errors = watcher("list", served, "--suffix", ".txt")
    assert (code, printed) == (os.EX_USAGE, "")
    assert "match *.csv *.CSV, not *.txt as --suffix would have it" in errors
    code, printed, errors = watcher("list", served, WATCHER_LEGACY="1")
    assert code == 0
    assert "later" in printed
    assert "as WATCHER_LEGACY would have it; what the queue records counts" in errors
    before = set(served.iterdir())
    code, printed, errors = watcher("enqueue", served, "--format", "mailman", served / "later.CSV")
    assert (code, printed, set(served.iterdir())) == (os.EX_USAGE, "", before)
    assert "format raw, not mailman" in errors
    code, printed, errors = watcher(
        "enqueue", served, served / "later.CSV", WATCHER_FORMAT="mailman"
    )
    assert (code, printed, set(served.iterdir())) == (os.EX_CONFIG, "", before)
    code, printed, errors = watcher(
        "sweep", served, "--dry-run", "--suffix", ".txt", "--format", "raw"
    )
    assert code == 0
    assert "what is said here counts" in errors
    assert json.loads((served / ".watcher" / "queue.json").read_bytes())["match"][0] == "*.csv"


def test_a_sweep_or_daemon_of_another_configuration_records_it_and_says_so(
    served, watcher, start_daemon
):
    _, _, errors = watcher("sweep", served, "--format", "raw", "--suffix", ".txt", "--", "true")
    assert "said match *.csv *.CSV, not *.txt: it is written anew" in errors
    assert "later" not in watcher("list", served)[1]
    daemon = start_daemon(served, "--format", "raw", handler=["false"])
    assert "said match *.txt, not *: it is written anew" in daemon.wait_for("settings")[0]["detail"]
    assert "later" in watcher("list", served)[1]


def test_a_reload_records_the_new_configuration(queue, tmp_path, watcher, start_daemon):
    file = tmp_path / "w.toml"
    text = f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = ["true"] }}\nformat = "raw"\n'
    file.write_text(text + 'match = ["*.a", "*.b"]\n')
    daemon = start_daemon(None, "--config", str(file))
    assert "*.a *.b" in watcher("check", queue)[1]
    file.write_text(text + 'match = ["*.c", "*.d"]\n')
    daemon.process.send_signal(signal.SIGHUP)
    assert "not *.c *.d" in daemon.wait_for("settings")[0]["detail"]
    assert "*.c *.d" in watcher("check", queue)[1]


DAMAGE = {
    "damaged": lambda file: file.write_bytes(file.read_bytes()[:50]),
    "a symbolic link": lambda file: (file.unlink(), file.symlink_to("/etc/passwd")),
    "not a regular": lambda file: (file.unlink(), os.mkfifo(file)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_record_that_is_not_believed_neither_ends_nor_misleads(served, watcher, kind):
    DAMAGE[kind](served / ".watcher" / "queue.json")
    code, _, errors = watcher("list", served)
    assert code == 0
    assert f"not believed: {kind}" in errors
    assert "remove it" in errors
    for refused in (("enqueue", served, served / "later.CSV"), ("sweep", served, "--", "true")):
        code, printed, errors = watcher(*refused)
        assert (code, printed) == (os.EX_CONFIG, "")
        assert f"not believed: {kind}" in errors
    assert watcher("sweep", served, "--format", "raw", "--", "true")[0] == 0
    assert watcher("list", served)[2] == ""


def test_a_newer_programs_queue_is_refused_by_every_command(served, watcher, start_daemon):
    file = served / ".watcher" / "queue.json"
    file.write_bytes(file.read_bytes().replace(b'"version": 1', b'"version": 2'))
    for command in (
        ("list", served),
        ("explain", served / "later.CSV"),
        ("check", served),
        ("requeue", served, "ALL"),
        ("enqueue", served, served / "later.CSV"),
        ("sweep", served, "--format", "raw", "--", "true"),
        ("run", served, "--format", "raw", "--", "true"),
    ):
        code, _, errors = watcher(*command)
        assert code == os.EX_CONFIG, command
        assert "a newer watcher made this queue" in errors
    assert b'"version": 2' in file.read_bytes()
    config = served.parent / "w.toml"
    config.write_text(f'[queues.q]\npath = "{served}"\nhandler = {{ exec = ["true"] }}\n')
    daemon = start_daemon(None, "--config", str(config), ready=False)
    assert "a newer watcher" in daemon.wait_for("unhealthy")[0]["detail"]


def test_of_many_queues_one_that_cannot_be_read_is_said_and_the_others_are_shown(
    served, watcher, tmp_path
):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.pck").write_bytes(b"x")
    file = tmp_path / "w.toml"
    file.write_text(
        "".join(
            f'[queues.{name}]\npath = "{path}"\nhandler = {{ exec = ["true"] }}\n'
            for name, path in (("one", served), ("two", tmp_path / "other"))
        )
    )
    code, printed, errors = watcher("list", "--config", file)
    assert code == 0
    assert "later" in printed
    assert "x" in printed
    assert "as the configuration would have it; what the queue records counts" in errors
    record = served / ".watcher" / "queue.json"
    record.write_bytes(record.read_bytes().replace(b'"version": 1', b'"version": 2'))
    code, printed, errors = watcher("list", "--config", file)
    assert code == os.EX_NOINPUT
    assert "later" not in printed
    assert "x" in printed
    assert "a newer watcher made this queue" in errors
