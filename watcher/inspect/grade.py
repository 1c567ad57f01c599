"""One thing that was looked at, and how it is. PURE."""

from __future__ import annotations

import os
from typing import NamedTuple

OK, WARNING, BAD = "ok", "warning", "bad"


class Check(NamedTuple):
    """One thing looked at: how it is, what it is, and what to do about it."""

    grade: str
    about: str
    what: str
    code: int = os.EX_UNAVAILABLE  # the exit status that it asks for, if it is bad
