"""What is logged about a name, once."""

from __future__ import annotations

import pytest

from watcher.observe import mentions
from watcher.rules.names import Layout


@pytest.fixture
def said(monkeypatch):
    """The messages that were logged."""
    messages = []
    monkeypatch.setattr(mentions.log, "event", lambda *words: messages.append(words))
    return messages


def test_a_name_is_mentioned_once_and_one_that_is_expected_never(said):
    before = mentions.Mentions("q", Layout())
    before.expect(b"own-file")
    before.once(b"other", "left alone", "why")
    after = mentions.Mentions("q", Layout())
    after.take_over(before)
    for name in (b"own-file", b"other", b"third"):
        after.once(name, "left alone", "why")
    assert [words[2] for words in said] == ["other: why", "third: why"]
