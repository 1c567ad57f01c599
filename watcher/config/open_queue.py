"""Opens the directory of a queue as its settings say.

Fails: NoSuch, NotPermitted or Unavailable.
"""

from __future__ import annotations

import os

from watcher.config.queue_settings import Queue
from watcher.spool.spool import Spool


def open_spool(settings: Queue) -> Spool:
    """Open the queue's directory."""
    spool = Spool(os.fsencode(settings.path), settings.layout, outside=settings.outside)
    spool.use_journal(settings.journal, settings.journal_outside, settings.kept)
    spool.use_archive(settings.archived, settings.target)
    return spool
