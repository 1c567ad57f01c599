"""The daemon without its ledger, or without its journal: to price them, and for nothing else.

    variant.py without-ledger|without-journal|without-both run ...

Without the ledger a death is counted against no entry, without the journal nothing tells what
became of one.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Take the parts out, and run the command."""
    part = sys.argv.pop(1)
    if part in ("without-ledger", "without-both"):
        from watcher.claim import ledger

        setattr(ledger.Ledger, "take", lambda *_: None)  # noqa: B010 - an assignment mypy refuses
    if part in ("without-journal", "without-both"):
        from watcher.spool import journal

        setattr(journal.Journal, "record", lambda *_: None)  # noqa: B010 - the same
    from watcher.cli import main as command

    command()


if __name__ == "__main__":
    main()
