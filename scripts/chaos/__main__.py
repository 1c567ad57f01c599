"""Kill and reload daemons with 16 workers at random; no entry may be lost.

    python scripts/chaos [--seconds 600] [--seed N] [--daemons 2] [--workers 16] [--gentle]

Prints the seed and the counts. Prints each entry that was lost, mixed up with another, taken before
it was whole, handled again without a crash, or handled twice at the same time; each queue whose
audit does not balance; unexpected ends and log lines of processes. Ends with 1 if there is any of
these. The seed determines the times and the actions; the kernel's scheduling differs in each run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [path for path in (ROOT, os.path.join(ROOT, "scripts")) if path not in sys.path]

from chaos.account import Account  # noqa: E402 - sys.path is set first
from chaos.chaos import Chaos  # noqa: E402 - the same
from chaos.workdir import Plan  # noqa: E402 - the same

MOST = 10  # lines of each kind


def main() -> int:
    """Run the chaos, print the account; return the exit code."""
    options = _options()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    again = f"--seed {seed} --seconds {options.seconds:g} --daemons {options.daemons}"
    print(f"chaos: {again} --workers {options.workers}{' --gentle' * options.gentle}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = tempfile.mkdtemp(prefix="chaos-", dir=options.dir)
    plan = Plan(seed, options.daemons, options.workers, options.gentle)
    wrong = True
    try:
        chaos = Chaos(directory, plan)
        account = chaos.run(options.seconds, _progress)
        wrong = _print_account(chaos, account)
    finally:
        if wrong and options.keep:
            shutil.move(directory, options.keep)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--daemons", type=int, default=2, help="of root [2]; the other user has 1")
    parser.add_argument("--workers", type=int, default=16, help="of each queue, at most [16]")
    parser.add_argument(
        "--gentle", action="store_true", help="kill nothing: no entry is handled twice"
    )
    parser.add_argument("--dir", help="make the queues there")
    parser.add_argument("--keep", metavar="DIR", help="keep everything there if anything is wrong")
    return parser.parse_args()


def _progress(share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{share:4.0%}", end="", file=sys.stderr, flush=True)


def _print_account(chaos: Chaos, account: Account) -> bool:
    """Print the account; return whether anything is wrong."""
    users = "two users" if chaos.workdir.two_users else "one user (no other without root)"
    counts = {**chaos.counts, **account.counts}
    print(f"{users}; " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    for kind, found in account.wrong.items():
        print(f"{kind}: {len(found)}")
        for line in found[:MOST]:
            print(f"    {line}")
    balanced = len(chaos.workdir.queues) - len(chaos.audits)
    print(f"audits that balance: {balanced} of {len(chaos.workdir.queues)}")
    for queue, text in chaos.audits.items():
        print(f"    {queue}: " + "\n        ".join(text.splitlines()[:MOST]))
    for oddity, count in chaos.oddities.items():
        print(f"odd ({count} times): {oddity}")
    return bool(any(account.wrong.values()) or chaos.audits or chaos.oddities)


if __name__ == "__main__":
    sys.exit(main())
