"""One run of the matrix: make the queue, run the command, recover, check the entries."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from typing import NamedTuple

import watcher
from kill_matrix import cases, victim
from kill_matrix.cases import Case, Place
from kill_matrix.handler import RECOVERY, VICTIM
from kill_matrix.scenario import Entry, Scene
from kill_matrix.verdict import Allowed, Finding, Harm, final, tree, waiting, whole
from kill_matrix.victim import Ended, Order
from watcher.commit_many import GROUP

RECOVERIES = 20  # sweeps at most; between them entries that a crash deferred become due
JUST_THEN = 1.0  # seconds: a daemon does not try a refused call again sooner
BETWEEN = 0.025  # seconds: longer than the delay of a retry
_RIGHT = {0, 64, 66, 69, 73, 74, 75, 77, 78}  # exit statuses of commands that were refused a call
_NOT_RELOADED = b'"detail": "the configuration was not reloaded'  # until a reload succeeds
_BUG_WORDS = (b"Traceback", b'"bug"', b"bug: ", b"Exception ignored")
_STUCK = "the disk refuses"  # a sweep's text: it gave up, and the entry will be handled again


# Pipes, inotify and sockets are not on a disk; fstat(2) needs no permission.
_NO_DISK = re.compile(r"[a-z0-9_]+\([0-9]+<(pipe|anon_inode|socket):")
# Calls that Python makes to import: on a module's file, or on a directory of modules.
_MODULES = sorted({os.path.dirname(path) for path in (watcher.__path__[0], os.__file__)})
_IMPORT = re.compile(
    r'.*(\.py"|/__pycache__|\.pyc"|\.so"|"(?:' + "|".join(map(re.escape, _MODULES)) + r')[/"])'
)
_FSTAT = re.compile(r"newfstatat\([0-9]+<[^>]*>, \"\"")


class Point(NamedTuple):
    """Where to kill or refuse: the number of a system call among those of its name."""

    call: str
    first: int
    error: str = ""  # an errno's name; "" kills
    last: int = 0  # 0: only this one call

    def injection(self) -> str:
        """Return it as the argument of strace's `-e inject=`."""
        what = f"error={self.error}" if self.error else "signal=KILL"
        when = f"{self.first}..{self.last}" if self.last else str(self.first)
        return f"{self.call}:{what}:when={when}"


def can_have(error: str, line: str) -> bool:
    """Whether a call on this descriptor can return this error."""
    if _IMPORT.match(line):
        return False
    if error in ("EIO", "ENOSPC") and _NO_DISK.match(line):
        return False
    return not (error == "EACCES" and _FSTAT.match(line))


class Result(NamedTuple):
    """The result of one run."""

    ended: Ended
    findings: list[Finding]
    unhealthy: bool = False


def attempt(case: Case, point: Point | None, base: str, keep: str = "") -> Result:
    """Make one run in its own directory below `base`, which is removed afterwards.

    If there are findings and `keep` is given, the directory is moved there.
    """
    root = tempfile.mkdtemp(prefix="run-", dir=base)
    place = Place(root)
    try:
        result = _attempt(case, point, place)
        if result.findings and keep:
            name = f"{case.name}-{point.injection() if point else 'clean'}".replace(":", "-")
            kept = os.path.join(keep, name)
            shutil.copytree(root, kept, dirs_exist_ok=True)
        return result
    finally:
        shutil.rmtree(root)


def _attempt(case: Case, point: Point | None, place: Place) -> Result:
    scene = case.make(place.queue)
    with case.target.serve(place.root):
        return _disturbed(case, point, place, scene)


