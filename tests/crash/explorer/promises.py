"""The promises that must hold in every state, and those that must hold at the end.

1. Nothing is handled before its writer finished: a handler sees all that the writer wrote, after
   its last step; of a writer that was killed, whatever it left that cannot be told from whole. No
   entry is claimed and handled while a writer has it open. What a writer adds to an entry that is
   in hand, a handler may see in part; then it is given all of it once more.
2. Nothing that is committed is forgotten: when all is quiet it was handled, or lies where the
   handler's word put it.
3. Nothing is deleted but what a handler called done: each file that a writer made is at some name,
   from the moment it is made, however short it is.
4. Once without a crash: a handler's "done" is its last word; each killed runner may cost one more.
   And never two handlers at once. A living process handles no entry twice.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from explorer.actors import MARKER, TOKEN, message, names
from explorer.holding import Holding
from explorer.players import Player
from explorer.snapshot import read, tree
from explorer.steps import ENDED, GONE, REAL, Step

_MAY_COME_AGAIN = ("...", "?")  # in part; and whole, but a writer opened it meanwhile
_AGES = ("rename", "move", "link", "unlink", "write", "rmdir", "mkdir")


class World:
    """The events of one run that concern the promises."""

    def __init__(
        self, root: str, again: int = 0, *, marked: bool = False, archives: bool = False
    ) -> None:
        self.root = root
        self._archives = archives  # a done file is not removed either
        self._marked = marked  # only its marker says that a file is complete
        self._again = again  # how often an entry may be done once more: it cannot be removed
        self.identity: dict[int, str] = {}  # of an inode: the actor that made it, and its step
        self.events: set[str] = set()
        self.broken: list[str] = []
        self.holding = Holding()
        self._version: dict[int, str] = {}  # of an inode: whose step changed it last
        self._owed: set[str] = set()  # files that must be somewhere
        self._done: Counter[str] = Counter()  # by token; see `_MAY_COME_AGAIN`
        self._said: dict[tuple[int, int], str] = {}  # runner, file: what it called done last
        self._done_by: Counter[tuple[int, str]] = Counter()  # the same, of each actor that lives
        self._at_work: dict[str, int] = {}  # token -> whose handler has it
        self._called: dict[str, str] = {}  # the name that each was first handled under
        self._finished: set[str] = set()  # writers that came to their end
        self._removed: set[str] = set()  # tokens of what an operator deleted
        self._dead_writers: set[str] = set()
        self._dead_runners = 0
        self._writers: dict[str, str] = {}  # token -> writer
        self._here(root, "")

    def _here(self, directory: str, below: str) -> None:
        """Record the files that were there before the first actor."""
        with REAL["scandir"](directory) as items:
            for item in items:
                where = below + item.name
                self.identity[item.inode()] = f"{where} from the start"
                if item.is_dir(follow_symlinks=False):
                    self._here(item.path, where + "/")
                elif not item.name.endswith(MARKER):
                    self._owed.add(self.identity[item.inode()])

    def facts(self) -> Iterator[object]:
        """Yield the parts of the state that are neither in the directory nor in an actor."""
        yield sorted(self._owed)
        yield sorted(self._done.items())
        yield sorted(self._done_by.items())
        yield sorted(self.holding.facts(self.identity))
        yield sorted(self._at_work.items())
        yield sorted(self._called.items())
        yield sorted(self._removed)
        yield sorted(self.events)
        yield sorted(self._dead_writers)
        yield self._dead_runners

    # -- steps ------------------------------------------------------------------------------------

    def apply(self, player: Player, step: Step, players: Sequence[Player]) -> None:
        """Record one step."""
        player.steps += 1
        player.changed = step.changed
        player.calls[step.call] += 1  # not a number of its steps: two ways may differ in looks
        label = f"{player.role.name}: {step.call} {player.calls[step.call]}"
        if step.born:
            self.identity[step.inodes[0]] = label
            self._version.pop(step.inodes[0], None)
            if player.role.writes and not step.call.endswith(f"{MARKER} to write"):
                self._owed.add(label)
        if step.changed and step.call.startswith(_AGES):
            self._version[step.inodes[0]] = label
            self._of_a_writer(player, step)
        if player.role.writes and step.call.endswith(" to write"):
            self._opened(step.inodes[0])
        self.holding.apply(player, step)
        if _counts(step.event, players):
            self.events.add(step.event)
        if step.word:
            self._handler(player, step, players)
        if step.call.startswith("stat "):
            seen = [(self.identity.get(inode), None) for inode in step.inodes]
        else:
            seen = [(self.identity.get(inode), self._version.get(inode)) for inode in step.inodes]
        player.history = _chain(player.history, (step.call, step.outcome, seen))

    def _opened(self, inode: int) -> None:
        """Let a writer open what was done and is still there: it goes back, and comes again."""
        for number in self.holding.claimants(inode):
            token = self._said.pop((number, inode), "")
            if token and not token.endswith(_MAY_COME_AGAIN):
                self._done[token] -= 1
                self._done_by[number, token] -= 1
                self._done[token + "?"] += 1

    def _of_a_writer(self, player: Player, step: Step) -> None:
        """Let a writer take back its own, and put a new file in the place of an old one."""
        if player.role.deletes and step.call.startswith("unlink"):
            self._owed.discard(self.identity.get(step.inodes[0], ""))
            self._removed.add(player.role.deletes)
        if player.role.writes and step.call.startswith(("unlink", "rename")):
            gone = step.inodes[0 if step.call.startswith("unlink") else 1]
            which = self.identity.get(gone, "")
            if which not in {still for _, still, _, _ in tree(self.root, self.identity)}:
                self._owed.discard(which)  # it had no other name

    def _handler(self, player: Player, step: Step, players: Sequence[Player]) -> None:
        what, body, metadata = step.word
        found = [token.decode()[1:] for token in TOKEN.findall(body.encode("latin-1"))]
        token, whole = (found or [""])[0], body.encode("latin-1") == b"".join(map(message, found))
        if what.startswith("begins "):
            overtaken = self._claimed_well(player, step)
            self._begins(player, token, metadata, whole=whole, overtaken=overtaken)
            self._as_before(token, what.removeprefix("begins "))
            if not overtaken:
                self._early(token, players)
            return
        self._at_work.pop(token, None)
        if what != "done":
            return
        again = any(self.holding.flag(player, inode) == "overtaken" for inode in step.inodes)
        token = "+".join(found) + ("..." if not whole else "?" if again else "")
        self._done[token] += 1
        self._done_by[player.number, token] += 1
        self._said.update({(player.number, inode): token for inode in step.inodes})
        for inode in step.inodes if not self._archives else ():
            self._owed.discard(self.identity.get(inode, ""))
        if not token or token.endswith(_MAY_COME_AGAIN):
            return
        if self._done_by[player.number, token] > 1:
            self.broken.append(f"handled twice by one process: {token}")
        most = 1 + self._dead_runners + self._again
        if self._done[token] > most:
            self.broken.append(
                f"handled twice: {token} was done {self._done[token]} times,"
                f" and {self._dead_runners} runners were killed"
            )

    def _claimed_well(self, player: Player, step: Step) -> bool:
        """Look whether it was claimed with no writer; say whether one has opened it since."""
        flags = {self.holding.flag(player, inode) for inode in step.inodes}
        if "open" in flags:
            self.broken.append("handled early: claimed while a writer had it open")
        return "overtaken" in flags

    def _begins(
        self, player: Player, token: str, metadata: str, *, whole: bool, overtaken: bool
    ) -> None:
        excused = overtaken or (bool(self._dead_writers) and not self._marked)
        if not token:
            if not excused:
                self.broken.append("handled early: half a message")
            return
        if token in self._at_work:
            self.broken.append(f"handled by two at once: {token}")
        self._at_work[token] = player.number
        if not whole and not excused:
            self.broken.append(f"handled changed: {token}")
        facts = re.findall(r"<<d([a-z0-9]+)>>", metadata)
        if metadata != "{}" and facts != [token] and not self._dead_writers:
            self.broken.append(f"handled with metadata that is not its own: {metadata}")

    def _as_before(self, token: str, name: str) -> None:
        if self._called.setdefault(token, name) != name:
            self.broken.append(f"handled under another key: {token} as {name}")

    def _early(self, token: str, players: Sequence[Player]) -> None:
        for player in players:
            is_its = player.role.writes and player.role.name.endswith(f" {token}")
            if is_its and player.state == "alive":
                self.broken.append(f"handled early: {player.role.name} was still writing")
            if is_its and self._marked and player.state == "killed":
                self.broken.append(f"handled early: {player.role.name} gave no marker")

    def killed(self, player: Player) -> None:
        """Record the death of an actor."""
        if player.role.writes:
            self._dead_writers = self._dead_writers | {player.role.name}
            self.events = self.events | {ENDED + player.role.name}
        else:
            self._dead_runners += 1
        self.holding = self.holding.without(player)
        self._forget_work(player)

    def ended(self, player: Player) -> None:
        """Record the end of an actor."""
        if player.result.startswith("raised"):
            self.broken.append(f"{player.role.name} {player.result}")
        if player.role.writes:
            self._finished.add(player.role.name)
            self.events = self.events | {ENDED + player.role.name}
        if player.result == "never quiet":
            self.broken.append("the queue never comes to rest")
        self._forget_work(player)

    def _forget_work(self, player: Player) -> None:
        self._at_work = {t: n for t, n in self._at_work.items() if n != player.number}
        done_by = {key: times for key, times in self._done_by.items() if key[0] != player.number}
        self._done_by = Counter(done_by)

    # -- states -----------------------------------------------------------------------------------

    def look(self) -> None:
        """Check that every file that must exist does."""
        there = {which for _, which, _, _ in tree(self.root, self.identity)}
        for gone in sorted(self._owed - there):
            self.broken.append(f"deleted, though no handler called it done: the file of {gone}")

    def at_the_end(
        self, players: Sequence[Player], ends: tuple[str, ...], there: str, old_rule: bool
    ) -> None:
        """Check that every entry ended where it must."""
        tokens = self._tokens()
        for player in players:
            if old_rule and player.role.writes:
                self._old_rule(player, players, tokens)
        if not old_rule:
            finished = [name.rpartition(" ")[2] for name in sorted(self._finished)]
            for token in (*there, *finished):
                self._ended_well(token, tokens, ends)
            self._nothing_left()

    def _old_rule(
        self, writer: Player, players: Sequence[Player], tokens: dict[str, list[str]]
    ) -> None:
        paths = tokens.get("m" + writer.role.name.rpartition(" ")[2])
        handled = " ".join(p.result for p in players if not p.role.writes).split()
        if writer.result not in handled and not paths:
            self.broken.append("LOST: a message that was accepted is gone, and was not handled")

    def _ended_well(self, token: str, tokens: dict[str, list[str]], ends: tuple[str, ...]) -> None:
        message_at, metadata_at = tokens.get(f"m{token}", []), tokens.get(f"d{token}", [])
        if self._archives:
            message_at = [path for path in message_at if not path.startswith("archive/")]
        if self._was_done(token):
            others = [f".watcher/{end}/" for end in ends if end != "done"]
            elsewhere = [path for path in message_at if not path.startswith(tuple(others))]
            if elsewhere or (message_at and not self._dead_runners):
                self.broken.append(f"misplaced: {token} was done, and is still at {message_at}")
            if "done" not in ends:
                self.broken.append(f"done, though no handler said so: {token}")
            return
        if not message_at and "removed" in ends and token in self._removed:
            return
        if any(map(self._half_linked, message_at)):
            return
        for path in message_at:
            places = [end for end in ends if path.startswith(f".watcher/{end}/")]
            if places and (not metadata_at or metadata_at[0].startswith(f".watcher/{places[0]}/")):
                return
        self.broken.append(
            f"forgotten: {token} was committed; at {message_at}, its metadata at {metadata_at}"
        )

    def _was_done(self, token: str) -> bool:
        """Whether it was: alone, or in a file to which it was added, or that was added to."""
        return any(
            token in done.removesuffix("...").removesuffix("?").split("+")
            for done in self._done
            if self._done[done] and (self._dead_writers or not done.endswith("..."))
        )

    def _nothing_left(self) -> None:
        for path in self._paths():
            waits = "/" not in path and not path.endswith((".tmp", f".scratch{MARKER}"))
            if self._marked and self._dead_writers:
                waits = False  # for a marker, which will not come
            if self._half_linked(path):
                continue
            if waits or path.startswith(".watcher/inflight/"):
                self.broken.append(f"left behind: {path}")

    def _half_linked(self, path: str) -> bool:
        """Whether a writer died between link and unlink: an entry has one name, so it stays."""
        return bool(self._dead_writers) and REAL["stat"](f"{self.root}/{path}").st_nlink > 1

    def _paths(self) -> list[str]:
        return sorted(path[len(self.root) + 1 :] for path in names(self.root))

    def _tokens(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self._paths():
            if not path.endswith((".json", "/.ledger")):
                for token in TOKEN.findall(read(f"{self.root}/{path}")):
                    found.setdefault(token.decode(), []).append(path)
        return found


def _counts(event: str, players: Sequence[Player]) -> bool:
    """Whether an event is kept: of one kind only what an actor waits for, to save states."""
    if event.startswith(GONE):
        return any(event in player.awaits() for player in players if player.state == "alive")
    return bool(event)


def _chain(history: bytes, fact: object) -> bytes:
    return hashlib.sha256(history + repr(fact).encode()).digest()[:16]
