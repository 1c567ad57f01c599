"""Every option from every place it can come from; whatever is wrong is said in one line."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from watcher.cli import sweep as sweep_command
from watcher.cli.run import command as run_command
from watcher.config import load as configuration, options
from watcher.config.daemon_settings import DAEMON_OPTIONS
from watcher.config.options import OPTIONS, RETRY
from watcher.config.work_settings import WORK_OPTIONS, work_from_file
from watcher.durations import EXPECTED
from watcher.errors import BadConfiguration, Usage
from watcher.handle.handler_kinds import KINDS
from watcher.handle.kinds.run_command import Exec
from watcher.handle.kinds.run_function import Python
from watcher.rules.kinds import Kind
from watcher.rules.patterns import DEFAULT_IGNORE
from watcher.rules.retry import Policy

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
TRUE = '{ exec = ["true"] }'


@pytest.fixture
def write(tmp_path):
    """Write a configuration file and return its name."""
    file = tmp_path / "w.toml"

    def written(text):
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(file)

    return written


@pytest.fixture
def one(write):
    """Load a file of one queue with some lines in it."""

    def load(lines="", environment=(), handler=TRUE):
        text = f'[queues.q]\npath = "/spool/q"\nhandler = {handler}\n{lines}\n'
        return configuration.load(write(text), dict(environment))["q"]

    return load


def refusal(call, *arguments):
    """Return the one line with which a configuration is refused."""
    with pytest.raises(BadConfiguration) as caught:
        call(*arguments)
    text = str(caught.value)
    assert text.isprintable()
    return text


# -- each option ------------------------------------------------------------------------------

# key: (a value in TOML, what it means; as text in a variable or flag, what it means)
VALUES = {
    "legacy": ("true", True, "yes", True),
    "format": ('"raw"', "raw", "raw", "raw"),
    "suffix": ('".csv"', ".csv", ".txt", ".txt"),
    "match": ('["*.csv", "*.txt"]', ("*.csv", "*.txt"), "*.a *.b", ("*.a", "*.b")),
    "ignore": ('["*.part"]', ("*.part",), "*.x ~$*", ("*.x", "~$*")),
    "ignore_case": ("true", True, "yes", True),
    "marker": ('"{name}.done"', "{name}.done", "{name}.ok", "{name}.ok"),
    "companions": (
        '["{name}.aria2"]',
        ("{name}.aria2",),
        "{name}.a {stem}.b",
        ("{name}.a", "{stem}.b"),
    ),
    "grace_age": ('"90s"', 90.0, "1h30m", 5400.0),
    "settle": ('"10s"', 10.0, "2s", 2.0),
    "sweep_every": ('"250ms"', 0.25, "2m", 120.0),
    "canary": ('"5s"', 5.0, "0s", 0.0),
    "concurrency": ("4", 4, "256", 256),
    "breaker": ("0", 0, "10000", 10_000),
    "exclusive": ("true", True, "yes", True),
    "warn_after": ('"90s"', 90.0, "0", 0.0),
    "source": ('"polling"', "polling", "inotify", "inotify"),
    "writers": ('"rename"', "rename", "rename", "rename"),
    "max_size": ('"2K"', 2048, "3M", 3 << 20),
    "state_dir": ('"/state/q"', "/state/q", "/other//q/", "/other/q"),
    "journal": ("false", False, "no", False),
    "journal_dir": ('"/log/q"', "/log/q", "/other//q/", "/other/q"),
    "journal_keep": ('"90d"', "90d", "2G 1d", "2G 1d"),
    "hard_links": ("true", True, "yes", True),
    "archive": ('"archive/"', "archive", "/srv/archive/", "/srv/archive"),
    "archive_dated": ("true", True, "yes", True),
    "archive_for": ('"30d"', 30 * 86400.0, "36h", 36 * 3600.0),
}
BESIDE = {"WATCHER_FORMAT": "raw"}
ARCHIVE = {"WATCHER_ARCHIVE": "archive"}
RAW = {  # what an option needs beside it
    **dict.fromkeys(("suffix", "match", "ignore", "ignore_case", "settle", "writers"), BESIDE),
    **dict.fromkeys(("marker", "companions"), BESIDE),
    **dict.fromkeys(("archive_dated", "archive_for"), ARCHIVE),
}
KEYS = sorted(OPTIONS)


def test_the_values_above_cover_every_option():
    assert set(VALUES) == set(OPTIONS)
    assert set(OPTIONS) < set(configuration.Queue.__struct_fields__)


@pytest.mark.parametrize("key", KEYS)
def test_the_default_that_is_told_is_the_default(key):
    told = options.read_option(key, options.from_text(key, OPTIONS[key].default), key)
    assert getattr(configuration.queue("/spool", {}, {}), key) == told
    assert getattr(configuration.Queue(name="q", path="/"), key) == told


@pytest.mark.parametrize("key", KEYS)
def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_default(one, key):
    written, in_file, text, in_environment = VALUES[key]
    beside = RAW.get(key, {})
    default = getattr(one(environment=beside), key)
    from_file = one(f"{key} = {written}", beside)
    assert getattr(from_file, key) == in_file != default
    variable = {f"WATCHER_{key.upper()}": text, **beside}
    from_environment = one(f"{key} = {written}", variable)
    assert getattr(from_environment, key) == in_environment
    assert getattr(configuration.queue("/spool", {}, variable), key) == in_environment
    flag = {key: options.from_text(key, text)}
    flagged = configuration.queue("/spool/q", flag, beside, None, from_file)
    assert getattr(flagged, key) == in_environment
    in_variable = "{name}*.c" if key in {"match", "ignore", "companions"} else written.strip('"')
    over_variable = {f"WATCHER_{key.upper()}": in_variable, **beside}
    assert getattr(configuration.queue("/spool", flag, over_variable), key) == in_environment


@pytest.mark.parametrize("key", KEYS)
def test_every_option_is_a_flag_of_run_and_the_shared_ones_of_sweep(key):
    flag = f"--{key.replace('_', '-')}"
    assert flag in {name for option in run_command.params for name in option.opts}
    of_sweep = {name for option in sweep_command.command.params for name in option.opts}
    of_the_daemon = ("sweep_every", "concurrency", "breaker", "source", "writers")
    of_the_daemon += ("exclusive", "warn_after", "canary")
    assert (flag in of_sweep) == (key not in of_the_daemon)


WRONG = {
    "legacy": ["1", '"true"', "[]", '""'],
    "format": ['"RAW"', "1", '""', "{}"],
    "suffix": ["1", '"a/b"', '".tmp"', '"x\\u0000"', f'"{"x" * 65}"', '"' + "é" * 33 + '"'],
    "match": ["[]", '"*.csv"', '[""]', '["a/b"]', '[".csv"]', "[1]", '["x[y"]', '["*.tmp"]'],
    "ignore": ['"*.part"', '["*.part", ""]', '["a/b"]', "[[]]", '["' + "x" * 256 + '"]'],
    "ignore_case": ["1", '"yes"', '""'],
    "marker": ["1", '"done"', '"a/{name}"', '"{name}"', '".{name}"', '"{x}"', '"{name}.tmp"'],
    "companions": ['"{name}.a"', '["a"]', '[""]', "[1]", '["{name}"]', '["a/{name}"]'],
    "grace_age": ["300", "5.0", '"5 m"', '"-1s"', '""', '"1e9s"', '"10001d"', "inf", "true"],
    "settle": ["10", '"-1s"', '""', "true", '"off"'],
    "sweep_every": ["60", '"0s"', '"9ms"', '"never"', '"99999999d"'],
    "concurrency": ["0", "257", "-1", "1.0", '"2"', "true", '""', "1" * 60],
    "canary": ["60", '"-1s"', '"9ms"', '"never"', "true"],
    "exclusive": ["1", '"true"', '""'],
    "warn_after": ["600", '"-1s"', '"9ms"', '"never"', "true"],
    "breaker": ["10001", "-1", "0.0", "1.0", '"2"', "false", '""', "1" * 60],
    "source": ['"Inotify"', "1", '""'],
    "writers": ['"link"', "true", '""'],
    "max_size": ["0", "-1", '"0M"', '"5T"', '""', '"M"', '"1.5G"', "1.5", "true", '"-1K"'],
    "state_dir": ["1", '"state"', '"/a\\u0000"', "[]"],
    "journal": ["1", '"no"', '""'],
    "journal_dir": ["1", '"log"', '"/a\\u0000"', "[]"],
    "journal_keep": ["1", '"90"', '""', '"1d 2d"', '"1G 2G"', '"1d 1G 1d"', '"0d"', '"0G"', '"5T"'],
    "hard_links": ["1", '"no"', '""'],
    "archive": ["1", "true", '"."', '"../x"', '"a/../.."', '".watcher/dead"', '"a\\u0000"', '"/"'],
    "archive_dated": ["1", '"no"', '""'],
    "archive_for": ["30", "true", '"0s"', '"-1d"', '"for ever"', '"10001d"'],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key in KEYS for value in WRONG[key]],
    ids=lambda text: ascii(text)[:30],
)
def test_a_wrong_value_in_the_file_is_named_with_what_was_expected(one, tmp_path, key, value):
    text = refusal(one, f"{key} = {value}")
    assert text.startswith(
        f"{tmp_path}/w.toml: queues.q.{key}: expected {OPTIONS[key].expected}; got "
    )


WRONG_TEXTS = {
    "legacy": ["2", "maybe", ""],
    "format": ["RAW", ""],
    "suffix": ["a/b", "x.tmp", "x" * 65],
    "match": ["", ".csv", "a/b", "*.tmp", "[", "x " * 65],
    "ignore": ["a/b", "[", "x " * 65],
    "ignore_case": ["2", "maybe", ""],
    "marker": ["done", "{stem}", "{name}{name}", "x" * 65],
    "companions": ["a", "{name} {name}.a", "{name}.a " * 17],
    "grace_age": ["", "soon", "-1s"],
    "settle": ["", "soon", "-1s"],
    "sweep_every": ["0", "0s", "x"],
    "concurrency": ["", "0", "257", "two", "1.0", "9" * 5000, "²"],
    "canary": ["", "-1", "x"],
    "exclusive": ["", "2", "perhaps"],
    "warn_after": ["", "-1", "x"],
    "breaker": ["", "-1", "10001", "two", "0.0", "9" * 5000, "²"],
    "source": ["", "x"],
    "writers": ["", "Rename"],
    "max_size": ["", "0", "5T", "²"],
    "state_dir": ["state", "./x"],
    "journal": ["", "maybe"],
    "journal_dir": ["log", "./x"],
    "journal_keep": ["", "90", "for ever", "0G", "10001d"],
    "hard_links": ["", "maybe"],
    "archive": [".", "..", ".watcher", "x" * 256],
    "archive_dated": ["", "maybe"],
    "archive_for": ["soon", "0s", "10001d"],
}


@pytest.mark.parametrize(
    ("key", "text"),
    [(key, text) for key in KEYS for text in WRONG_TEXTS[key]],
    ids=lambda text: ascii(text)[:30],
)
def test_a_wrong_variable_or_flag_is_named_with_what_was_expected(one, key, text):
    variable = f"WATCHER_{key.upper()}"
    expected = f": expected {OPTIONS[key].expected}; got "
    assert refusal(one, "", {variable: text}).startswith(variable + expected)
    assert refusal(configuration.queue, "/spool", {}, {variable: text}).startswith(
        variable + expected
    )
    flag = f"--{key.replace('_', '-')}"
    with pytest.raises(Usage) as refused:  # the command line's fault, not the configuration's
        configuration.queue("/spool", {key: options.from_text(key, text)}, {})
    assert str(refused.value).startswith(flag + expected)


def test_a_long_wrong_value_is_cut(one):
    assert len(refusal(one, f'source = "{"x" * 100_000}"')) < 500


# -- the rest of a queue ----------------------------------------------------------------------

BROKEN = {
    "not TOML": ("queues = [", "w.toml: not TOML: "),
    "not UTF-8": (b"a = '\xff'", "w.toml: not TOML: "),
    "number of 5000 digits": ("a = " + "1" * 5000, "w.toml: not TOML: "),
    "deep": ("a = " + "[" * 5000, "w.toml: not TOML: "),
    "empty": ("", "w.toml: queues: expected a table [queues.NAME] for each queue"),
    "no queues": ("[queues]", "w.toml: queues: expected a table"),
    "queues is a number": ("queues = 5", "w.toml: queues: expected a table"),
    "a queue is a number": ("[queues]\nq = 5", "w.toml: queues.q: expected a table"),
    "a queue is a list": ("[[queues.q]]\npath = '/'", "w.toml: queues.q: expected a table"),
    "unknown at the top": (
        f"[queues.q]\npath='/x'\nhandler={TRUE}\n[metrics]\n",
        "w.toml: metrics: unknown key; expected [queues.NAME], [work.NAME] or [daemon]",
    ),
    "name with a line end": ('[queues."a\\nb"]', "w.toml: queues.a\\nb: expected a name"),
    "empty name": ('[queues.""]', "w.toml: queues.: expected a name"),
    "NUL name": ('[queues."a\\u0000"]', "w.toml: queues.a\\x00: expected a name"),
    "key with a line end": ('[queues.q]\n"a\\nb" = 1', "w.toml: queues.q.a\\nb: unknown key"),
    "key that colours": ('"\\u001b[31m" = 1', "w.toml: \\x1b[31m: unknown key"),
    "no path": (f"[queues.q]\nhandler={TRUE}", "w.toml: queues.q.path: missing"),
    "no handler": ("[queues.q]\npath='/x'", "w.toml: queues.q.handler: missing"),
    "path is a number": ("[queues.q]\npath=1", "w.toml: queues.q.path: expected a directory"),
    "path is empty": ("[queues.q]\npath=''", "w.toml: queues.q.path: expected a directory"),
    "path with NUL": ('[queues.q]\npath="a\\u0000"', "w.toml: queues.q.path: expected a directory"),
    "name as a key": ("[queues.q]\nname='x'", "w.toml: queues.q.name: unknown key"),
    "origin as a key": ("[queues.q]\norigin='x'", "w.toml: queues.q.origin: unknown key"),
    "inner name as a key": ("[queues.q]\nretry_initial=1.0", "queues.q.retry_initial: unknown key"),
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_says_where_and_what(write, text, expected):
    assert expected in refusal(configuration.load, write(text), {})


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    missing = str(tmp_path / "no.toml")
    assert (
        refusal(configuration.load, missing, {})
        == f"{missing}: cannot be read: No such file or directory"
    )
    assert "Is a directory" in refusal(configuration.load, str(tmp_path), {})


EVERY_KIND = ", ".join(KINDS)
HANDLERS = {
    "a word": ('"true"', "handler: Expected `object`, got `str`"),
    "nothing": ("{}", f"handler: no kind of handler; expected one of: {EVERY_KIND}"),
    "no list": ('{ exec = "true" }', "handler: Expected `array`, got `str` - at `$.exec`"),
    "empty list": ("{ exec = [] }", "handler.exec: expected a command and its arguments"),
    "a number": ("{ exec = ['a', 1] }", "handler: Expected `str`, got `int` - at `$.exec[1]`"),
    "NUL": ('{ exec = ["a\\u0000"] }', "handler.exec: expected a command"),
    "unknown": ("{ exec = ['a'], shell = true }", "handler: Object contains unknown field `shell`"),
    "unknown with a line end": ('{ exec = ["a"], "x\\ny" = 1 }', "unknown field `x\\ny`"),
    "both": (
        "{ exec = ['a'], python = 'a:b' }",
        f"handler: expected one of: {EVERY_KIND}; got exec and python",
    ),
    "python timeout": (
        "{ python = 'a:b', timeout = '1s' }",
        "handler.timeout: expected isolate = true",
    ),
    "python memory": (
        "{ python = 'a:b', memory = '1G' }",
        "handler.memory: expected isolate = true",
    ),
    "python cpu": (
        "{ python = 'a:b', cpu = '1m', isolate = false }",
        "handler.cpu: expected isolate",
    ),
    "exec isolate": ("{ exec = ['a'], isolate = true }", "unknown field `isolate`"),
    "exec memory": ("{ exec = ['a'], memory = '1G' }", "unknown field `memory`"),
    "later kind": (
        "{ uucp = 'localhost' }",
        f"handler: no such kind: 'uucp'; one of: {EVERY_KIND}",
    ),
    "later kind with a timeout": (
        "{ timeout = '2m', uucp = 'localhost' }",
        f"handler: no such kind: 'uucp'; one of: {EVERY_KIND}",
    ),
    "only a timeout": (
        "{ timeout = '2m' }",
        f"handler: no kind of handler; expected one of: {EVERY_KIND}",
    ),
    "a kind with a line end": ('{ "x\\ny" = 1 }', "no such kind: 'x\\ny'"),
    "timeout a number": ("{ exec = ['a'], timeout = 5 }", f"handler.timeout: expected {EXPECTED}"),
    "timeout zero": ("{ exec = ['a'], timeout = '0s' }", f"handler.timeout: expected {EXPECTED}"),
    "timeout word": ("{ exec = ['a'], timeout = 'x' }", f"handler.timeout: expected {EXPECTED}"),
    "python a number": ("{ python = 5 }", "handler: Expected `str`, got `int` - at `$.python`"),
}


@pytest.mark.parametrize(("handler", "expected"), HANDLERS.values(), ids=HANDLERS.keys())
def test_a_wrong_handler_says_what_was_expected(one, handler, expected):
    text = refusal(lambda: one(handler=handler))
    assert "w.toml: queues.q.handler" in text
    assert expected in text
    assert "expected" in text or "one of:" in text


def test_handlers_are_read(one):
    assert one(handler="{ exec = ['a', 'b'], timeout = '2m' }").handler == Exec(("a", "b"), 120.0)
    assert one(handler=TRUE).handler == Exec(("true",), None)
    assert one(handler="{ python = 'a.b:c' }").handler == Python("a.b:c")


def test_isolation_is_read_with_its_limits(one):
    whole = "{ python = 'a.b:c', isolate = true, timeout = '2m', memory = '512M', cpu = '60s' }"
    assert one(handler=whole).handler == Python("a.b:c", True, 120.0, 512 << 20, 60.0)
    bare = one(handler="{ python = 'a.b:c', isolate = true }").handler
    assert bare == Python("a.b:c", True, None, None, None)
    assert bare != Python("a.b:c")


WRONG_LIMITS = {
    "isolate": ["1", '"true"', "[]"],
    "timeout": ["5", '"0s"', '"x"', "true"],
    "memory": ['"63M"', "1", "0", '"5T"', "true", "1.5"],
    "cpu": ["60", '"500ms"', '"0s"', '""'],
    "batch": ["1", "1001", '"100"', "true"],
    "batch_wait": ["1", '"x"', "true"],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in Python.OPTIONS for value in WRONG_LIMITS[key]]
)
def test_a_wrong_limit_is_named_with_what_was_expected(one, tmp_path, key, value):
    others = "" if key == "isolate" else "isolate = true, "
    text = refusal(lambda: one(handler=f"{{ python = 'a:b', {others}{key} = {value} }}"))
    where = f"{tmp_path}/w.toml: queues.q.handler.{key}: "
    assert text.startswith(f"{where}expected {Python.OPTIONS[key].expected}; got ")


def test_a_batch_is_read_and_what_does_not_go_with_it_is_named(one, tmp_path):
    batch = one(handler="{ exec = ['true'], batch = 100, batch_wait = '1s' }").handler
    assert (batch.batch, batch.batch_wait) == (100, 1.0)
    for handler, words in (
        ("{ exec = ['true'], batch_wait = '1s' }", "handler.batch_wait: expected batch beside it"),
        (
            "{ python = 'a:b', isolate = true, batch = 2 }",
            "handler.batch: expected isolate = false",
        ),
    ):
        assert refusal(lambda handler=handler: one(handler=handler)).startswith(
            f"{tmp_path}/w.toml: queues.q.{words}"
        )
    crashes = "[queues.q.retry]\nmax_crashes = 1"
    assert "max_crashes: expected 2 or more" in refusal(
        lambda: one(crashes, handler="{ exec = ['true'], batch = 2 }")
    )


def test_a_handler_that_cannot_be_had_is_named_with_its_place(one, tmp_path):
    where = f"{tmp_path}/w.toml: queues.q."
    text = refusal(one(handler="{ exec = ['/no/such/program'] }").load_handler)
    assert text.startswith(f"{where}handler.exec: expected a command that can be run")
    text = refusal(one(handler="{ python = 'no_such_module:f' }").load_handler)
    assert text.startswith(f"{where}handler.python: ")
    text = refusal(configuration.queue("/q", {}, {}, ["/no/such/program"]).load_handler)
    assert text.startswith("command line: handler.exec: ")
    text = refusal(one(handler="{ python = 'no_such:f', isolate = true }").load_handler)
    assert text.startswith(f"{where}handler.python: handler 'no_such:f': cannot be imported")
    loaded = one(handler="{ exec = ['true'], timeout = '1m30s' }").load_handler()
    assert (loaded.argv, loaded.timeout) == (("true",), 90.0)
    assert configuration.queue("/q", {}, {}).load_handler() is None


RETRIES = {
    "initial": ('"2m"', 120.0),
    "max": ('"90m"', 5400.0),
    "multiplier": ("1.5", 1.5),
    "jitter": ("0", 0.0),
    "give_up_after": ('"12h"', 43200.0),
    "max_attempts": ("7", 7),
    "max_crashes": ("1", 1),
}


def test_the_values_above_cover_every_key_of_retry():
    assert tuple(RETRIES) == tuple(RETRY) == Policy._fields


@pytest.mark.parametrize("key", RETRIES)
def test_each_key_of_retry_alone_and_with_its_default_as_told(one, key):
    text, value = RETRIES[key]
    assert one(f"retry = {{ {key} = {text} }}").retry == Policy(**{key: value})
    default = getattr(Policy(), key)
    assert default != value
    told = RETRY[key].default
    written = f'"{told}"' if told[-1].isalpha() else told
    assert getattr(one(f"retry = {{ {key} = {written} }}").retry, key) == default
    assert type(getattr(Policy(), key)) is type(value)


def test_all_keys_of_retry_together_and_none(one):
    together = ", ".join(f"{key} = {text}" for key, (text, _value) in RETRIES.items())
    values = {key: value for key, (_text, value) in RETRIES.items()}
    assert one(f"retry = {{ {together} }}").retry == Policy(**values)
    assert one().retry == one("retry = {}").retry == Policy()


WRONG_RETRIES = {
    "initial": ["30", '"0s"', '""', "true"],
    "max": ["3600", '"0s"', '"10001d"', "[]"],
    "multiplier": ["0.5", "0", "-2", "1001", '"2"', "true", "nan", "inf", "{}"],
    "jitter": ["-0.1", "1.1", '"10%"', "false", "nan"],
    "give_up_after": ["5", '"0s"', '"never"'],
    "max_attempts": ["0", "-1", "1.0", '"3"', "true", "1000001"],
    "max_crashes": ["0", "1001", "true"],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in RETRIES for value in WRONG_RETRIES[key]]
)
def test_a_wrong_value_in_retry_is_named_with_what_was_expected(one, tmp_path, key, value):
    text = refusal(one, f"retry = {{ {key} = {value} }}")
    where = f"{tmp_path}/w.toml: queues.q.retry.{key}: "
    assert text.startswith(f"{where}expected {RETRY[key].expected}; got ")


@pytest.mark.parametrize(
    ("retry", "refused"),
    [
        ('initial = "2h"', "initial: expected at most what `max` is, 1h; got 2h"),
        ('max = "10s"', "max: expected at least what `initial` is, 30s; got 10s"),
        ('initial = "5m", max = "1m"', "max: expected at least what `initial` is, 5m; got 1m"),
        ("first = 1", f"first: unknown key; expected one of {', '.join(RETRIES)}"),
    ],
)
def test_retry_is_refused_where_its_keys_do_not_go_together(one, retry, refused):
    assert refusal(one, f"retry = {{ {retry} }}").endswith(f"queues.q.retry.{refused}")


def test_retry_is_a_table(one):
    for wrong in ('"30s"', "30", "[]"):
        assert "queues.q.retry: expected a table" in refusal(one, f"retry = {wrong}")


def test_a_relative_path_is_relative_to_the_file(write, tmp_path, monkeypatch):
    file = write(f'[queues.a]\npath = "x/../spool/a/"\nhandler = {TRUE}\n')
    assert configuration.load(file, {})["a"].path == f"{tmp_path}/spool/a"
    monkeypatch.chdir(tmp_path)
    assert configuration.load("w.toml", {})["a"].path == f"{tmp_path}/spool/a"


@pytest.mark.parametrize("second", ["/spool/a", "/spool/./a/", "/spool/b/../a", "LINK"])
def test_two_queues_cannot_have_one_directory(write, tmp_path, second):
    (tmp_path / "spool").mkdir()
    (tmp_path / "link").symlink_to("spool")
    first = str(tmp_path / "spool") if second == "LINK" else "/spool/a"
    second = str(tmp_path / "link") if second == "LINK" else second
    text = "".join(
        f'[queues.{name}]\npath = "{path}"\nhandler = {TRUE}\n'
        for name, path in (("one", first), ("two", second))
    )
    assert refusal(configuration.load, write(text), {}) == (
        f"{tmp_path}/w.toml: queues.two.path: expected a directory of its own;"
        f" queues.one has {first} too"
    )


def test_raw_and_legacy_exclude_each_other_wherever_they_come_from(one):
    expected = 'legacy: expected false where format is "raw"'
    assert expected in refusal(one, 'legacy = true\nformat = "raw"')
    assert expected in refusal(one, "legacy = true", {"WATCHER_FORMAT": "raw"})
    for flags, environment in [
        ({"legacy": True, "format": "raw"}, {}),
        ({"format": "raw"}, {"WATCHER_LEGACY": "1"}),
    ]:
        with pytest.raises(Usage, match=expected):  # the command line's fault
            configuration.queue("/q", flags, environment)


def test_a_suffix_goes_with_raw_and_raw_without_one_takes_every_file(one):
    expected = 'suffix: goes with format = "raw" only'
    assert expected in refusal(one, 'suffix = ".csv"')
    assert expected in refusal(one, "", {"WATCHER_SUFFIX": ".csv"})
    with pytest.raises(Usage, match=expected):
        configuration.queue("/q", {"suffix": ".csv"}, {})
    assert one().suffix == ".pck"
    assert one('format = "raw"').suffix == ""
    assert configuration.queue("/q", {"format": "raw"}, {}).suffix == ""


def test_raw_with_a_suffix_of_pck_has_it_wherever_it_comes_from(one):
    raw = {"WATCHER_FORMAT": "raw", "WATCHER_SUFFIX": ".pck"}
    from_file = one('format = "raw"\nsuffix = ".pck"')
    assert from_file.suffix == ".pck"
    assert configuration.queue("/q", {"grace_age": "1s"}, {}, None, from_file).suffix == ".pck"
    assert one("", raw).suffix == ".pck"
    assert configuration.queue("/q", {}, raw).suffix == ".pck"
    assert configuration.queue("/q", {"format": "raw", "suffix": ".pck"}, {}).suffix == ".pck"


def test_suffix_and_match_stand_for_each_other_and_the_stronger_place_decides(one):
    raw = 'format = "raw"\n'
    short, long = one(f'{raw}suffix = ".csv"'), one(f'{raw}match = ["*.csv"]')
    assert short == long
    assert (long.suffix, long.match) == (".csv", ("*",))
    both = one(f'{raw}match = ["*.csv", "*.CSV"]')
    assert (both.suffix, both.match) == ("", ("*.csv", "*.CSV"))
    flagged = configuration.queue("/q", {"suffix": ".txt"}, {}, None, both)
    assert (flagged.suffix, flagged.match) == (".txt", ("*",))
    flagged = configuration.queue("/q", {"match": ["*.a", "*.b"]}, {}, None, short)
    assert (flagged.suffix, flagged.match) == ("", ("*.a", "*.b"))
    flagged = configuration.queue("/q", {"grace_age": "1s"}, {}, None, both)
    assert (flagged.suffix, flagged.match) == ("", ("*.csv", "*.CSV"))
    in_variable = one(f'{raw}suffix = ".csv"', {"WATCHER_MATCH": "*.a *.b"})
    assert (in_variable.suffix, in_variable.match) == ("", ("*.a", "*.b"))
    any_case = one(f'{raw}suffix = ".csv"\nignore_case = true')
    assert any_case.layout.kind(b"X.CSV") is Kind.ENTRY


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('format = "raw"\nsuffix = ".a"\nmatch = ["*.b"]', "write one of the two"),
        ('match = ["*.b"]', 'match: goes with format = "raw" only'),
        ("ignore = []", 'ignore: goes with format = "raw" only'),
        ("ignore_case = true", 'ignore_case: goes with format = "raw" only'),
        ('format = "raw"\nmatch = ["*.b"]\nignore = ["*.b"]', "leaves no entry for '*.b'"),
        ('format = "raw"\nsuffix = "*.b"', 'write ".b", or match = ["*.b"]'),
        ('format = "raw"\nsuffix = "*.[ab]"', 'write match = ["*.[ab]"]'),
        ('format = "raw"\nmatch = [".b"]', 'write "*.b"'),
        ('format = "raw"\nmatch = "*.b"', 'write ["*.b"]'),
    ],
)
def test_patterns_that_contradict_the_rest_are_refused_with_the_cure(one, lines, said):
    assert said in refusal(one, lines)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('marker = "{name}.done"', 'marker: goes with format = "raw" only'),
        ('companions = ["{name}.a"]', 'companions: goes with format = "raw" only'),
        ('format = "raw"\nmarker = "{stem}.ok"', "a.csv and a.txt would share a marker"),
        ('format = "raw"\nmatch = ["*.a", "*.b"]\nmarker = "{stem}.ok"', "needs one ending"),
        ('format = "raw"\nsuffix = ".csv"\nmarker = "{stem}.csv"', "the entry's own name"),
    ],
)
def test_a_marker_that_two_entries_could_share_is_refused_with_the_cure(one, lines, said):
    assert said in refusal(one, lines)


def test_a_marker_and_companions_are_part_of_the_layout(one):
    layout = one('format = "raw"\nsuffix = ".csv"\nmarker = "{stem}.ok"').layout
    assert layout.kind(b"a.ok") is Kind.MARKER
    layout = one('format = "raw"\ncompanions = [".~lock.{name}#"]').layout
    assert layout.kind(b".~lock.a#") is Kind.COMPANION


def test_the_default_ignore_list_gives_way_to_the_names_that_are_asked_for(one):
    assert one('format = "raw"').ignored == DEFAULT_IGNORE
    backups = one('format = "raw"\nsuffix = ".bak"')
    assert backups.layout.kind(b"x.bak") is Kind.ENTRY
    assert backups.layout.kind(b"x.part") is Kind.IGNORED
    nothing = one('format = "raw"\nignore = []').layout
    assert nothing.kind(b"x.part") is Kind.ENTRY
    assert nothing.kind(b".x") is nothing.kind(b"x.tmp") is Kind.TEMPORARY
    assert configuration.queue("/q", {"format": "raw", "ignore": [""]}, {}).ignored == ()


def test_a_directory_on_the_command_line_has_its_name_and_its_configured_settings(one):
    assert configuration.queue("/var/spool/in/", {}, {}).name == "in"
    assert configuration.queue("/", {}, {}).name == "/"
    configured = one('grace_age = "7s"')
    assert configuration.find({"q": configured}, "/spool/./q/") is configured
    assert configuration.find({"q": configured}, "/spool") is None
    given = configuration.queue("/spool/q", {}, {}, ["cat", "-v"], configured)
    assert (given.name, given.grace_age, given.handler) == ("q", 7.0, Exec(("cat", "-v")))


# -- read again -------------------------------------------------------------------------------


def test_settings_that_mean_the_same_are_equal_however_they_are_written(one):
    first = one(
        'grace_age = "5m"\nmax_size = "1M"\nretry = { initial = "60s" }',
        handler="{ exec = ['a'], timeout = '2m' }",
    )
    second = one(
        '# another order\nmax_size = 1048576\nretry = { initial = "1m" }\nlegacy = false\n'
        'grace_age = "300"',
        handler="{ timeout = '120s', exec = ['a'] }",
    )
    assert first == second


@pytest.mark.parametrize("key", KEYS)
def test_settings_that_differ_in_any_option_are_not_equal(one, key):
    beside = RAW.get(key, {})
    assert one(f"{key} = {VALUES[key][0]}", beside) != one("", beside)


def test_settings_that_differ_in_handler_retry_or_path_are_not_equal(one, write):
    base = one()
    assert base == one()
    assert base != one(handler="{ exec = ['true', ''] }")
    assert base != one(handler="{ exec = ['true'], timeout = '1s' }")
    assert base != one('retry = { initial = "31s" }')
    moved = f'[queues.q]\npath = "/spool/r"\nhandler = {TRUE}\n'
    assert base != configuration.load(write(moved), {})["q"]


# -- anything at all --------------------------------------------------------------------------

words = st.sampled_from(
    [*OPTIONS, "path", "handler", "retry", "exec", "python", "timeout", "initial", "max", "a:b"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
scalars = (
    words
    | st.sampled_from(["/spool/q", "5m", "0s", "raw", "mailman", ".csv", "auto", "1M", "true"])
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.sampled_from([None, dt.UTC]))
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=8,
)
tables = st.fixed_dictionaries(
    {}, optional={"path": st.just("/spool/q") | trees, "handler": trees, "retry": trees}
) | st.dictionaries(words, trees, max_size=5)
files = st.one_of(
    st.builds(
        lambda queues: {"queues": queues}, st.dictionaries(words, tables | trees, max_size=3)
    ),
    st.dictionaries(words, trees, max_size=3),
)


@given(
    files,
    st.dictionaries(st.sampled_from([f"WATCHER_{key.upper()}" for key in OPTIONS]), st.text()),
)
@example({"queues": {"\x1b[2J": {}}}, {})
@example({"queues": {"q": {"path": "/q", "handler": {"exec": ["\n"], "\x07": 1}}}}, {})
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_tree_does_anything_but_load_or_be_refused_in_one_line(monkeypatch, tree, environment):
    monkeypatch.setattr(configuration, "read_toml", lambda _file: dict(tree))
    try:
        loaded = configuration.load("/etc/w.toml", environment)
    except BadConfiguration as error:
        text = str(error)
        assert text.isprintable()
        assert text.startswith(("/etc/w.toml: ", "WATCHER_"))
    else:
        assert all(msgspec.structs.asdict(queue)["path"] for queue in loaded.values())


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_does_anything_but_load_or_be_refused_in_one_line(write, data):
    assert refusal(configuration.load, write(data), {}).startswith(write(data) + ": ")


# -- [work.NAME] ------------------------------------------------------------------------------


def test_a_worker_of_a_stream_keeps_no_journal_of_its_copies(write):
    table = f'[work.mail]\nserver = "nats://a"\nstream = "MAIL"\nhandler = {TRUE}\n'
    assert not work_from_file(write(table))["mail"].journal
    with pytest.raises(BadConfiguration, match=r"work\.mail\.journal: unknown key"):
        work_from_file(write(f"{table}journal = true\n"))


# -- the document -----------------------------------------------------------------------------


def table(of):
    """The options as the document shows them."""
    lines = [
        "| key | flag | variable | value | default | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for key, option in of.items():
        flag, variable = f"--{key.replace('_', '-')}", f"WATCHER_{key.upper()}"
        row = [f"`{key}`", f"`{flag}`", f"`{variable}`", option.expected]
        default = f"`{option.default}`" if option.default else "none"
        lines.append(f"| {' | '.join([*row, default, option.help])} |")
    return "\n".join(lines)


def work_keys():
    """The keys of a table [work.NAME] as the document shows them."""
    lines = ["| key | value | default | |", "| --- | --- | --- | --- |"]
    for key, option in WORK_OPTIONS.items():
        default = "needed" if key in ("server", "stream") else option.default or "none"
        lines.append(f"| `{key}` | {option.expected} | {default} | {option.help} |")
    return "\n".join(lines)


def keys(of):
    """The keys of an inner table as the document shows them."""
    lines = ["| key | value | default | |", "| --- | --- | --- | --- |"]
    for key, option in of.items():
        lines.append(f"| `{key}` | {option.expected} | `{option.default}` | {option.help} |")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("options", table(OPTIONS)),
        ("daemon", table(DAEMON_OPTIONS)),
        ("retry", keys(RETRY)),
        ("work", work_keys()),
    ],
    ids=["options", "daemon", "retry", "work"],
)
def test_the_documents_tables_are_those_of_the_options(name, made):
    """Run with WRITE_DOCUMENTS=1 to write them anew."""
    text = DOCUMENT.read_text()
    begin = text.index("-->\n", text.index(f"<!-- {name}: ")) + len("-->\n")
    end = text.index("<!-- end -->", begin)
    if os.environ.get("WRITE_DOCUMENTS"):
        DOCUMENT.write_text(f"{text[:begin]}\n{made}\n\n{text[end:]}")
        return
    assert text[begin:end].strip() == made


def test_the_documents_example_loads_and_its_refusal_is_word_for_word(write, tmp_path):
    blocks = DOCUMENT.read_text().split("```")
    examples = [block.removeprefix("toml\n") for block in blocks if block.startswith("toml")]
    for another in examples[1:]:
        file = write(another)
        assert work_from_file(file) if "[work." in another else configuration.load(file, {})
    example_file = examples[0]
    loaded = configuration.load(write(example_file), {})
    assert set(loaded) == {"incoming", "reports"}
    assert loaded["reports"].path == f"{tmp_path}/reports"
    write(example_file.replace("concurrency = 1", "concurrency = 0"))
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "watcher", "run", "--config", "w.toml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(DOCUMENT.parents[1])},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == os.EX_CONFIG
    assert f"\n{ended.stderr}" in blocks


# -- the archive ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("archive/", b"archive"),
        ("./done//files/", b"done/files"),
        ("/srv/archive", b"/srv/archive"),
        ("//srv/archive", b"/srv/archive"),
        ("/spool/q/archive/", b"archive"),  # in the queue: the rules for a relative path hold
        ("/spool/q2/archive", b"/spool/q2/archive"),
        ("archive\N{SNOWMAN}", "archive\N{SNOWMAN}".encode()),
    ],
)
def test_a_relative_archive_is_in_the_queue_directory(one, written, meant):
    archived = one(f'archive = "{written}"').archived
    assert archived[:3] == (meant, False, None)
    assert archived.own_name == (None if meant.startswith(b"/") else meant.split(b"/")[0])


def test_no_archive_is_no_archive(one):
    assert one().archived is None
    assert one('archive = ""', {}).archived is None


@pytest.mark.parametrize("line", ["archive_dated = true", 'archive_for = "30d"'])
def test_what_goes_with_an_archive_is_refused_without_one(one, tmp_path, line):
    key = line.split()[0]
    text = refusal(one, line)
    assert text.startswith(f"{tmp_path}/w.toml: queues.q: {key}: goes with an archive; set")


def test_a_flag_that_goes_with_an_archive_is_the_command_lines_fault():
    with pytest.raises(Usage, match="archive_for: goes with an archive"):
        configuration.queue("/spool", {"archive_for": "30d"}, {})


def test_an_archive_is_not_in_our_own_directory_by_its_absolute_path_either(one):
    assert "outside .watcher/" in refusal(one, 'archive = "/spool/q/.watcher/dead"')
