"""`lmtp`: a message to a mail store, such as Dovecot or Cyrus; each recipient has its own answer.

Fails: as `MailSettings`.
"""

from __future__ import annotations

from typing import ClassVar

from watcher.handle.mail.mail_settings import MailSettings
from watcher.rules import server_address
from watcher.rules.server_address import ServerAddress


class Lmtp(MailSettings, frozen=True, forbid_unknown_fields=True):
    """`{ lmtp = "/run/dovecot/lmtp", to = ["ann@example.org"] }`."""

    lmtp: str

    EXAMPLE: ClassVar[str] = '{ lmtp = "/run/dovecot/lmtp" }'
    COST: ClassVar[str] = (
        "One transaction for 100 recipients, over a connection that is kept for 5 seconds."
    )

    @property
    def address(self) -> ServerAddress:
        """Where the server is; raises WrongValue."""
        return server_address.parse(self.lmtp)
