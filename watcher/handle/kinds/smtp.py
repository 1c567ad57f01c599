"""`smtp`: a message to a mail server, such as Postfix, which sends it on.

Fails: as `MailSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from watcher.handle.mail.mail_settings import MailSettings, absolute_path
from watcher.rules import server_address
from watcher.rules.option import Option
from watcher.rules.server_address import ServerAddress


def _name(value: object) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise ValueError


class Smtp(MailSettings, frozen=True, forbid_unknown_fields=True):
    """`{ smtp = "HOST:PORT", user = "NAME", password_file = "/FILE" }`."""

    smtp: str
    user: str | None = None
    password_file: str | None = None

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        **MailSettings.OPTIONS,
        "user": Option(_name, "a name", "none", "for which a password is sent"),
        "password_file": Option(
            absolute_path,
            "the absolute path of a file",
            "none",
            "its first line is the password; read at each connection; not readable by every user",
        ),
    }
    EXAMPLE: ClassVar[str] = '{ smtp = "localhost:25" }'
    COST: ClassVar[str] = (
        "One transaction for 100 recipients, over a connection that is kept for 5 seconds."
    )

    @property
    def address(self) -> ServerAddress:
        """Where the server is; raises WrongValue."""
        return server_address.parse(self.smtp)

    @property
    def login(self) -> tuple[str | None, str | None]:
        """The user, and the file with the password."""
        return self.user, self.password_file

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if (wrong := super().mistake()) is not None:
            return wrong
        if (self.user is None) != (self.password_file is None):
            missing = "user" if self.user is None else "password_file"
            return missing, "both user and password_file, or neither"
        if self.user is not None and self.tls_used == "none" and not self.address.is_local:
            return "tls", '"starttls" or "implicit": a password is not sent in the clear'
        return None
