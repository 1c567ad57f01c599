"""Which files writers have open, and what that means for the claims on these files.

A claim is the lock on a file. It is *open* if a writer had the file open at the claim and has not
closed it since: a handler gets such an entry too early. It is *overtaken* if a writer opened the
file after the claim, which no claim can prevent: the handler may read a part of what it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from explorer.players import Player
from explorer.steps import Step


class Holding:
    """Which actor has which file open for writing, or claimed; a file is its inode."""

    def __init__(self) -> None:
        self._open: set[tuple[int, int]] = set()  # a writer's number, the file
        self._claims: dict[tuple[int, int], str] = {}  # a runner's number, the file: how it is

    def apply(self, player: Player, step: Step) -> None:
        """Record one step."""
        if not step.inodes:
            return
        inode = step.inodes[0]
        if player.role.writes and step.call.endswith(" to write"):
            self._open.add((player.number, inode))
            for claim in self._claims:
                if claim[1] == inode:
                    self._claims[claim] = "overtaken"
        elif player.role.writes and step.call.startswith("close "):
            self._open.discard((player.number, inode))
            self._closed()
        elif not player.role.writes and step.call.startswith("lock ") and step.outcome == "ok":
            is_open = inode in self.open_to_write()
            self._claims[player.number, inode] = "open" if is_open else ""
        elif not player.role.writes and step.call.startswith(("unlock ", "close ")):
            self._claims.pop((player.number, inode), None)

    def _closed(self) -> None:
        still = self.open_to_write()
        for claim, how in self._claims.items():
            if how == "open" and claim[1] not in still:
                self._claims[claim] = ""

    def open_to_write(self) -> set[int]:
        """Return the files that a writer has open."""
        return {inode for _writer, inode in self._open}

    def claimants(self, inode: int) -> list[int]:
        """Return the numbers of the runners that have a file claimed."""
        return [number for number, claimed in self._claims if claimed == inode]

    def flag(self, player: Player, inode: int) -> str:
        """Return the kind of a runner's claim: "open", "overtaken", or "" for neither."""
        return self._claims.get((player.number, inode), "")

    def without(self, player: Player) -> Holding:
        """Return a copy without an actor that was killed."""
        left = Holding()
        left._open = {each for each in self._open if each[0] != player.number}
        left._claims = {c: how for c, how in self._claims.items() if c[0] != player.number}
        left._closed()
        return left

    def facts(self, identity: Mapping[int, str]) -> Iterator[tuple[str, int, str, str]]:
        """Yield the parts of the state that no actor knows."""
        for number, inode in self._open:
            yield "open", number, identity.get(inode, "?"), ""
        for (number, inode), how in self._claims.items():
            if how:
                yield "claimed", number, identity.get(inode, "?"), how
