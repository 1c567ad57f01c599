"""What concerns several options of one queue at once: which go together, and what follows.

Fails: BadConfiguration naming the place, the option, and what was expected.
"""

from __future__ import annotations

import os

import msgspec

from watcher.config.queue_settings import EVERY_NAME, Queue
from watcher.errors import BadConfiguration
from watcher.rules.companions import wrong_for_ending
from watcher.rules.names import OURS
from watcher.rules.path_pattern import PathPattern
from watcher.rules.patterns import DEFAULT_IGNORE, contradicted, plain_ending


def checked(settings: Queue, given: set[str], where: str) -> Queue:
    """Check what concerns several options at once."""
    raw = settings.format == "raw"
    if raw and settings.legacy:
        raise BadConfiguration(f'{where}: legacy: expected false where format is "raw"')
    if not raw and settings.suffix != ".pck":
        raise BadConfiguration(f'{where}: suffix: goes with format = "raw" only')
    if raw and "suffix" not in given and settings.suffix == ".pck":
        settings = msgspec.structs.replace(settings, suffix="")
    if not raw:
        usual = {"match": EVERY_NAME, "ignore": DEFAULT_IGNORE, "marker": "", "companions": ()}
        for key, default in usual.items():
            if getattr(settings, key) != default:
                raise BadConfiguration(f'{where}: {key}: goes with format = "raw" only')
        if settings.ignore_case:
            raise BadConfiguration(f'{where}: ignore_case: goes with format = "raw" only')
    else:
        settings = _patterns(settings, where)
        _check_marker(settings, where)
    if "max_size" in given:
        settings = msgspec.structs.replace(settings, capped=True)
    _check_archive(settings, where)
    _check_writers(settings, where)
    _check_batch(settings, where)
    if settings.handler is not None and not settings.handler.SETTLES:
        _check_trigger(settings, where)
    return settings


def _patterns(settings: Queue, where: str) -> Queue:
    """Check the patterns of a raw queue, and keep what is one ending as its suffix."""
    for ignored in settings.ignored:
        source = contradicted(ignored, (*settings.match, f"*{settings.suffix}"))
        if source is not None:
            raise BadConfiguration(
                f"{where}: ignore: {ignored!r} leaves no entry for {source!r}: take it out of one"
            )
    ending = plain_ending(settings.match)
    if settings.ignore_case and settings.match == EVERY_NAME and settings.suffix:
        return msgspec.structs.replace(settings, match=(f"*{settings.suffix}",), suffix="")
    if ending is None or settings.match == EVERY_NAME or settings.ignore_case:
        return settings
    return msgspec.structs.replace(settings, match=EVERY_NAME, suffix=ending)


def _check_marker(settings: Queue, where: str) -> None:
    """Refuse a marker that two entries could share."""
    ending = b"" if settings.match != EVERY_NAME else os.fsencode(settings.suffix)
    if (wrong := wrong_for_ending(settings.marker, ending)) is not None:
        raise BadConfiguration(f"{where}: marker: {wrong}; got {settings.marker!r}")


def _check_archive(settings: Queue, where: str) -> None:
    """Raise BadConfiguration for an archive that cannot be."""
    if settings.archive is None and (settings.archive_dated or settings.archive_for is not None):
        key = "archive_dated" if settings.archive_dated else "archive_for"
        raise BadConfiguration(f'{where}: {key}: goes with an archive; set archive = "archive/"')
    archived = settings.archived
    if archived is not None and archived.own_name == OURS:
        raise BadConfiguration(f"{where}: archive: expected a directory outside .watcher/")
    target = None if settings.handler is None else settings.handler.moves_to()
    if target is None:
        return
    if archived is not None:
        raise BadConfiguration(f"{where}: archive: goes with no handler that moves the entries")
    if (target + "/").startswith(os.path.join(settings.path, "")):
        raise BadConfiguration(
            f"{where}: handler.move: expected a directory outside the queue; got {target!r}"
        )


def _check_writers(settings: Queue, where: str) -> None:
    """Check what is said of how the queue's writers end."""
    raw = settings.format == "raw"
    if not raw and settings.writers != "any":
        raise BadConfiguration(f'{where}: writers: goes with format = "raw" only')
    if settings.settle and (not raw or settings.writers != "any"):
        beside = 'writers = "any"' if raw else 'format = "raw"'
        raise BadConfiguration(f"{where}: settle: goes with {beside} only")


def _check_trigger(settings: Queue, where: str) -> None:
    """Refuse what says how watcher takes and settles entries: the command does that itself."""
    usual = Queue(name="", path="")
    for key in ("concurrency", "archive", "breaker"):
        if getattr(settings, key) != getattr(usual, key):
            raise BadConfiguration(f"{where}: {key}: {_WITH_TRIGGER[key]}")
    for key in ("give_up_after", "max_attempts", "max_crashes"):
        if getattr(settings.retry, key) != getattr(usual.retry, key):
            raise BadConfiguration(
                f"{where}: retry.{key}: with a trigger no entry is given up: its command takes the"
                " entries, and watcher reports those that stay (warn_after)"
            )


_WITH_TRIGGER = {
    "concurrency": "expected 1: a trigger runs its command once at a time",
    "archive": "with a trigger the command removes the entries: watcher archives none",
    "breaker": "with a trigger no attempts are counted; retry.initial and retry.max say how soon"
    " a command that fails runs again",
}


def _check_batch(settings: Queue, where: str) -> None:
    """Refuse to take entries for poison because of another one in their batch."""
    if getattr(settings.handler, "batch", None) is not None and settings.retry.max_crashes == 1:
        raise BadConfiguration(
            f"{where}: retry.max_crashes: expected 2 or more beside a handler with batch: one crash"
            " would put every entry of a batch into dead/"
        )


def matches_itself(settings: Queue, directory: str) -> bool:
    """Whether a directory of the queue's own is, or lies in, one that the pattern matches."""
    pattern, parts = PathPattern.parse(settings.path), directory.split("/")
    return any(pattern.below("/".join(parts[:end])) for end in range(2, len(parts) + 1))
