"""Which queues of a configuration have the same archive: a file there does not say whose it was.

Guarantees: nothing is opened or made.
Fails: BadConfiguration if the configuration cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from watcher.config.load import load
from watcher.config.queue_settings import Queue
from watcher.errors import Usage


def refuse_shared(settings: Queue, config: str | None, environment: Mapping[str, str]) -> None:
    """Raise Usage if a queue of the configuration, if there is one, has the archive of this one."""
    file = config or environment.get("WATCHER_CONFIG")
    place = _place(settings)
    if file is None or place is None:
        return
    for name, other in load(file, environment).items():
        if name != settings.name and _place(other) == place:
            raise Usage(
                f"archive = {settings.archive}: queue {name} has it, too, and no file there says"
                " whose it was: name the entries, or give each queue an archive of its own"
            )


def _place(settings: Queue) -> str | None:
    """Return the real path of a queue's archive; of a pattern, that all its queues share."""
    if settings.archive is None:
        return None
    return os.path.realpath(os.path.join(settings.path, settings.archive))
