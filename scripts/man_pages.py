#!/usr/bin/env python3
"""Write the manual pages docs/man/watcher.1 and docs/man/watcher.toml.5 from the program itself.

The commands and their options are those of click, the keys those of the tables of options, the exit
codes those of docs/design.md. `make docs` writes the pages; a test compares them.
Guarantees: the same sources give the same bytes. The pages use the macros of man(7) alone.
Fails: KeyError or ValueError if docs/design.md has no table of exit codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from watcher import __version__, cli
from watcher.cli.parameters import FULL_HELP, QueueOption
from watcher.config.daemon_settings import DAEMON_OPTIONS
from watcher.config.options import OPTIONS, RETRY
from watcher.config.work_settings import WORK_OPTIONS
from watcher.handle.handler_kinds import KINDS, settings_class
from watcher.rules.option import Option

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "man"

DATE = "2026-11-27"  # a page has to have one; not the day of today, so that a page stays the same

INTRODUCTION = """
The watcher is a daemon for drop folders and mail queues: files land in a directory, and each of
them is handled once its writer has finished it. A handler is a command or a Python function. An
entry whose handler fails is tried again; none is lost, whatever is killed.

In short: watcher run QUEUE_DIR -- COMMAND ARG... serves a directory. watcher status QUEUE_DIR says
how it is, watcher list QUEUE_DIR what is in it.

