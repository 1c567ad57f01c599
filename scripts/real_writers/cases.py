"""All writers of the table, in its order: importing a module adds the writers in it."""

from __future__ import annotations

import importlib

from real_writers.case import CASES

__all__ = ["CASES", "UNKNOWABLE"]

_MODULES = (
    "local",
    "editors",
    "imitated",
    "mail",
    "downloads",
    "by_rsync",
    "over_ssh",
    "over_ftp",
    "over_net",
)
for module in _MODULES:
    importlib.import_module(f"real_writers.{module}")

UNKNOWABLE = {case.name: case.unknown for case in CASES if case.unknown}
