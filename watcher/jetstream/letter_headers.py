"""What a dead letter says beside its message: why it is one, and under which subject it is kept.

The message's own headers stay, but for those that concern its way into the first stream.

Fails: never.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from watcher.errors import one_line
from watcher.jetstream.delivered import Delivery
from watcher.jetstream.messages import ENTRY, EXPECTED_STREAM, ID, KEY, METADATA, QUEUE
from watcher.jetstream.stream_setup import DEAD
from watcher.rules.dead_letter import is_plain

SUBJECT, REASON, FACTS = "Watcher-Subject", "Watcher-Reason", "Watcher-Facts"
# Headers of a message that its dead letter has in another way, or not.
_NOT_OURS = frozenset(name.lower() for name in (ID, KEY, EXPECTED_STREAM))


class DeadLetter(NamedTuple):
    """Why an entry goes to the dead letters, and after how much."""

    reason: str
    facts: Mapping[str, object]


def letter_of(delivery: Delivery, stream: str, letter: DeadLetter) -> tuple[str, dict[str, str]]:
    """Return the subject of a message's dead letter and its headers, the most needed ones first.

    What does not fit is left out, the last ones first. A requeue has to give the handler the entry
    as it was, so the reason comes after what the entry is.
    """
    key = delivery.key(stream)
    given = {name: text for name, text in delivery.headers.items() if name not in _NOT_OURS}
    entry = [name.lower() for name in (ENTRY, QUEUE, METADATA) if name.lower() in given]
    headers = {ID: f"{key}.{delivery.sequence}.{delivery.stored_us}", KEY: key}
    headers |= {name: given.pop(name) for name in entry}
    plain = is_plain(delivery.subject)
    if plain:  # otherwise it is requeued under a subject of its own
        headers[SUBJECT] = delivery.subject
    headers[REASON] = one_line(letter.reason)
    headers[FACTS] = json.dumps(letter.facts)
    tail = delivery.subject.partition(".")[2] if plain else ""
    return f"{stream}{DEAD}.{tail or '_'}", headers | given
