"""One finding of `check`. PURE."""

from __future__ import annotations

import os
from typing import NamedTuple

OK, WARNING, BAD = "ok", "warning", "bad"


class Check(NamedTuple):
    """One finding: how good it is, what it is about, and what to do about it."""

    grade: str
    about: str
    what: str
    code: int = os.EX_UNAVAILABLE  # the exit status of `check` if the finding is bad
