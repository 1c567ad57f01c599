"""What a path in the archive of a queue is: a handled entry, and when it is removed.

Guarantees: only lstat(2) is called; nothing is opened.
Fails: NoSuch or NotPermitted if the file cannot be looked at.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator

from watcher.config.queue_settings import Queue
from watcher.durations import show
from watcher.inspect.explanation import Explanation, status_of
from watcher.inspect.file_facts import Fact, looked_at, moment
from watcher.rules.age import SECOND
from watcher.rules.archived_names import DAY, day_begin
from watcher.rules.names import OURS, display


def queues_above(path: bytes) -> Iterator[bytes]:
    """Yield the directories above a path that have a `.watcher`: each may be its queue."""
    directory = os.path.dirname(path)
    while True:
        if os.path.isdir(os.path.join(directory, OURS)):
            yield directory
        if directory == os.path.dirname(directory):
            return
        directory = os.path.dirname(directory)


def archive_of(settings: Queue) -> bytes | None:
    """Return the path of a queue's archive; None if it has none."""
    archived = settings.archived
    if archived is None:
        return None
    return os.path.join(os.fsencode(settings.path), archived.directory)


def is_archived(path: bytes, settings: Queue) -> bool:
    """Whether a path is the archive of a queue, or in it."""
    archive = archive_of(settings)
    return archive is not None and (path + b"/").startswith(archive + b"/")


def explain_archived(path: bytes, settings: Queue) -> Explanation:
    """Explain a path in the archive of a queue."""
    status = status_of(path)
    archive = archive_of(settings) or b"/"
    facts = [*looked_at(status), Fact("queue", settings.path), Fact("archive", display(archive))]
    if path == archive:
        return Explanation("ours: handled entries are moved here", facts, {})
    inside = path[len(archive) + 1 :].split(b"/")
    begin = day_begin(inside[0])
    if begin is not None and len(inside) == 1 and stat.S_ISDIR(status.st_mode):
        return Explanation("ours: the entries that were handled on that day (UTC)", facts, {})
    if not stat.S_ISREG(status.st_mode) or len(inside) > (1 if begin is None else 2):
        return Explanation("left alone: in the archive, but not moved there by a daemon", facts, {})
    since = status.st_ctime_ns
    if begin is not None and since < begin:
        since = begin + DAY
    age = max(0.0, time.time() - since / SECOND)
    facts.append(Fact("archived", f"{show(age)} ago, by its ctime"))
    if settings.archive_for is None:
        facts.append(Fact("removed", "never: archive_for is not set"))
    else:
        left = settings.archive_for - age
        when = "by the next pass" if left <= 0 else f"in {show(left)}{moment(left)}"
        facts.append(Fact("removed", f"{when}: archive_for is {show(settings.archive_for)}"))
    facts.append(Fact("again", "watcher requeue --state archived has it handled again"))
    return Explanation("archived: it was handled, and is not handled from here", facts, {})
