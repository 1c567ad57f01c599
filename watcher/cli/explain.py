"""`watcher explain`: the verdict on a file, with all evidence."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from watcher.cli import parameters
from watcher.cli.known_queues import known_queues
from watcher.errors import NoSuch, WatcherError, one_line

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue
    from watcher.inspect.explanation import Explanation


@click.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="PATH... | QUEUE_DIR ENTRY...")
@parameters.queue_options
@parameters.archive_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(paths: tuple[str, ...], config: str | None, as_json: bool, **flags: object) -> None:
    """Print what a daemon or a sweep would do with each file now, and why. Nothing is changed.

    After a queue directory, a name without a slash is an entry of that queue, whatever its state;
    of one that is done, the journal says when. If one PATH does not exist, the others are still
    explained.
    """
    from watcher.rules.names import display
    from watcher.spool.lease import ignore_sigio

    ignore_sigio()
    missing: list[str] = []
    queue, names = _entries_of(paths)
    for path in names or paths:
        full = os.path.abspath(os.fsencode(path))
        try:
            if names:
                told = _explain_entry(queue, os.fsencode(path), config, flags)
            else:
                told = [(full, _explain(full, config, flags))]
        except NoSuch as error:
            missing.append(str(error))
            continue
        for shown, found in told:
            if as_json:
                _show_json(display(shown), found)
            else:
                _show_text(display(shown), found)
    if missing:
        raise NoSuch("; ".join(missing))


def _entries_of(paths: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return a queue directory and names in it; no names if the arguments are paths."""
    queue, *names = paths
    named = [name for name in names if "/" not in name or not os.path.lexists(name)]
    if not named or len(named) < len(names) or not os.path.isdir(queue):
        return "", ()
    return queue, tuple(names)


def _explain_entry(
    queue_dir: str, name: bytes, config: str | None, flags: dict[str, object]
) -> list[tuple[bytes, Explanation]]:
    """Explain each file that has this name; without one, what the journal says became of it."""
    from watcher.inspect.entry_history import explain_by_history, history, paths_now, paths_of

    settings = parameters.settings_for(queue_dir, config, flags)
    spool = parameters.open_spool(settings)
    paths = paths_of(spool, name)
    if not paths:
        found = history(spool, name, settings.max_size)
        paths = paths_now(spool, found)
        if not paths:
            shown = os.path.join(os.path.abspath(os.fsencode(settings.path)), name)
            return [(shown, explain_by_history(spool, found))]
    return [(path, _explain(path, config, flags)) for path in paths]


def _explain(path: bytes, config: str | None, flags: dict[str, object]) -> Explanation:
    from watcher.inspect.archived import explain_archived, queues_above
    from watcher.inspect.explanation import explain
    from watcher.inspect.file_facts import Fact
    from watcher.inspect.state_paths import queue_of
    from watcher.rules.names import display
    from watcher.spool.paused import read

    archived = _queue_of_archive(path, config, flags)
    if archived is not None:
        return explain_archived(path, archived)
    directory = queue_of(path) or os.path.dirname(path) or b"/"
    settings = parameters.settings_for(os.fsdecode(directory), config, flags)
    found = explain(path, settings.layout, parameters.terms_for(settings))
    trigger = settings.handler is not None and not settings.handler.SETTLES
    if trigger and found.verdict.startswith("ready"):
        words = "ready: the command of the trigger takes it, or leaves it"
        found = found._replace(verdict=words)
    with contextlib.suppress(OSError, WatcherError):  # the verdict has said what is wrong
        if (pause := read(parameters.open_spool(settings))) is not None:
            words = str(pause).removeprefix("paused ")
            found.facts.append(Fact("paused", f"{words}; no attempt begins: `watcher resume`"))
    above = next(queues_above(path), directory)
    if above != directory:
        what = f"{display(above)}: its daemon looks into no directory; is this its archive? "
        found.facts.append(Fact("queue above", f"{what}--archive or --config tells"))
    return found


def _queue_of_archive(path: bytes, config: str | None, flags: dict[str, object]) -> Queue | None:
    """Return the queue in whose archive a path is; None if no known queue has one there."""
    from watcher.config.expand import expand
    from watcher.inspect.archived import is_archived, queues_above

    file = config or os.environ.get("WATCHER_CONFIG")
    known = known_queues(file, with_work=True).values() if file else ()
    queues = list(expand(known)[0].values())
    queues += [
        parameters.settings_for(os.fsdecode(above), config, flags) for above in queues_above(path)
    ]
    return next((queue for queue in queues if is_archived(path, queue)), None)


def _show_json(path: str, found: Explanation) -> None:
    import json

    record: dict[str, object] = {"path": path, "verdict": found.verdict, **dict(found.facts)}
    if found.note:
        record["note"] = found.note
    click.echo(json.dumps(record))


def _show_text(path: str, found: Explanation) -> None:
    click.echo(f"{path}\n  {'verdict':<12} {one_line(found.verdict)}")
    for about, what in found.facts:
        click.echo(f"  {about:<12} {one_line(what)}")
    for key, value in found.note.items():
        click.echo(f"  {'note':<12} {one_line(f'{key}: ' + ' '.join(str(value).split()))}")
