"""The stepper, for every test of threads."""

from __future__ import annotations

from tests.threads.stepping import steps  # noqa: F401 - a fixture