def _disturbed(case: Case, point: Point | None, place: Place, scene: Scene) -> Result:
    case.configure(place)
    left = place.left if case.leaves else ""
    environment = case.environment(place, VICTIM)
    order = Order(case.argv(place), place.victim, environment, case.thread, case.workers, left)
    stopper = cases.Stopper(scene, place.victim + ".err") if case.daemon else None
    ended = victim.run(order, point and point.injection(), stopper)
    if point is not None and point.error and not _possible(point.error, ended):
        scene.finish_writing()
        victim.end_left_running(left)
        return Result(ended._replace(injected=False), [])
    how = Harm.NONE
    if ended.injected:
        how = Harm.REFUSED if point is not None and point.error else Harm.KILLED
    findings = _wrong_ending(case, point, ended, place)
    if case.name == "enqueue":
        findings += _accept(scene, place, ended)
    findings += whole(scene, case.target.calls(place.root, scene), tree(place.queue))
    findings += _half_delivered(case, scene, place)
    scene.finish_writing()
    if case.leaves:
        findings += _recover_beside_what_is_left(case, scene, place, how)
        victim.end_left_running(left)
    findings += _recover(case, scene, place)
    calls, files = case.target.calls(place.root, scene), tree(place.queue)
    findings += final(scene, calls, files, how, Allowed(_given_up(place), case.in_hand))
    findings += _audit(scene, place) + _half_delivered(case, scene, place)
    findings += [Finding("unexplained", what) for what in case.target.left(place.root)]
    return Result(ended, findings, _said(place, b'"unhealthy"'))


def _half_delivered(case: Case, scene: Scene, place: Place) -> list[Finding]:
    """Return what a reader of the target sees that is no whole entry."""
    seen = case.target.strange(place.root, scene)
    return [Finding("lost", f"{what}: delivered, with the bytes of no entry") for what in seen]


def _possible(error: str, ended: Ended) -> bool:
    """Whether the refused call can fail so: the threads' calls differ a little between runs."""
    refused = [call.line for call in ended.calls if "(INJECTED)" in call.line]
    return all(can_have(error, line) for line in refused)


def _recover(case: Case, scene: Scene, place: Place) -> list[Finding]:
    """Sweep until every entry is as it must be, or several times without effect."""
    environment = case.environment(place, RECOVERY)
    if case.operator:
        victim.run(Order(cases.release(place), place.recovery, environment, ""), None)
    order = Order(cases.recovery(place), place.recovery, environment, "")
    for number in range(RECOVERIES):
        if number > 0:
            time.sleep(BETWEEN)
        status = victim.run(order, None).status
        if status not in (0, os.EX_TEMPFAIL):
            return [Finding("exit", f"recovery ended with {status}: {_tail(place.recovery)}")]
        if number > 0 and cases.settled(scene):
            return []
    return []


def _recover_beside_what_is_left(
    case: Case, scene: Scene, place: Place, harm: Harm
) -> list[Finding]:
    """Sweep while the handlers' children still run: only their entries are claimed."""
    in_hand = case.in_hand if harm is Harm.KILLED else 0
    order = Order(cases.recovery(place), place.recovery, case.environment(place, RECOVERY), "")
    for _ in range(RECOVERIES):
        if len(waiting(scene, tree(place.queue))) <= in_hand:
            return []
        victim.run(order._replace(left=place.left), None)
        time.sleep(BETWEEN)
    stuck = waiting(scene, tree(place.queue))
    return [Finding("hung", f"{stuck} wait for processes that their handlers left running")]


def _audit(scene: Scene, place: Place) -> list[Finding]:
    """Run the audit, if there was an entry: without one a sweep writes no journal."""
    if not scene.entries or not os.path.isdir(os.path.join(place.queue, ".watcher")):
        return []
    status = victim.run(Order(cases.audit(place), place.audit, {}, ""), None).status
    if status == 0:
        return []
    with open(place.audit + ".out", encoding="utf-8", errors="replace") as lines:
        said = [line.strip() for line in lines if "missing:" in line]
    return [Finding("unexplained", f"audit ended with {status}: {said} {_tail(place.audit)}")]


