"""Every interleaving of a scenario's actors, with a crash after every step, on a real directory.

A state is reached by running its steps again from a fresh directory (stateless replay). The search
continues from each state once. Two ways lead to the same state if the directory is the same and
each living actor has seen the same. Three things are left out, because no other actor can observe
them:

- an actor is not killed after a step that only reads: a kill before that step has the same effect;
- a step below .watcher/ is taken at once if all other actors are writers, which do not look there;
- a call that only the actor itself can observe is not a step (`stepping`).
"""

from __future__ import annotations

import gc
import time
from typing import NamedTuple

from explorer.run import Choice, Run, Scenario, Scripts


class Found(NamedTuple):
    """A broken promise, and the way that led there."""

    what: str
    trace: tuple[str, ...]


class Result(NamedTuple):
    """The result of exploring one scenario."""

    name: str
    states: int
    runs: int
    steps: int
    crashes: int
    ends: int
    complete: bool
    found: tuple[Found, ...]


class Search:
    """The exploration of one scenario.

    Of two steps that do not concern each other, one order is enough: sleep sets (Godefroid), which
    leave out ways and no states.
    """

    def __init__(self, scenario: Scenario, root: str, most: int = 3) -> None:
        self.scenario = scenario
        self.root = root
        self._most = most  # broken promises, before it ends
        self._asleep: dict[
            bytes, frozenset[int]
        ] = {}  # of a state: the actors that were not continued
        self._stack: list[tuple[tuple[Choice, ...], frozenset[int]]] = [((), frozenset())]
        self._promised: set[bytes] = set()  # states that are on the way to be visited
        self._found: dict[str, Found] = {}
        self._runs = self._steps = self._crashes = self._ends = 0
        self._scripts: Scripts = {}
        self._acted: set[str] = set()

    def explore(self, seconds: float = float("inf")) -> Result:
        """Explore every way, for at most so many seconds."""
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
            self._acted |= {player.role.name for player in run.players if player.steps}
        self._look_who_acted()
        found = tuple(self._found.values())
        counts = (len(self._asleep), self._runs, self._steps, self._crashes, self._ends)
        return Result(self.scenario.name, *counts, not self._stack, found)

    def _look_who_acted(self) -> None:
        """Report the actors that made no step: a scenario that tries nothing is no proof."""
        if not self._stack and not self._found:
            for role in self.scenario.roles:
                if role.name not in self._acted:
                    self._found[role.name] = Found(f"{role.name} never had a turn", ())

    def _write_alone(self) -> Scripts:
        """Record the steps of each writer: no other actor changes them."""
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
        """Take the first choice that need not wait; keep the others for later."""
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
        """Whether a kill leads to a state that was not reached, and that no known way reaches."""
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
        """Return None if this state leads to nothing new; else the actors to run (empty: all)."""
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
