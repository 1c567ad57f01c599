"""The daemon without its ledger or without its journal, only to measure what they cost.

    variant.py without-ledger|without-journal|without-both run ...

Without the ledger a death counts against no entry. Without the journal `watcher audit` cannot tell
what became of an entry.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Switch the parts off, and run the command."""
    part = sys.argv.pop(1)
    if part in ("without-ledger", "without-both"):
        from watcher.spool import ledger

        setattr(ledger.Ledger, "take", lambda *_: None)  # noqa: B010 - an assignment mypy refuses
    if part in ("without-journal", "without-both"):
        from watcher.spool import journal

        setattr(journal.Journal, "record", lambda *_: None)  # noqa: B010 - the same
    from watcher.cli import main as command

    command()


if __name__ == "__main__":
    main()