def _wrong_ending(case: Case, point: Point | None, ended: Ended, place: Place) -> list[Finding]:
    """Return what is wrong with the exit status and the output of a run."""
    if ended.status is None:
        return [Finding("hung", f"after {victim.PATIENCE:.0f} s; {_tail(place.victim)}")]
    if ended.status < 0 and point is not None and not point.error:
        return []
    findings = []
    right = _RIGHT if ended.injected else {0, os.EX_TEMPFAIL}
    if case.daemon and (not ended.injected or _said(place, b'"armed"')):
        right = {0}  # once it has started, a daemon survives every refusal
    if ended.status not in right:
        findings.append(Finding("exit", f"status {ended.status}: {_tail(place.victim)}"))
    if _has_bug(place):
        findings.append(
            Finding("exit", f"a traceback or a bug in its output: {_tail(place.victim)}")
        )
    if case.daemon and ended.status == 0 and not _healthy_at_end(place):
        findings.append(Finding("exit", f"not healthy at its end: {_tail(place.victim)}"))
    return findings


def _has_bug(place: Place) -> bool:
    """Whether the output has a traceback of the program, and not one that a handler printed."""
    with contextlib.suppress(FileNotFoundError), open(place.victim + ".err", "rb") as lines:
        own = [line for line in lines if b'"event": "output"' not in line]
        return any(word in line for line in own for word in _BUG_WORDS)
    return False


def _healthy_at_end(place: Place) -> bool:
    """Whether a daemon logged at its end that it was healthy, or was refused a call then."""
    end, unhealthy = _last(place, b'"stopped"'), _last(place, b'"unhealthy"')
    if not end or b'"detail": "healthy;' in end or _NOT_RELOADED in end:
        return True
    return bool(unhealthy) and _time(end) - _time(unhealthy) < JUST_THEN


def _time(line: bytes) -> float:
    return float(json.loads(line)["time"])


def _last(place: Place, word: bytes) -> bytes:
    """Return the last line of the log that has a word in it."""
    with open(place.victim + ".err", "rb") as lines:
        return ([line for line in lines if word in line] or [b""])[-1]


def _given_up(place: Place) -> set[str]:
    """Return the entries that a sweep reported as not finished."""
    with open(place.victim + ".out", encoding="utf-8") as lines:
        return {line.split("  ")[0].removesuffix(".csv") for line in lines if _STUCK in line}


def _accept(scene: Scene, place: Place, ended: Ended) -> list[Finding]:
    """Add what `enqueue` committed to the entries; check that it printed the names."""
    with open(place.victim + ".out", encoding="utf-8") as output:
        printed = output.read().split()
    files = tree(place.queue)
    names = [name.removesuffix(".pck") for name in sorted(files) if name.endswith(".pck")]
    findings = [
        Finding("lost", f"{name}: its name was printed, but it is not in the queue")
        for name in printed
        if name not in names
    ]
    if len(names) - len(printed) > GROUP:  # one group is committed before its names are printed
        findings.append(Finding("doubled", f"printed {printed}, committed {names}"))
    for number, name in enumerate(names, 1):
        message = b"Subject: message %d\n\nThe text of message %d.\n" % (number, number)
        entry = Entry(name, {f"{name}.pck": files[f"{name}.pck"]}, message, "t")
        scene.entries[name] = entry
    scratch = {name: data for name, data in files.items() if name.endswith(".tmp")}
    if scratch and ended.status is not None and ended.status >= 0 and ended.last[:6] != "unlink":
        findings.append(Finding("unexplained", f"left behind: {sorted(scratch)}"))
    scene.bystanders |= scratch
    return findings


def _said(place: Place, word: bytes) -> bool:
    with contextlib.suppress(FileNotFoundError), open(place.victim + ".err", "rb") as output:
        return word in output.read()
    return False


def _tail(output: str) -> str:
    with open(output + ".err", encoding="utf-8", errors="replace") as lines:
        return lines.read()[-600:].strip()
