"""What a mail server's reply means for an entry and its recipients. PURE.

    stage     reply              then
    --------  -----------------  -------------------------------------------------------------------
    any       421                later, and the connection is of no use any more
    any       4xx                later
    greeting, 5xx                the operator's mistake: the server serves no entry
    hello,
    TLS, AUTH
    mail ...  530 534 535 538    the operator's mistake: the server wants AUTH or TLS
    mail ...  503                later, and the connection is of no use any more
    mail      5xx                refused, for each recipient
    rcpt      452 552            later; if the server took others in this transaction, in the next
                                 one at once: it takes no more recipients at a time (RFC 5321)
    rcpt      5.2.2 or other 5xx refused, for this recipient
    data      354                the message may be sent; a 2xx is none that RFC 5321 has
    data, end 5xx                refused
    end       2xx                accepted: by LMTP for one recipient, by SMTP for all
    any       another            later, and the connection is of no use any more

Fails: never.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import NamedTuple

from watcher.rules.option import shown
from watcher.rules.results import HANDLED, HandlerResult, Verdict, shortened

SHOWN = 5  # recipients that a reason names
LONGEST_NAME = 100  # characters of a recipient in a reason
LONGEST_REPLY = 200  # characters of a reply in a reason


class Stage(enum.Enum):
    """What was asked of the server."""

    GREETING = "the connection"
    HELLO = "EHLO"
    TLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    END = "the message"


class Fate(enum.Enum):
    """What a reply means."""

    FINE = "fine"
    LATER = "later"
    REFUSED = "refused"
    OPERATOR = "the operator's mistake"


class Reply(NamedTuple):
    """A reply of a server: its code, and its text in one line."""

    code: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()[:LONGEST_REPLY]


class Meaning(NamedTuple):
    """What a reply means, and whether the connection is of no use after it."""

    fate: Fate
    ends: bool = False


class Outcome(NamedTuple):
    """What became of one recipient, and why in words.

    `general`: the recipient has nothing to do with it, so entries that fail so fail alike, and the
    reason does not name it (`rules.breaker`).
    """

    fate: Fate
    why: str = ""
    general: bool = False


ACCEPTED = Outcome(Fate.FINE)
_BEFORE = (Stage.GREETING, Stage.HELLO, Stage.TLS, Stage.AUTH)
_GOOD = {Stage.GREETING: (220,), Stage.TLS: (220,), Stage.AUTH: (235,), Stage.DATA: (354,)}
_UNAVAILABLE, _BAD_SEQUENCE, _TOO_MANY, _FULL = 421, 503, 452, 552
_WANTS_MORE = (530, 534, 535, 538)  # AUTH, another mechanism, a right password, or TLS
_LATER, _REFUSED = 4, 5  # the first digit
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")  # an enhanced status code, RFC 3463


def meaning(stage: Stage, reply: Reply) -> Meaning:
    """Return what a reply means."""
    code, kind = reply.code, reply.code // 100
    if code in _GOOD.get(stage, range(200, 300)):
        return Meaning(Fate.FINE)
    if code in (_UNAVAILABLE, _BAD_SEQUENCE):
        operator = code == _BAD_SEQUENCE and stage in _BEFORE
        return Meaning(Fate.OPERATOR if operator else Fate.LATER, ends=True)
    if kind == _LATER:
        return Meaning(Fate.LATER)
    if kind == _REFUSED:
        if stage in _BEFORE or code in _WANTS_MORE:
            return Meaning(Fate.OPERATOR)
        full = stage is Stage.RCPT and code == _FULL and _status(reply) in ("", "5.5.3")
        return Meaning(Fate.LATER if full else Fate.REFUSED)
    return Meaning(Fate.LATER, ends=True)


def too_many(reply: Reply) -> bool:
    """Whether the reply to a RCPT says that the next transaction may take this recipient.

    A status code of the mailbox (4.2.x) says that the recipient is the reason.
    """
    return reply.code in (_TOO_MANY, _FULL) and _status(reply)[1:4] != ".2."


def _status(reply: Reply) -> str:
    found = _STATUS.match(reply.text)
    return "" if found is None else found[0]


def conclude(outcomes: Mapping[str, Outcome], *, learned: bool = False) -> HandlerResult:
    """Return the result for an entry by what became of each of its recipients.

    `learned`: this attempt knows more of them than the one before. Then the result is never
    MISCONFIGURED, which is counted as no attempt and leaves the note as it is.
    """
    by_fate: dict[Fate, list[str]] = {fate: [] for fate in Fate}
    for recipient, outcome in outcomes.items():
        by_fate[outcome.fate].append(recipient)
    accepted, refused = by_fate[Fate.FINE], by_fate[Fate.REFUSED]
    later = by_fate[Fate.LATER] + by_fate[Fate.OPERATOR]
    if not later and not refused:
        return HANDLED
    verdict = Verdict.RETRY if later else Verdict.REJECT
    if by_fate[Fate.OPERATOR] and not learned:
        verdict = Verdict.MISCONFIGURED
    words = []
    if later:
        words.append(_words("not accepted yet", later, outcomes))
    if refused:
        words.append(_words("refused", refused, outcomes))
    if accepted:
        words.append(f"accepted: {_named(accepted)}" + (", ..." if len(accepted) > SHOWN else ""))
    return HandlerResult(verdict, shortened("; ".join(words)))


def _named(recipients: list[str]) -> str:
    """Name the first recipients; one that is no address may be empty, long or unprintable."""
    plain = (each and each.isprintable() and len(each) <= LONGEST_NAME for each in recipients)
    pairs = zip(recipients[:SHOWN], plain, strict=False)
    return ", ".join(each if is_plain else shown(each) for each, is_plain in pairs)


def _words(what: str, recipients: list[str], outcomes: Mapping[str, Outcome]) -> str:
    """Say what became of some recipients, each reason once."""
    reasons: dict[str, list[str]] = {}
    for recipient in recipients:
        reasons.setdefault(outcomes[recipient].why, []).append(recipient)
    if len(recipients) == len(outcomes) and len(reasons) == 1:
        ((why, _),) = reasons.items()  # all alike: the reason alone
        alone = len(recipients) > 1 or outcomes[recipients[0]].general
        return why if alone else f"{_named(recipients)}: {why}"
    texts = []
    for why, alike in list(reasons.items())[:SHOWN]:
        more = f" and {len(alike) - SHOWN} more" if len(alike) > SHOWN else ""
        texts.append(f"{_named(alike)}{more}: {why}")
    return f"{len(recipients)} of {len(outcomes)} recipients {what}: {'; '.join(texts)}"
