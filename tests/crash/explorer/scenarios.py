"""The scenarios: which actors work on one queue, and which events may occur."""

from __future__ import annotations

from explorer import (
    scenarios_of_archives,
    scenarios_of_entries,
    scenarios_of_markers,
    scenarios_of_writers,
)
from explorer.run import Scenario


def all_scenarios() -> list[Scenario]:
    """Return every scenario."""
    return [
        *scenarios_of_writers.scenarios(),
        *scenarios_of_markers.scenarios(),
        *scenarios_of_archives.scenarios(),
        *scenarios_of_entries.scenarios(),
    ]
