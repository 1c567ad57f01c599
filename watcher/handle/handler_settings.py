"""What the settings of a handler are: the base class of the Structs in `handler_kinds.KINDS`.

Costs no import of the handler itself: a command that runs no handler does not load one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import msgspec

from watcher.rules.option import Option

if TYPE_CHECKING:
    from watcher.handle.handler import Handler


class HandlerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of one handler. A subclass has a field of the kind's own name.

    OPTIONS: how those fields are read that TOML does not hold as they are (durations, sizes)
    EXAMPLE: what to write, for messages
    """

    OPTIONS: ClassVar[Mapping[str, Option]] = {}
    EXAMPLE: ClassVar[str] = ""

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        return None

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration if it cannot be loaded."""
        raise NotImplementedError