ENTRY in the commands below is the name of an entry as `list` prints it, the beginning of a name
that no other entry has, or STATE/NAME, as in dead/NAME. `delete` takes whole names only. ALL, in
capitals, is every entry.
"""

ENVIRONMENT = {
    "WATCHER_CONFIG": "The configuration, as --config; see watcher.toml(5).",
    "WATCHER_KEY": "Each option KEY of watcher.toml(5), in capitals, such as WATCHER_GRACE_AGE.",
}
SIGNALS = {
    "SIGTERM, SIGINT": "Finish what is in hand, then end; a second one ends at once.",
    "SIGHUP": "Read the configuration again.",
    "SIGUSR1": "Log the status.",
    "SIGUSR2": "Begin a sweep.",
}
FILES = {
    "QUEUE_DIR/.watcher/": "What the program keeps of a queue: the directories deferred, held,"
    " dead and orphans, the journal, and queue.json, which says which files are entries.",
}


def watcher_1() -> str:
    """Return the text of watcher(1)."""
    lines = [*_head("WATCHER", 1, "a queue directory that never loses a message", "watcher")]
    lines += [
        ".SH SYNOPSIS",
        ".B watcher",
        "[\\-\\-debug] COMMAND [ARGUMENT]...",
        ".SH DESCRIPTION",
    ]
    lines += _paragraphs(INTRODUCTION)
    lines.append(".SH COMMANDS")
    for name in cli.COMMANDS:
        lines += _command(name)
    lines.append(".SH QUEUE OPTIONS")
    lines += _paragraphs(
        "Every command that reads a queue takes these options. A queue that a daemon or a sweep has"
        " served says so itself, and needs none of them."
    )
    run = _click("run")
    lines += [line for each in run.params for line in _option(each, run, queue=True)]
    lines.append(".SH EXIT STATUS")
    lines += _terms(dict(_exit_codes()))
    for heading, terms in (("ENVIRONMENT", ENVIRONMENT), ("SIGNALS", SIGNALS), ("FILES", FILES)):
        lines += [f".SH {heading}", *_terms(terms)]
    lines += [".SH SEE ALSO", ".BR watcher.toml (5),", ".BR inotify (7)"]
    return "\n".join(lines) + "\n"


def watcher_toml_5() -> str:
    """Return the text of watcher.toml(5)."""
    lines = [*_head("WATCHER.TOML", 5, "the configuration of watcher", "watcher.toml")]
    lines.append(".SH DESCRIPTION")
    lines += _paragraphs(
        "One TOML file, named by --config FILE or WATCHER_CONFIG. Each queue is a table"
        " [queues.NAME]. A flag of a command wins over a variable of the environment, and that over"
        " the file."
    )
    lines += [".SH EXAMPLE", ".nf", "[queues.incoming]", 'path = "/var/spool/incoming"']
    lines += [_escaped('handler = { exec = ["/usr/local/bin/deliver"], timeout = "2m" }')]
    lines += [_escaped('retry = { initial = "30s", max = "1h", give_up_after = "5d" }'), ".fi"]
    lines += [".SH KEYS OF A QUEUE"]
    lines += _terms(
        {
            "path": "The queue's directory; with *, ? or [abc] every directory that matches.",
            "handler": "A table: see HANDLERS.",
            "retry": "A table: see RETRY.",
        }
    )
    lines += _options(OPTIONS, flags=True)
    lines += [".SH DAEMON", *_paragraphs("Keys of the table [daemon], for the daemon as a whole.")]
    lines += _options(DAEMON_OPTIONS, flags=True)
    lines.append(".SH KEYS OF A STREAM")
    lines += _paragraphs(
        "Keys of a table [work.NAME], for `watcher work`: one table for each stream."
        " A variable of the environment sets none of them."
    )
    lines += _terms({"handler": "A table: see HANDLERS.", "retry": "A table: see RETRY."})
    lines += _options(WORK_OPTIONS, flags=False)
    lines.append(".SH RETRY")
    lines += _options(RETRY, flags=False)
    lines.append(".SH HANDLERS")
    for kind in KINDS:
        settings = settings_class(kind)
        lines += [f".SS {_escaped(kind)}", *_paragraphs(settings.EXAMPLE)]
        lines += _options(settings.OPTIONS, flags=False)
    lines += [".SH SEE ALSO", ".BR watcher (1)"]
    return "\n".join(lines) + "\n"


def _head(title: str, section: int, what: str, name: str) -> Iterator[str]:
    yield '.\\" Written by scripts/man_pages.py (make docs); changes here are lost.'
    yield f'.TH {title} {section} {DATE} "watcher {__version__}" "watcher"'
    yield from (".SH NAME", f"{_escaped(name)} \\- {_escaped(what)}")


def _click(name: str) -> click.Command:
    command = cli.group.get_command(click.Context(cli.group), name)
    if not isinstance(command, click.Command):
        raise KeyError(name)
    return command


def _command(name: str, command: click.Command | None = None) -> Iterator[str]:
    """Yield the section of a command, and then those of its commands of two words."""
    command = command or _click(name)
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS watcher {_escaped(name)} {_escaped(usage)}"
    yield from _paragraphs(command.help or "")
    for each in command.params:
        yield from _option(each, command, queue=False)
    inner: Mapping[str, click.Command] = getattr(command, "commands", {})
    for second, each_command in inner.items():
        yield from _command(f"{name} {second}", each_command)


def _option(each: click.Parameter, command: click.Command, *, queue: bool) -> Iterator[str]:
    """Yield the lines of an option; `queue`: only of those that stand in QUEUE OPTIONS."""
    if not isinstance(each, click.Option) or isinstance(each, QueueOption) is not queue:
        return
    context = click.Context(command, info_name=FULL_HELP[0] if queue else command.name)
    record = each.get_help_record(context)
    if record is not None:
        yield from (".TP", f".B {_escaped(record[0])}", *_paragraphs(record[1]))


def _options(options: Mapping[str, Option], *, flags: bool) -> Iterator[str]:
    for key, option in options.items():
        yield from (".TP", f".B {_escaped(key)}")
        default = f"; default {option.default}" if option.default else ""
        text = f"{option.help} ({option.expected}{default})"
        if flags:
            text += f". Flag --{key.replace('_', '-')}, variable WATCHER_{key.upper()}"
        yield from _paragraphs(text + ".")


def _terms(terms: Mapping[str, str]) -> Iterator[str]:
    for term, text in terms.items():
        yield from (".TP", f".B {_escaped(term)}", *_paragraphs(text))


def _exit_codes() -> Iterator[tuple[str, str]]:
    table = (
        (ROOT / "docs" / "design.md").read_text().split("\n## Exit codes\n")[1].split("\n## ")[0]
    )
    yield from re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
    yield "130", "interrupted"


def _paragraphs(text: str) -> Iterator[str]:
    """Yield text as the lines of a page: a sentence is not cut, a paragraph begins with .PP."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        for sentence in re.split(r"(?<=[.:;]) (?=[A-Z])", " ".join(paragraph.split())):
            yield re.sub(r"`([^`]+)`", r"\\fB\1\\fR", _escaped(sentence))


def _escaped(text: str) -> str:
    """Return text with no character that means something to man(7)."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return f"\\&{text}" if text[:1] in (".", "'") else text


def main() -> None:
    """Write both pages."""
    PAGES.mkdir(exist_ok=True)
    (PAGES / "watcher.1").write_text(watcher_1())
    (PAGES / "watcher.toml.5").write_text(watcher_toml_5())


if __name__ == "__main__":
    main()
