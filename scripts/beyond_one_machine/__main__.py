"""Hand entries over and handle them on several machines, and kill everything again and again.

    python scripts/beyond_one_machine [--entries 20000] [--every 1] [--servers 1|3] [--seed N]

A publisher (`watcher run` with the handler `nats`), workers (`watcher work`) and nats-servers that
sync each message get SIGKILL at random, and start again. Prints the counts, how often handlers were
called, and each entry that was lost, doubled, mixed up, or put among the dead letters though it is
innocent. Ends with 1 if there is any of these; with 75 if no nats-server is installed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [each for each in (_ROOT, os.path.join(_ROOT, "scripts")) if each not in sys.path]

from beyond_one_machine.nats_servers import NoServer  # noqa: E402 - sys.path is set first
from beyond_one_machine.run import SERVER, Plan, Result, run  # noqa: E402 - the same
from watcher.jetstream.stream_setup import ACK_WAIT  # noqa: E402 - the same

MOST = 10  # lines of each kind


def main() -> int:
    """Make the run, print the account; return the exit code."""
    options = _options()
    plan = Plan(
        random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed,
        options.entries,
        options.every,
        tuple(options.kill or ("publisher", "worker", SERVER)),
        options.kills,
        options.workers,
        options.servers,
        options.concurrency,
        options.stopped,
        options.back,
        options.timeout,
        options.rate,
        options.ack_wait,
    )
    print(f"beyond_one_machine: {plan}", flush=True)
    directory = tempfile.mkdtemp(prefix="machines-", dir=options.dir)
    good = False
    try:
        result = run(directory, plan)
        good = show(result)
    except NoServer as error:
        print(f"beyond_one_machine: {error}", file=sys.stderr)
        return os.EX_TEMPFAIL
    finally:
        if good or not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            shutil.move(directory, options.keep)
    return 0 if good else 1


def show(result: Result) -> bool:
    """Print a result; return whether nothing is wrong."""
    account = result.account
    print(f"in {result.seconds:.0f} s: " + ", ".join(f"{n} {k}" for k, n in account.counts.items()))
    for title, counts in (
        ("calls of the handler: entries", account.calls_per_entry),
        ("attempt that had the effect: entries", account.attempts),
    ):
        print(f"{title}: " + ", ".join(f"{number}: {count}" for number, count in counts.items()))
    for what, pauses in result.pauses.items():
        shown = ", ".join(f"{pause:.1f}" for pause in sorted(pauses))
        print(f"seconds from a server's end or start to the next message that was {what}: {shown}")
    for kind, found in account.wrong.items():
        print(f"{kind}: {len(found)}")
        for line in found[:MOST]:
            print(f"    {line}")
    for line in result.wrong[:MOST]:
        print(line)
    return not account.wrong and not result.wrong


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="beyond_one_machine")
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two kills [1]")
    parser.add_argument(
        "--kills", type=int, default=0, help="kill so often [until all is handed over]"
    )
    parser.add_argument(
        "--kill",
        action="append",
        choices=("publisher", "worker", SERVER),
        help="kill these only; of a cluster the server that leads the stream",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=4, help="of each worker [4]")
    parser.add_argument("--servers", type=int, default=1, choices=(1, 3))
    parser.add_argument("--stopped", type=int, default=0, help="servers that do not run")
    parser.add_argument(
        "--back", type=float, default=0.0, help="seconds after which these run [never]"
    )
    parser.add_argument(
        "--ack-wait", type=float, default=ACK_WAIT, help="of the consumer, in seconds [30]"
    )
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="of the handler nats, in seconds [10]"
    )
    parser.add_argument(
        "--rate", type=float, default=0.0, help="entries that are written in a second [no limit]"
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--dir", help="make everything there")
    parser.add_argument("--keep", metavar="DIR", help="keep everything there if anything is wrong")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
