"""The scenarios: who meets whom on one queue, and what befalls them."""

from __future__ import annotations

from explorer import scenarios_of_entries, scenarios_of_writers
from explorer.run import Scenario


def all_scenarios() -> list[Scenario]:
    """Return every scenario."""
    return [*scenarios_of_writers.scenarios(), *scenarios_of_entries.scenarios()]
