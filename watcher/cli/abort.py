"""`watcher abort`: end a running attempt at one entry; the attempt counts as failed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.cli import chosen, parameters
from watcher.cli.known_queues import refuse_copies
from watcher.errors import Usage, one_line

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue
    from watcher.operate.abort import Aborted
    from watcher.spool.spool import Spool


@click.command("abort")
@click.argument("queue_dir")
@click.argument("entry")
@parameters.queue_options
@click.option("--hold", is_flag=True, help="Then hold the entry, so that it is not tried again.")
def command(queue_dir: str, entry: str, config: str | None, hold: bool, **flags: object) -> int:
    """End the attempt at an entry: TERM to its handler's process group, KILL 5 seconds later.

    The daemon records the attempt as failed, "aborted by the operator", and defers the entry. A
    Python function in the daemon's own process cannot be ended (isolate = true). Exit status: 0; 75
    if no attempt is running; 66 no such entry; 69 a function in the daemon; 77 another user's.
    """
    queues = chosen.choose(queue_dir, config, flags, with_work=True)
    if not queues.alone:
        raise Usage(f"{queue_dir}: in each of its directories a name is another entry: say which")
    if hold:
        for settings in queues.queues.values():
            refuse_copies(settings.path)
    return queues.each(lambda settings: _one(settings, os.fsencode(entry), hold=hold))


def _one(settings: Queue, wanted: bytes, *, hold: bool) -> int:
    from watcher.operate.abort import abort
    from watcher.operate.operator import current_operator
    from watcher.rules.names import display
    from watcher.spool.abort_request import AbortRequest
    from watcher.spool.lease import ignore_sigio

    ignore_sigio()
    spool = parameters.open_spool(settings)
    done = abort(spool, wanted, AbortRequest(str(current_operator()), hold))
    words, code = _words(done), os.EX_OK if done.settled else os.EX_TEMPFAIL
    if hold and done.now is not None and done.settled:
        held, code = _hold(spool, settings, done)
        words = held or words
    click.echo(f"{display(done.name)}  {one_line(words)}")
    return code


def _words(done: Aborted) -> str:
    from watcher.inspect.state_paths import schedule_text
    from watcher.rules.lifecycle import State
    from watcher.rules.stamp import parse

    ended = f"aborted: process {done.process} was ended by {done.by}"
    if not done.settled:
        return f"{ended}; the worker has not let go of the entry yet"
    if done.now is None:
        return f"the handler succeeded before it was ended (process {done.process}): handled"
    stamp = parse(done.now.files[0]) if done.now.state is State.DEFERRED else None
    if stamp is None:
        return f"{ended}; the entry is {done.now.state.value}"
    return f"{ended}; deferred, {schedule_text(stamp[0], State.DEFERRED)}"


def _hold(spool: Spool, settings: Queue, done: Aborted) -> tuple[str, int]:
    """Hold the entry; return the words ("" if it did not come to that) and the exit status."""
    from watcher.operate.operator import current_operator, work_as_owner
    from watcher.operate.operator_moves import Moves
    from watcher.operate.select_entries import Filter, select, states_for
    from watcher.rules.lifecycle import Move

    by = current_operator()
    work_as_owner(spool)
    states = states_for(Move.HOLD)
    if done.now is None or done.now.state not in states:
        return "", os.EX_OK  # it was given up: it is not tried again
    selected, _ = select(spool, [done.name], Move.HOLD, states, Filter(), settings.max_size)
    moves = Moves(spool, parameters.terms_for(settings), by)
    ended = f"aborted: process {done.process} was ended by {done.by}"
    for moved in moves.make(Move.HOLD, selected):
        if moved.state is not None:
            return f"{ended}; held", os.EX_OK
        return f"{ended}; not held: {moved.why}", os.EX_TEMPFAIL
    return f"{ended}; not held: it is in hand again, or gone", os.EX_TEMPFAIL
