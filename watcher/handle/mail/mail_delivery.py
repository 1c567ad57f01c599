"""The handler of `lmtp` and `smtp`: a message to its recipients, each of them once.

Guarantees: the server gets a message again for a recipient that it accepted only after a crash
between that reply and the note of the attempt, or if that note is lost; it then carries the same
X-Watcher-Key. What is known of each recipient is remembered in the note beside the entry, and while
this process lives in memory too. An attempt ends at its deadline, whatever the server does.
Fails: `run` never raises. If some recipients were accepted and the others were refused, the entry
goes to dead/, and a requeue sends to the others alone.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from watcher.errors import Undecodable
from watcher.handle.entry import Entry
from watcher.handle.mail.mail_connection import Access, ServerGone, Trouble
from watcher.handle.mail.mail_pool import MailPool
from watcher.handle.mail.mail_transaction import Letter, Outcomes, prepared, transact
from watcher.rules.mail_address import HEADERS
from watcher.rules.mail_envelope import Envelope, NoEnvelope, envelope, without_bcc
from watcher.rules.mail_replies import ACCEPTED, Fate, Outcome, conclude
from watcher.rules.results import HandlerResult, Verdict, shortened
from watcher.rules.server_address import ServerAddress

AT_ONCE = 100  # recipients of one transaction; RFC 5321 lets a server take no fewer
MOST_KNOWN = 1_000  # entries whose recipients are in memory
MOST_REASONS = 50  # refused recipients whose reply is remembered
LONGEST_SECRET = 4096  # characters


class MailTerms(NamedTuple):
    """What is configured, as `MailSettings` says."""

    address: ServerAddress
    lmtp: bool
    tls: str
    timeout: float  # seconds
    sender: str | None = None
    recipients: str | Sequence[str] | None = None
    user: str | None = None
    password_file: str | None = None
    ca_file: str | None = None


class MailDelivery:
    """Sends messages to one server. Used by several threads at once."""

    def __init__(self, terms: MailTerms) -> None:
        self._terms = terms
        self._pool = MailPool()
        self._lock = threading.Lock()
        # By key, the oldest first: what an attempt knew that did not end well.
        self._known: OrderedDict[str, Outcomes] = OrderedDict()
        self._context = None if terms.tls == "none" else tls_context(terms.ca_file)

    def run(self, entry: Entry) -> HandlerResult:
        """Send the message to every recipient that does not have it yet."""
        deadline = time.monotonic() + self._terms.timeout
        try:
            key, message = entry.key, entry.message
            found = self._envelope(entry, message)
            if self._terms.recipients == HEADERS:
                message = without_bcc(message)
            letter = Letter(found.sender, prepared(message, key))
            before = self._recalled(entry, key)
        except NoEnvelope as error:
            return HandlerResult(Verdict.REJECT, shortened(f"cannot be sent: {error}"))
        except Undecodable as error:
            return HandlerResult(Verdict.REJECT, str(error))
        except (OSError, MemoryError) as error:
            why = f"cannot be read: {getattr(error, 'strerror', None) or repr(error)}"
            return HandlerResult(Verdict.RETRY, shortened(why), ran=False)
        outcomes = {each: before[each] for each in found.recipients if each in before}
        self._deliver(letter, found.recipients, outcomes, deadline)
        every = {each: outcomes[each] for each in found.recipients}
        every |= {each: Outcome(Fate.REFUSED, why) for each, why in found.wrong.items()}
        return self._result(key, every, before)

    def terminate(self) -> None:
        """End what is being sent: a recipient without a reply is tried again."""
        self._pool.stop()

    def access(self) -> Access:
        """Return how to connect now; raises OSError if the password cannot be read."""
        terms, login = self._terms, None
        if terms.user is not None and terms.password_file is not None:
            login = (terms.user, read_password(terms.password_file))
        return Access(terms.address, terms.lmtp, terms.tls, self._context, login)

    def _envelope(self, entry: Entry, message: bytes) -> Envelope:
        terms = self._terms
        return envelope(terms.sender, terms.recipients, entry.metadata, message)

    def _deliver(
        self, letter: Letter, recipients: Sequence[str], outcomes: Outcomes, deadline: float
    ) -> None:
        """Send in as many transactions as are needed; give every recipient an outcome."""
        while left := [each for each in recipients if each not in outcomes]:
            try:
                self._one_transaction(letter, left[:AT_ONCE], outcomes, deadline)
            except ServerGone:
                continue  # with another connection; a new one is never that
            except Trouble as trouble:
                for each in left:
                    outcomes.setdefault(each, trouble.outcome)

    def _one_transaction(
        self, letter: Letter, recipients: Sequence[str], outcomes: Outcomes, deadline: float
    ) -> None:
        where = self._terms.address
        try:
            connection = self._pool.take(self.access(), deadline, self._terms.timeout)
        except OSError as error:
            raise Trouble(Fate.OPERATOR, f"password_file: {error.strerror}") from None
        except Trouble as trouble:
            raise Trouble(trouble.outcome.fate, f"{where}: {trouble}") from None
        try:
            transact(connection, letter, recipients, outcomes)
        except ServerGone:
            self._pool.drop(connection)
            raise
        except Trouble as trouble:
            self._pool.drop(connection)
            raise Trouble(trouble.outcome.fate, f"{where}: {trouble}") from None
        self._pool.give_back(connection)

    def _result(
        self, key: str, outcomes: Mapping[str, Outcome], before: Mapping[str, Outcome]
    ) -> HandlerResult:
        """Return the result, with what the next attempt needs to know."""
        known = {each: said for each, said in outcomes.items() if said.fate in _FOR_EVER}
        learned = any(before.get(each) != said for each, said in known.items())
        result = conclude(outcomes, learned=learned)
        if result.verdict is Verdict.RETRY and self._pool.stopped:
            if not learned:
                return HandlerResult(Verdict.STOPPED, "stopped at once", ran=False)
            result = replace(result, after=0.0)
        if result.verdict is Verdict.REJECT:  # if it is requeued, those that were refused are tried
            known = {each: said for each, said in known.items() if said.fate is Fate.FINE}
        with self._lock:
            self._known.pop(key, None)
            if result.verdict is not Verdict.DONE and known:
                self._known[key] = known
                if len(self._known) > MOST_KNOWN:
                    self._known.popitem(last=False)
        if result.verdict is Verdict.DONE or not (known or before):
            return result
        return replace(result, remembered=_as_note(key, known))

    def _recalled(self, entry: Entry, key: str) -> Outcomes:
        """Return what is known of the recipients, from the note and from memory."""
        known = _from_note(entry.remembered, key)
        with self._lock:
            for each, said in self._known.get(key, {}).items():
                if known.get(each) != ACCEPTED:
                    known[each] = said
        # A first attempt that knows something follows a requeue: those that were refused are tried.
        first = entry.attempt == 1
        return {each: said for each, said in known.items() if not (first and said != ACCEPTED)}


_FOR_EVER = (Fate.FINE, Fate.REFUSED)


def _as_note(key: str, known: Mapping[str, Outcome]) -> dict[str, object]:
    refused = [(each, said.why) for each, said in known.items() if said.fate is Fate.REFUSED]
    reasons = [why if number < MOST_REASONS else "" for number, (_, why) in enumerate(refused)]
    return {
        "key": key,
        "accepted": [each for each, said in known.items() if said.fate is Fate.FINE],
        "refused": {each: why for (each, _), why in zip(refused, reasons, strict=True)},
    }


def _from_note(note: Mapping[str, object], key: str) -> Outcomes:
    """Return what an earlier attempt at the same commit knew."""
    if note.get("key") != key:
        return {}
    known: Outcomes = {}
    refused, accepted = note.get("refused"), note.get("accepted")
    if isinstance(refused, dict):
        known |= {str(each): Outcome(Fate.REFUSED, str(why)) for each, why in refused.items()}
    if isinstance(accepted, list):
        known |= dict.fromkeys(map(str, accepted), ACCEPTED)
    return known


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return how TLS is checked: the certificate's chain and the host's name; raises OSError."""
    return ssl.create_default_context(cafile=ca_file)


def read_password(path: str) -> str:
    """Return the first line of a file; raises OSError, also if the line is no password."""
    with open(path, encoding="utf-8") as file:
        try:
            word = file.readline(LONGEST_SECRET).rstrip("\r\n")
        except UnicodeDecodeError:
            word = ""
    if not word or not word.isascii():
        raise OSError(0, "its first line is no password in ASCII")
    return word
