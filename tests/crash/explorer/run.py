"""One scenario, and one way through it from a fresh directory."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

from explorer.players import Player, Role, Settings
from explorer.promises import World
from explorer.snapshot import tree
from explorer.steps import FREE, REAL, Step

SKELETON = ("deferred", "held", "dead", "orphans", "inflight")
Scripts = dict[str, list[tuple[str, ...]]]  # of each writer: the paths of its steps
Choice = tuple[str, int]  # ("step" or "kill", the actor's number)


class Scenario(NamedTuple):
    """The actors of one queue, and the events that may occur."""

    name: str
    roles: tuple[Role, ...]
    recovery: Role  # the actor that starts when all others have ended
    old_rule: bool = False  # the runner's rule is on trial: only what it comes to is looked at
    crashes: int = 1
    prepare: Callable[[str], None] = lambda _root: None
    skeleton: bool = True  # whether .watcher/ is there from the start
    noreplace: bool = True
    ends: tuple[str, ...] = ("done",)  # how a committed entry may end; or the directory of ours
    quick: bool = False  # whether it is one of the few that are tried at every turn
    long: bool = False  # whether it takes minutes
    switches: int | None = None  # from an actor that could go on to another, at most; None: any
    again: int = 0  # how often an entry may be done once more: it could not be removed
    there: str = ""  # the tokens of the entries before the first actor
    marked: bool = False  # only its marker says that a file is complete
    archives: bool = False  # a done file is in archive/ at the end
    broken: bool = False  # the program's own rule is broken on purpose, which has to be found


class Run:
    """One way through a scenario, from a fresh directory."""

    def __init__(self, scenario: Scenario, root: str, scripts: Scripts) -> None:
        self.scenario = scenario
        self.root = root
        self._scripts = scripts
        self.trace: list[str] = []
        self.crashes = self.steps = self.switches = 0
        shutil.rmtree(root, ignore_errors=True)
        os.mkdir(root)
        quiet = {".", *self._skeleton()} if scenario.skeleton else {"."}
        self._settings = Settings(frozenset(quiet), scenario.noreplace)
        scenario.prepare(root)
        self.world = World(root, scenario.again, marked=scenario.marked, archives=scenario.archives)
        self.players: list[Player] = []
        for role in scenario.roles:
            self._start(role)

    def _skeleton(self) -> Iterator[str]:
        yield ".watcher"
        os.mkdir(f"{self.root}/.watcher", 0o700)
        for name in SKELETON:
            os.mkdir(f"{self.root}/.watcher/{name}", 0o700)
            yield f".watcher/{name}"

    def _start(self, role: Role) -> None:
        player = Player(role, len(self.players))
        player.start(self.root, self.players, self._settings)
        self.players.append(player)

    def close(self) -> None:
        """End all actors."""
        for player in self.players:
            player.stop()

    def living(self) -> list[Player]:
        """Return the actors that have steps to make."""
        return [player for player in self.players if player.state == "alive"]

    def choices(self, *, free: bool = False) -> list[Choice]:
        """Return what may happen next; first a step of the actor that made the last one."""
        living = [player for player in self.living() if self._enabled(player)]
        for player in living:
            if self._concerns_no_other(player):
                living = [player]
                break
        steps: list[Choice] = [("step", player.number) for player in living]
        steps.sort(key=lambda choice: choice[1] != self._last)
        most = self.scenario.switches
        if most is not None and self.switches >= most and not free and steps:
            steps = steps[:1]
        if self.crashes >= self.scenario.crashes:
            return steps
        return steps + [("kill", p.number) for p in living if p.role.dies and p.changed]

    def _concerns_no_other(self, player: Player) -> bool:
        """Whether its next step can be taken at once: all others are writers, and not affected."""
        others = [other for other in self.living() if other is not player]
        if not others or player.pending is None or not all(other.role.writes for other in others):
            return False
        if self._inodes(player) & self.world.holding.open_to_write():
            return False
        return not any(
            _meet(path, written)
            for path in player.pending.paths
            for other in others
            for step in self._scripts[other.role.name][other.steps :]
            for written in step
        )

    def independent(self, one: int, other: int) -> bool:
        """Whether two pending steps have the same effect in either order, for both actors."""
        first, second = self.players[one], self.players[other]
        a, b = first.pending, second.pending
        if a is None or b is None:
            return False
        if a.looks and b.looks:
            return True
        if any(_meet(left, right) for left in a.paths for right in b.paths):
            return False
        return not self._inodes(first) & self._inodes(second)

    def _inodes(self, player: Player) -> set[int]:
        """Return the files of its next step, if there are any."""
        found = set(player.pending.inodes) if player.pending is not None else set()
        for path in player.pending.paths if player.pending is not None else ():
            if not path.endswith("*"):
                with contextlib.suppress(OSError):
                    found.add(REAL["lstat"](f"{self.root}/{path}").st_ino)
        return found

    _last = 0

    def _enabled(self, player: Player) -> bool:
        return all(event in self.world.events for event in player.awaits())

    def end_those_who_wait(self) -> bool:
        """End an actor that waits for an event that cannot come any more; False if none does."""
        waiting = [player for player in self.living() if player.awaits()]
        for player in waiting:
            player.stop()
            player.state = "ended"
        return bool(waiting)

    def play(self, choice: Choice, times: int = 1) -> bool:
        """Make a choice happen; False if the actor has to wait for another one."""
        what, number = choice
        if number == len(self.players):
            self._start(self.scenario.recovery)
        player = self.players[number]
        if what == "kill":
            player.kill()
            self.crashes += 1
            self.trace.append(f"{player.role.name:10} KILLED")
            self.world.killed(player)
            return True
        made = player.go(times, self.world.events)
        if made is None:
            return False
        if number != self._last and self.players[self._last].state == "alive":
            self.switches += 1
        self._last = number
        for step in made:
            self._tell(player, step)
        if player.state == "ended":
            self.trace.append(f"{player.role.name:10} ended: {player.result}")
            self.world.ended(player)
        return True

    def _tell(self, player: Player, step: Step) -> None:
        self.steps += 1
        outcome = "" if step.outcome == "ok" else f"  -> {step.outcome}"
        self.trace.append(f"{player.role.name:10} {step.call}{outcome}")
        self.world.apply(player, step, self.players)

    def replay(self, path: tuple[Choice, ...]) -> bool:
        """Repeat a way; consecutive steps of one actor are sent to it together."""
        at = 0
        while at < len(path):
            times = 1
            while path[at][0] == "step" and path[at + times : at + times + 1] == path[at : at + 1]:
                times += 1
            if not self.play(path[at], times):
                return False
            at += times
        return True

    def recover(self) -> bool:
        """Start a fresh process when all others have ended; False if nothing is left to do."""
        role, last = self.scenario.recovery, self.players[-1]
        if last.role is role and last.state == "ended":
            return False
        self._start(role)
        if self.crashes >= self.scenario.crashes:
            self.play(("step", len(self.players) - 1), FREE)
        return True

    def at_the_end(self) -> None:
        """Check that every entry ended where it must."""
        scenario = self.scenario
        self.world.at_the_end(self.players, scenario.ends, scenario.there, scenario.old_rule)

    def key_if_killed(self, player: Player) -> bytes:
        """Return the state that a kill leads to: the directory is the same, its locks are free."""
        world, crashes = self.world, self.crashes
        self.world = copy.copy(world)
        self.world.killed(player)
        player.state, self.crashes = "killed", crashes + 1
        try:
            return self.key()
        finally:
            player.state, self.crashes, self.world = "alive", crashes, world

    def _spent(self) -> tuple[int, ...]:
        """Return how often each bounded event was used."""
        return (
            (self.crashes,)
            if self.scenario.switches is None
            else (self.crashes, self.switches, self._last)
        )

    def key(self) -> bytes:
        """Return the state as a value."""
        digest = hashlib.sha256()
        for part in (*tree(self.root, self.world.identity), *self.world.facts(), *self._spent()):
            digest.update(repr(part).encode())
        for player in self.players:
            digest.update(player.state.encode())
            if player.state == "alive":
                digest.update(player.history + repr(player.pending).encode())
            if self.scenario.old_rule:
                digest.update(player.result.encode())  # it has the entries that it handled
        return digest.digest()[:16]


def _meet(one: str, other: str) -> bool:
    """Whether two paths, of which each may be a whole directory (`d/*`), share a name."""
    if "*" in (one, other) or one == other:
        return True
    for directory, name in ((one, other), (other, one)):
        if directory.endswith("/*"):
            place = directory.removesuffix("*").removeprefix("./")
            if name.startswith(place) and "/" not in name[len(place) :].removesuffix("/*"):
                return True
    return False
