"""What the answer of an HTTP server means for an entry. PURE.

    status                                result
    ------------------------------------  ---------------------------------------------------------
    2xx                                   done
    2xx before the server had everything  retry: it cannot have read what it did not have
    408, 425, 429, 5xx                    retry, not before the moment that Retry-After says
    409, not at the first attempt         retry: the server may be at work with the earlier request
    401, 403, 407                         misconfigured: the credentials are the operator's
    3xx that is not followed              misconfigured: the URL is the operator's
    any other 4xx                         reject
    anything else                         retry: no HTTP server answers so

Fails: never.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from watcher.rules.results import Verdict

FOLLOWED = (307, 308)  # the redirects that keep the method and the body
LONGEST_ASKED = 86400.0  # seconds: the longest time that a server may ask for
_REFUSED = (401, 403, 407)
_LATER = (408, 425, 429)
_CONFLICT = 409
_SUCCESS, _REDIRECT, _CLIENT, _SERVER = 2, 3, 4, 5  # the hundreds
_PORTS = {"http": 80, "https": 443}


class Redirect(NamedTuple):
    """Where a redirect leads: a URL of the same server, or "" and why it is not followed."""

    url: str
    why: str = ""


def verdict_of(status: int, *, complete: bool, repeated: bool) -> Verdict:
    """Return the result of a status.

    `complete`: the server had the whole request; `repeated`: an earlier request may be under way.
    """
    hundreds = status // 100
    if hundreds == _SUCCESS:
        return Verdict.DONE if complete else Verdict.RETRY
    if status in _REFUSED or hundreds == _REDIRECT:
        return Verdict.MISCONFIGURED
    if hundreds == _CLIENT and status not in _LATER and not (status == _CONFLICT and repeated):
        return Verdict.REJECT
    return Verdict.RETRY


def retry_after(value: str, date: str, now: float) -> float:
    """Return the seconds that Retry-After asks for; 0 if it asks for nothing that counts.

    A moment counts from the answer's own `date`, because the server's clock may be wrong; without
    one from `now`, in seconds since 1970.
    """
    value = value.strip()
    if re.fullmatch("[0-9]{1,12}", value):
        seconds = float(value)
    else:
        until = _moment(value)
        if until is None:
            return 0.0
        begin = _moment(date)
        seconds = until - (now if begin is None else begin)
    return min(max(seconds, 0.0), LONGEST_ASKED)


def _moment(text: str) -> float | None:
    """Return the time of an HTTP date, in seconds since 1970; None if it is none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # The oldest of the three forms of a date in HTTP names no zone, and means UTC.
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def redirect(url: str, status: int, location: str) -> Redirect:
    """Return where an answer of status 3xx to a request for `url` leads."""
    if status not in FOLLOWED:
        return Redirect("", "only 307 and 308 say that the message is to be sent elsewhere")
    try:
        target = urlsplit(urljoin(url, location.strip()))
        same = location.strip() != "" and _origin(target) == _origin(urlsplit(url))
    except ValueError:
        return Redirect("", "its Location is no URL")
    if not same:
        return Redirect("", "another server, or another scheme, is not followed")
    return Redirect(urlunsplit(target._replace(fragment="")))


def without_query(url: str) -> str:
    """Return a URL as messages show it: its query may hold a secret, and a user's name too."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return "no URL"


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None, str]:
    """Return scheme, host and port, and the user that is named before them; raise ValueError."""
    user = parts.netloc.rpartition("@")[0]
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme), user
