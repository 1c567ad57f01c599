"""Every interleaving of a scenario's actors, with a crash after every step, on a real directory.

A state is reached by running its steps again from a fresh directory (stateless replay), and is gone
on from once, however many ways lead to it: two ways lead to the same state when the directory is
the same, and each living actor has seen the same. Three things are left out because they change
nothing that anybody could see:

- an actor is not killed after a mere look: it might as well have been killed before it;
- a step below .watcher/ is taken at once where all others are writers, who know nothing of it;
- what only the actor itself can see is no step at all (`stepping`).
"""

from __future__ import annotations

import contextlib
import copy
import gc
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from explorer.players import Player, Role, Settings
from explorer.promises import World
from explorer.snapshot import tree
from explorer.stepping import FREE, REAL, Step

SKELETON = ("deferred", "held", "dead", "orphans", "inflight")
Scripts = dict[str, list[tuple[str, ...]]]  # of each writer: the paths of its steps
Choice = tuple[str, int]  # ("step" or "kill", the actor's number)


class Scenario(NamedTuple):
    """Who works on one queue, and what may befall them."""

    name: str
    roles: tuple[Role, ...]
    recovery: Role  # who comes when all others have gone
    old_rule: bool = False  # the runner's rule is on trial: only what it comes to is looked at
    crashes: int = 1
    prepare: Callable[[str], None] = lambda _root: None
    skeleton: bool = True  # whether .watcher/ is there from the start
    noreplace: bool = True
    ends: tuple[str, ...] = ("done",)  # how a committed entry may end; or the directory of ours
    quick: bool = False  # whether it is one of the few that are tried at every turn
    switches: int | None = None  # from an actor that could go on to another, at most; None: any
    there: str = ""  # the tokens of what was there before anybody came


class Found(NamedTuple):
    """A broken promise, and the way that led there."""

    what: str
    trace: tuple[str, ...]


class Result(NamedTuple):
    """What the exploration of one scenario came to."""

    name: str
    states: int
    runs: int
    steps: int
    crashes: int
    ends: int
    complete: bool
    found: tuple[Found, ...]


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
        self.world = World(root)
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
        """Return what may happen next; the first is to go on with the one that went last."""
        living = [player for player in self.living() if self._enabled(player)]
        for player in living:
            if self._concerns_nobody(player):
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

    def _concerns_nobody(self, player: Player) -> bool:
        """Whether its next step can be taken at once: all others write, and nothing of the kind."""
        others = [other for other in self.living() if other is not player]
        if not others or player.pending is None or not all(other.role.writes for other in others):
            return False
        if self._inodes(player) & self.world.open_to_write:
            return False
        return not any(
            _meet(path, written)
            for path in player.pending.paths
            for other in others
            for step in self._scripts[other.role.name][other.steps :]
            for written in step
        )

    def independent(self, one: int, other: int) -> bool:
        """Whether two pending steps come to the same in either order, and neither can tell."""
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
        """Return the files that its next step is about, as far as there are any."""
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
        """End who waits for what cannot come any more; False when there is nobody."""
        waiting = [player for player in self.living() if player.awaits()]
        for player in waiting:
            player.stop()
            player.state = "ended"
        return bool(waiting)

    def play(self, choice: Choice, times: int = 1) -> bool:
        """Let it happen; False when the actor would have to wait for another."""
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
        made = player.go(times)
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
        """Go a way again; steps of one actor in a row are told to it at once."""
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
        """Bring in a fresh process once all others are gone; False when nothing is left to do."""
        role, last = self.scenario.recovery, self.players[-1]
        if last.role is role and last.state == "ended":
            return False
        self._start(role)
        if self.crashes >= self.scenario.crashes:
            self.play(("step", len(self.players) - 1), FREE)
        return True

    def at_the_end(self) -> None:
        """Look whether everything ended where it must."""
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
        """Return what was used of what is bounded."""
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
                digest.update(player.result.encode())  # it tells whom it handled
        return digest.digest()[:16]


def _meet(one: str, other: str) -> bool:
    """Whether two paths, of which each may be a whole directory (`d/*`), have a name in common."""
    if "*" in (one, other) or one == other:
        return True
    for directory, name in ((one, other), (other, one)):
        if directory.endswith("/*"):
            place = directory.removesuffix("*").removeprefix("./")
            if name.startswith(place) and "/" not in name[len(place) :].removesuffix("/*"):
                return True
    return False


