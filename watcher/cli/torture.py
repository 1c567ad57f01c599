"""`watcher torture`: which promises hold on a file system, by trying and by killing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import click

from watcher.errors import one_line

if TYPE_CHECKING:
    from watcher.spool.mounts import Mount
    from watcher.torture.account import Account
    from watcher.torture.chaos import Chaos, Count, Plan
    from watcher.torture.verdict import Fact, Promise

_WIDTH = 100
_STEPS = 1000  # of the progress bar


@click.command("torture")
@click.argument("directory", metavar="DIR")
@click.option(
    "--seconds",
    type=click.FloatRange(0.0),
    default=30.0,
    help="How long to kill and stop processes [30].",
)
@click.option("--rounds", type=click.IntRange(1), metavar="N", help="N kills and stops instead.")
@click.option("--seed", type=int, help="Draw the same times again.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(
    directory: str, seconds: float, rounds: int | None, seed: int | None, as_json: bool
) -> int:
    """Find out which promises hold on a file system: facts first, then kills.

    Works in a directory of its own, DIR/watcher-torture.RANDOM, and removes it at the end; if
    something is wrong with an entry, the directory is kept and named. Exit status: 0 if every
    promise is kept; 69 if one is not; 66, 77 or 73 if nothing can be made in DIR.
    """
    from watcher.handle.adopted_children import usual_signals
    from watcher.spool.lease import ignore_sigio
    from watcher.torture import workdir
    from watcher.torture.chaos import Plan

    usual_signals()
    ignore_sigio()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    path = workdir.make(directory)
    keep = False
    try:
        show = _Show(as_json, path)
        keep = _torture(path, Plan(seed, seconds, rounds), show)
        return show.end(path if keep else None)
    finally:
        if not keep:
            from watcher.torture.processes import undisturbed

            with undisturbed():
                workdir.remove(path)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _torture(path: str, plan: Plan, show: _Show) -> bool:
    """Try the file system and run the chaos; return whether to keep the directory."""
    from watcher.rules.finding import OK
    from watcher.spool import mounts
    from watcher.spool.dirs import DIRECTORY
    from watcher.torture import file_system_facts, workdir
    from watcher.torture.account import balance
    from watcher.torture.chaos import Chaos
    from watcher.torture.verdict import judge

    fd = os.open(path, DIRECTORY)
    mount = mounts.mount(fd)
    os.close(fd)
    show.mount(mount, plan.seed)
    found = []
    for fact in file_system_facts.find_out(os.path.join(path, workdir.TRIED)):
        found.append(fact)
        show.fact(fact)
    leases = any((fact.about, fact.grade) == ("lease", OK) for fact in found)
    with _bar() as tell:
        chaos = Chaos(path, plan._replace(leases=leases), tell)
        account = balance(chaos.run())
    audited = workdir.audit(path)
    show.chaos(chaos, account)
    for line in chaos.unexpected_ends:
        show.trouble(line)
    if audited is not None:
        show.audited(audited)
    for promise in judge(found, account, mount.filesystem, mount.options):
        show.promise(promise)
    return bool(account.wrong or chaos.unexpected_ends or audited)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Count], None]]:
    """Show the progress, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    with click.progressbar(
        length=_STEPS, label="torture", file=sys.stderr, item_show_func=_progress, show_eta=False
    ) as bar:

        def tell(count: Count) -> None:
            bar.update(max(0, round(min(1.0, count.share) * _STEPS) - bar.pos), count)

        yield tell


def _progress(count: Count | None) -> str | None:
    if count is None:
        return None
    words = f"{count.actions} kills and stops, {count.accepted} accepted, {count.handled} handled"
    return f"draining: {words}" if count.share >= 1.0 else words


class _Show:
    """Prints the results, as text or as JSON, and knows the exit status."""

    def __init__(self, as_json: bool, path: str) -> None:
        self._as_json = as_json
        self._path = path
        self._code = os.EX_OK

    def _say(self, record: dict[str, object], text: str) -> None:
        if self._as_json:
            click.echo(json.dumps(record))
        elif text:
            click.echo(text)

    def mount(self, mount: Mount, seed: int) -> None:
        kind = mount.filesystem or "an unknown file system"
        options = ",".join(mount.options)
        record = {"path": one_line(self._path), "filesystem": mount.filesystem, "seed": seed}
        self._say(
            {**record, "options": list(mount.options)},
            f"{one_line(self._path)}\n{_block(f'{kind}, mounted {one_line(options)}', 2)}\n"
            f"  seed {seed}\n\nWhat this file system does:",
        )

    def fact(self, fact: Fact) -> None:
        record: dict[str, object] = {"fact": fact.about, "grade": fact.grade, "what": fact.what}
        self._say(record, _block(f"{fact.grade:<8} {fact.about:<18} {fact.what}", 30))

    def chaos(self, chaos: Chaos, account: Account) -> None:
        counts = account._asdict()
        record = {"kills": chaos.kills, "stops": chaos.stops, **counts}
        orphaned, left, lost = map(len, (account.orphaned, account.left, account.lost))
        self._say(
            record,
            f"\n{chaos.kills} kills and {chaos.stops} stops later:\n"
            f"  {account.accepted:,} accepted = {account.done:,} done + {account.dead:,} in dead/"
            f" + {orphaned:,} in orphans/ + {left:,} left over + {lost:,} lost",
        )

    def audited(self, wrong: str) -> None:
        if wrong:
            self.trouble(f"watcher audit: {wrong}")
        else:
            self._say({"audit": "balances"}, "  the queue's journal says the same: watcher audit")

    def trouble(self, text: str) -> None:
        self._code = os.EX_UNAVAILABLE
        self._say({"trouble": text}, f"  trouble: {one_line(text)}")

    def promise(self, promise: Promise) -> None:
        from watcher.torture.verdict import BROKEN, PROMISES

        if promise.verdict == BROKEN:
            self._code = os.EX_UNAVAILABLE
        says = PROMISES[promise.number]
        record: dict[str, object] = {"promise": promise.number, "says": says}
        head = "\nThe promises, here:\n" if promise.number == 1 else ""
        self._say(
            {**record, "verdict": promise.verdict, "what": promise.what},
            f"{head}  {promise.verdict:<15} {promise.number} {says}\n"
            + _block(f"{'':<18}{one_line(promise.what)}", 20),
        )

    def end(self, kept: str | None) -> int:
        if kept is not None:
            self._say({"kept": one_line(kept)}, f"\nkept, for you to look at: {one_line(kept)}")
        elif not self._as_json:
            words = {os.EX_OK: "every promise that can be tried is kept here"}
            click.echo("\n" + words.get(self._code, "not every promise is kept here: see above"))
        return self._code


def _block(text: str, indent: int) -> str:
    """Wrap a text; all lines but the first are indented by `indent`."""
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return "\n".join(lines)
