"""Mailman 3's own runner of `in`, woken by a trigger.

Mailman's configuration names the class (`class:` of the section `[runner.in]`), and this module
must be importable for Mailman.
"""

from __future__ import annotations

from mailman.runners.incoming import IncomingRunner  # type: ignore[import-not-found]

from bench.peers.woken import Woken


class WokenIncoming(Woken, IncomingRunner):  # type: ignore[misc]
    """All of it is Mailman's, but for its sleep."""
