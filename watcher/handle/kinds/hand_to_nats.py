"""`nats`: hand each entry over to a stream of NATS JetStream, for any number of machines.

Fails: `load` raises BadConfiguration if nats-py is not installed, or if a file cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from watcher import durations
from watcher.handle.handler_settings import BATCH, BATCH_WAIT, HandlerSettings
from watcher.jetstream.server_settings import SERVER_OPTIONS, ServerSettings
from watcher.rules import nats_subject
from watcher.rules.finding import OK, Check
from watcher.rules.nats_subject import STREAM_NAME, SubjectTemplate
from watcher.rules.option import Option, period

if TYPE_CHECKING:
    from watcher.handle.handler import Handler

ON_THE_WAY = 256  # entries that a worker has on their way at once


def _subject(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - a reader of an option raises ValueError
    nats_subject.parse(value)
    return value


def _url(value: object) -> str:
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return value
    raise ValueError


class Nats(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ nats = "nats://HOST:4222", stream = "NAME" }`."""

    nats: str
    stream: str = ""
    subject: str = ""
    timeout: float = 10.0  # seconds
    outage: float = 7200.0  # seconds
    monitor: str = ""
    batch: int = ON_THE_WAY
    batch_wait: float = 0.0  # seconds
    credentials_file: str | None = None
    token_file: str | None = None
    user: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "subject": Option(
            _subject,
            'a subject, also with {queue} or {metadata.KEY} in it, as "MAIL.{queue}"',
            "STREAM.{queue}",
            "the subject that an entry is published under",
        ),
        "timeout": Option(
            period, durations.EXPECTED, "10s", "time for the server's answers to a batch"
        ),
        "outage": Option(
            period,
            durations.EXPECTED,
            "2h",
            "the longest time out of service after which no entry may be stored twice: the stream's"
            " duplicate window has to be as long",
        ),
        "monitor": Option(
            _url,
            "a URL like http://HOST:8222",
            "",
            "the server's monitoring page, where `check` sees whether it syncs its disk",
        ),
        "batch": BATCH._replace(
            default=str(ON_THE_WAY), help="so many entries at most are on their way at once"
        ),
        "batch_wait": BATCH_WAIT,
        **SERVER_OPTIONS,
    }
    EXAMPLE: ClassVar[str] = '{ nats = "nats://HOST:4222", stream = "NAME" }'
    COST: ClassVar[str] = (
        "A message and its answer; the answers to a batch are waited for together, so the server's"
        " disk decides."
    )

    @property
    def server(self) -> ServerSettings:
        """Where the server is, and how this program is let in."""
        return ServerSettings(
            self.nats, *(getattr(self, name) for name in ServerSettings._fields[1:])
        )

    @property
    def template(self) -> SubjectTemplate:
        """The subject of an entry."""
        return nats_subject.parse(self.subject or f"{self.stream}.{{queue}}")

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if not STREAM_NAME.fullmatch(self.stream):
            return "stream", "the name of a stream: letters, digits, - and _, at most 64"
        found = self.server.mistake()
        return found and (found[0] or "nats", found[1])

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration."""
        self.server.access("handler")  # a wrong file is found now
        from watcher.handle.nats_handler import NatsHandler, StreamTarget

        target = StreamTarget(
            lambda: self.server.access("handler"), self.stream, self.template, self.timeout
        )
        return NatsHandler(target, self.batch, self.batch_wait)

    def endless(self) -> str:
        """Return "": each attempt has a deadline."""
        return ""

    def try_target(self) -> Iterator[Check]:
        """Look at the server and the stream; nothing is published."""
        from watcher.jetstream.look import Expected, target_findings

        stream = self.stream
        expected = Expected(self.outage, (self.template.pattern,), self.monitor)
        found = list(target_findings(self.server, "handler", stream, expected))
        doubtful = [check for check in found if check.grade != OK]
        for check in doubtful:
            yield check._replace(about="handler", what=f"{check.about}: {check.what}")
        if not doubtful:
            yield Check(OK, "handler", f"stream {stream}: keeps what it acknowledges")