class Search:
    """The exploration of one scenario.

    Of two steps that do not concern each other, one order is enough: sleep sets (Godefroid), which
    leave out ways and no states.
    """

    def __init__(self, scenario: Scenario, root: str, most: int = 3) -> None:
        self.scenario = scenario
        self.root = root
        self._most = most  # broken promises, before it ends
        self._asleep: dict[bytes, frozenset[int]] = {}  # of a state: who was not gone on with
        self._stack: list[tuple[tuple[Choice, ...], frozenset[int]]] = [((), frozenset())]
        self._promised: set[bytes] = set()  # states that are on the way to be visited
        self._found: dict[str, Found] = {}
        self._runs = self._steps = self._crashes = self._ends = 0
        self._scripts: Scripts = {}

    def explore(self, seconds: float = float("inf")) -> Result:
        """Go every way, for so long at most."""
        gc.collect()
        gc.freeze()  # what is here now is no work for the collector in the actors
        self._scripts = self._write_alone()
        deadline = time.monotonic() + seconds
        while self._stack and len(self._found) < self._most and time.monotonic() < deadline:
            self._runs += 1
            run = Run(self.scenario, self.root, self._scripts)
            try:
                self._go(run, *self._stack.pop())
            finally:
                run.close()
            self._steps += run.steps
        found = tuple(self._found.values())
        counts = (len(self._asleep), self._runs, self._steps, self._crashes, self._ends)
        return Result(self.scenario.name, *counts, not self._stack, found)

    def _write_alone(self) -> Scripts:
        """Learn what each writer will do: nothing that others do changes it."""
        scripts: Scripts = {}
        for number, role in enumerate(self.scenario.roles):
            if not role.writes:
                continue
            run = Run(self.scenario, self.root, {})
            paths = scripts[role.name] = []
            while run.players[number].pending is not None:
                paths.append(run.players[number].pending.paths)
                run.play(("step", number))
            run.close()
        return scripts

    def _go(self, run: Run, path: tuple[Choice, ...], asleep: frozenset[int]) -> None:
        if not run.replay(path):
            return
        while (wanted := self._news(run, asleep)) is not None:
            choices = run.choices()
            if wanted:
                choices = [choice for choice in choices if choice[0] == "step"]
                choices = [choice for choice in choices if choice[1] in wanted]
            choices = [
                choice for choice in choices if choice[0] == "kill" or choice[1] not in asleep
            ]
            if not run.living():
                if run.recover():
                    continue
                self._ends += 1
                run.at_the_end()
                self._note(run)
                return
            if not choices:
                if not asleep and run.end_those_who_wait():
                    continue
                return
            taken = self._take_first(run, path, choices, asleep)
            if taken is None and self.scenario.switches is not None:
                taken = self._take_first(run, path, run.choices(free=True), asleep)
            if taken is None:
                return
            path, asleep = (*path, taken[0]), taken[1]

    def _take_first(
        self, run: Run, path: tuple[Choice, ...], choices: list[Choice], asleep: frozenset[int]
    ) -> tuple[Choice, frozenset[int]] | None:
        """Take the first choice that does not have to wait; the others are for later."""
        ways = []
        for choice in choices:
            if choice[0] == "kill" and not self._leads_on(run, choice):
                continue
            ways.append((choice, self._still_asleep(run, choice, asleep)))
            if choice[0] == "step":
                asleep |= {choice[1]}
        while ways:
            choice, still = ways.pop(0)
            if run.play(choice):
                self._stack += [((*path, other), sleeping) for other, sleeping in ways]
                return choice, still
            ways = [(other, sleeping - {choice[1]}) for other, sleeping in ways]
        unbounded = self.scenario.switches is None
        if (
            unbounded
            and not any(choice[0] == "kill" for choice in choices)
            and not asleep - {number for _, number in choices}
        ):
            run.world.broken.append("all wait for each other")
            self._note(run)
        return None

    def _leads_on(self, run: Run, kill: Choice) -> bool:
        """Whether a kill leads to a state that nobody has come to, or is about to come to."""
        self._crashes += 1
        key = run.key_if_killed(run.players[kill[1]])
        if key in self._promised or self._asleep.get(key) == frozenset():
            return False
        self._promised.add(key)
        return True

    @staticmethod
    def _still_asleep(run: Run, choice: Choice, asleep: frozenset[int]) -> frozenset[int]:
        if choice[0] == "kill" or run.scenario.switches is not None:
            return frozenset()
        return frozenset(n for n in asleep if n != choice[1] and run.independent(n, choice[1]))

    def _news(self, run: Run, asleep: frozenset[int]) -> frozenset[int] | None:
        """Return None if nothing new can come from this state; else whose steps (empty: all)."""
        if not self.scenario.old_rule:
            run.world.look()
        if self._note(run):
            return None
        key = run.key()
        before = self._asleep.get(key)
        if before is None:
            self._asleep[key] = asleep
            return frozenset()
        self._asleep[key] = before & asleep
        return before - asleep or None

    def _note(self, run: Run) -> bool:
        for what in run.world.broken:
            self._found.setdefault(what, Found(what, tuple(run.trace)))
        return bool(run.world.broken)
