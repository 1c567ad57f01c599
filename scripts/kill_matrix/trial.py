"""One run of the matrix: make the queue, run the command to its end, recover, look."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from typing import NamedTuple

from kill_matrix import cases, handler, victim
from kill_matrix.cases import Case, Place
from kill_matrix.scenario import Entry, Scene
from kill_matrix.verdict import RECOVERY, VICTIM, Finding, Harm, final, tree, whole
from kill_matrix.victim import Ended, Order
from watcher.groups import GROUP

RECOVERIES = 20  # sweeps at most: what a crash deferred falls due in between
BETWEEN = 0.025  # seconds: longer than a retry is deferred
_RIGHT = {0, 64, 66, 69, 73, 74, 75, 77, 78}  # of commands that were refused a call
_TOO_MUCH = (b"Traceback", b'"bug"', b"bug: ", b"Exception ignored")
_STUCK = "the disk refuses"  # how a sweep says that it gave up, and that it will be handled again


# Pipes, inotify and the like have no disk under them; fstat(2) asks for no permission.
_NO_DISK = re.compile(r"[a-z0-9_]+\([0-9]+<(pipe|anon_inode|socket):")
_IMPORT = re.compile(r'.*(\.py"|/__pycache__|\.pyc"|\.so")')  # of Python's own doing
_FSTAT = re.compile(r"newfstatat\([0-9]+<[^>]*>, \"\"")


class Point(NamedTuple):
    """Where to strike: the number of a system call among those of its name, and with what."""

    call: str
    first: int
    error: str = ""  # an errno's name; "" kills
    last: int = 0  # 0: this one call only

    def injection(self) -> str:
        """Return it as strace's `-e inject=` wants it."""
        what = f"error={self.error}" if self.error else "signal=KILL"
        when = f"{self.first}..{self.last}" if self.last else str(self.first)
        return f"{self.call}:{what}:when={when}"


def can_have(error: str, line: str) -> bool:
    """Whether a call on this descriptor can be refused so."""
    if _IMPORT.match(line):
        return False
    if error in ("EIO", "ENOSPC") and _NO_DISK.match(line):
        return False
    return not (error == "EACCES" and _FSTAT.match(line))


class Result(NamedTuple):
    """What one run came to."""

    ended: Ended
    findings: list[Finding]
    unhealthy: bool = False


def attempt(case: Case, point: Point | None, base: str, keep: str = "") -> Result:
    """Make one run in a directory of its own below `base`, which is removed afterwards.

    Where there are findings the directory goes to `keep`, if that is given.
    """
    root = tempfile.mkdtemp(prefix="run-", dir=base)
    place = Place(root)
    try:
        result = _attempt(case, point, place)
        if result.findings and keep:
            name = f"{case.name}-{point.injection() if point else 'clean'}".replace(":", "-")
            shutil.copytree(root, os.path.join(keep, name), dirs_exist_ok=True)
        return result
    finally:
        shutil.rmtree(root)


def _attempt(case: Case, point: Point | None, place: Place) -> Result:
    scene = case.make(place.queue)
    case.configure(place)
    environment = {handler.RECORD: place.record, handler.PHASE: VICTIM}
    order = Order(case.argv(place), place.victim, environment, case.thread)
    stopper = cases.Stopper(scene, place.victim + ".err") if case.daemon else None
    ended = victim.run(order, point and point.injection(), stopper)
    if point is not None and point.error and not _possible(point.error, ended):
        scene.finish_writing()
        return Result(ended._replace(injected=False), [])
    how = Harm.NONE
    if ended.injected:
        how = Harm.REFUSED if point is not None and point.error else Harm.KILLED
    findings = _manners(case, point, ended, place)
    if case.name == "enqueue":
        findings += _accept(scene, place, ended)
    findings += whole(scene, handler.read(place.record), tree(place.queue))
    scene.finish_writing()
    findings += _recover(case, scene, place)
    calls, files = handler.read(place.record), tree(place.queue)
    findings += final(scene, calls, files, how, _given_up(place))
    findings += _audit(place)
    return Result(ended, findings, _said(place, b'"unhealthy"'))


def _possible(error: str, ended: Ended) -> bool:
    """Whether what was refused can be, in the world: the threads' calls drift a little."""
    refused = [call.line for call in ended.calls if "(INJECTED)" in call.line]
    return all(can_have(error, line) for line in refused)


def _recover(case: Case, scene: Scene, place: Place) -> list[Finding]:
    """Sweep until all is as it is to be, or some times in vain."""
    environment = {handler.RECORD: place.record, handler.PHASE: RECOVERY}
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


def _audit(place: Place) -> list[Finding]:
    """Have the books balanced, where there are any."""
    if not os.path.isdir(os.path.join(place.queue, ".watcher")):
        return []
    status = victim.run(Order(cases.audit(place), place.audit, {}, ""), None).status
    if status == 0:
        return []
    with open(place.audit + ".out", encoding="utf-8", errors="replace") as lines:
        said = [line.strip() for line in lines if "missing:" in line]
    return [Finding("unexplained", f"audit ended with {status}: {said} {_tail(place.audit)}")]


def _manners(case: Case, point: Point | None, ended: Ended, place: Place) -> list[Finding]:
    """Return what is wrong with how a run ended and what it said."""
    if ended.status is None:
        return [Finding("hung", f"after {victim.PATIENCE:.0f} s; {_tail(place.victim)}")]
    if ended.status < 0 and point is not None and not point.error:
        return []
    findings = []
    right = _RIGHT if ended.injected else {0, os.EX_TEMPFAIL}
    if case.daemon and (not ended.injected or _said(place, b'"armed"')):
        right = {0}  # once it is at work it lives through everything
    if ended.status not in right:
        findings.append(Finding("exit", f"status {ended.status}: {_tail(place.victim)}"))
    if any(_said(place, word) for word in _TOO_MUCH):
        findings.append(Finding("exit", f"said too much: {_tail(place.victim)}"))
    end = _last(place, b'"stopped"') if case.daemon and ended.status == 0 else b""
    if end and b'"detail": "healthy;' not in end:
        findings.append(Finding("exit", f"not healthy at its end: {_tail(place.victim)}"))
    return findings


def _last(place: Place, word: bytes) -> bytes:
    """Return the last line of the log that has a word in it."""
    with open(place.victim + ".err", "rb") as lines:
        return ([line for line in lines if word in line] or [b""])[-1]


def _given_up(place: Place) -> set[str]:
    """Return the entries of which a sweep said that it could not finish with them."""
    with open(place.victim + ".out", encoding="utf-8") as lines:
        return {line.split("  ")[0] for line in lines if _STUCK in line}


def _accept(scene: Scene, place: Place, ended: Ended) -> list[Finding]:
    """Take what `enqueue` committed for accepted, and see that it is what was printed."""
    with open(place.victim + ".out", encoding="utf-8") as output:
        printed = output.read().split()
    files = tree(place.queue)
    names = [name.removesuffix(".pck") for name in sorted(files) if name.endswith(".pck")]
    findings = [
        Finding("lost", f"{name}: its name was printed, and it is not there")
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
