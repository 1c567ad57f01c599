"""Which promises (docs/design.md, "Promises") hold on a file system, in plain words. PURE.

A promise is kept if no fact and no entry of the account contradicts it. A fact that concerns a
promise adds what the operator must know. Some promises cannot be tried by a program, such as
durability at a power loss: then the verdict says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from watcher.rules.finding import BAD, WARNING
from watcher.torture.account import Account

KEPT, BROKEN, UNKNOWN = "kept", "not kept", "cannot be told"
SHOWN = 5  # names of entries that a verdict shows
PROMISES = {
    1: "nothing is handled before its writer finished",
    2: "nothing committed is forgotten",
    3: "nothing is deleted but what a handler said is done",
    4: "at least once, and exactly once without a crash",
    5: "commit means durable",
    6: "first come, first served",
    7: "flat cost",
    8: "data is data",
}
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs", "rootfs"})
_SERVERS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "fuse", "virtiofs"})
_NO_SYNC = frozenset({"volatile", "fsync=volatile"})  # of overlay, before and since Linux 6.19
_AGAINST = {  # mount options that let a sync return before anything is safe
    "nobarrier": "no barriers: safe only if every disk's cache survives a power loss",
    "barrier=0": "no barriers: safe only if every disk's cache survives a power loss",
}


class Fact(NamedTuple):
    """One fact that was tried: its grade, its text, and the promise that it concerns (0: none)."""

    about: str
    grade: str
    what: str
    promise: int = 0


class Promise(NamedTuple):
    """A promise, and whether it holds here."""

    number: int
    verdict: str
    what: str  # the reason, and what follows for the operator


def judge(
    facts: Sequence[Fact], account: Account, filesystem: str, options: Sequence[str]
) -> list[Promise]:
    """Judge each promise by the facts and the account."""
    return [
        _weigh(1, facts, account, _before_its_end(account)),
        _weigh(2, facts, account, _forgotten(account)),
        _weigh(3, facts, account, _deleted(account)),
        _weigh(4, facts, account, _twice(account)),
        _durable(facts, filesystem, options),
        _served(facts),
        Promise(7, UNKNOWN, "no torture is long enough: measure with a backlog of your own"),
        Promise(8, UNKNOWN, "does not depend on the file system, and not tried here"),
    ]


class _Finding(NamedTuple):
    """What the account says of one promise: against it, or the text for "kept"."""

    against: str
    kept: str


def _weigh(number: int, facts: Sequence[Fact], account: Account, seen: _Finding) -> Promise:
    """Judge one promise by the facts that concern it and by the account."""
    bad = [_of(fact) for fact in facts if fact.promise == number and fact.grade == BAD]
    follows = [_of(fact) for fact in facts if fact.promise == number and fact.grade == WARNING]
    if seen.against or bad:
        return Promise(number, BROKEN, _said([seen.against, *bad]))
    if not account.done:
        return Promise(number, UNKNOWN, "no entry was handled in this time; let it run for longer")
    return Promise(number, KEPT, _said([seen.kept, *follows]))


def _of(fact: Fact) -> str:
    return f"{fact.about}: {fact.what}"


def _before_its_end(account: Account) -> _Finding:
    kept = f"{account.done + account.dead:,} entries, each whole when its handler had it"
    if account.cut_short:
        kept += (
            f". {account.cut_short} more are of writers that write in place and were killed before"
            " the end: such a file looks like any other, so that no program can know"
        )
    against = [
        _named("handled though not whole", account.torn),
        _named("called damaged before its writer had finished", account.damaged),
    ]
    return _Finding(_said(against), kept)


def _forgotten(account: Account) -> _Finding:
    against = [
        _named("still there at the end, and not handled", account.left),
        _named("whole, and taken for half of a pair", account.orphaned),
    ]
    kept = f"{account.accepted:,} accepted, none left over"
    return _Finding(_said(against), kept)


def _deleted(account: Account) -> _Finding:
    kept = f"{account.accepted:,} accepted = {account.done:,} done + {account.dead:,} in dead/"
    return _Finding(_named("LOST", account.lost), kept)


def _twice(account: Account) -> _Finding:
    against = [
        _named("handled twice at the same time", account.overlapped),
        _named("handled again though no process was killed", account.doubled),
    ]
    kept = "one handler at a time, and no entry again"
    if account.repeated:
        kept += f" but {account.repeated:,} whose process was killed before their end"
    return _Finding(_said(against), kept)


def _named(what: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    return f"{len(entries)} {what}: {', '.join(entries[:SHOWN])}{more}"


def _durable(facts: Sequence[Fact], filesystem: str, options: Sequence[str]) -> Promise:
    """Judge promise 5 by what can be known without a power loss."""
    refused = [_of(fact) for fact in facts if fact.promise == 5 and fact.grade == BAD]  # noqa: PLR2004 - the promise
    if refused:
        return Promise(5, BROKEN, _said(refused))
    if filesystem in _MEMORY:
        return Promise(
            5, BROKEN, f"{filesystem} is memory: a reboot takes all of it, synced or not"
        )
    if filesystem == "overlay" and _NO_SYNC.intersection(options):
        return Promise(5, BROKEN, "mounted volatile: a sync does nothing")
    said = [f"a program cannot try a power loss. A sync {_sync(facts)}"]
    said += [f"mounted {option}: {_AGAINST[option]}" for option in options if option in _AGAINST]
    if "data=writeback" in options:
        said.append("mounted data=writeback: harmless here, each file is synced before its rename")
    if filesystem in _SERVERS:
        said.append(f"{filesystem}: it is as durable as its server makes it (exports: sync)")
    if filesystem == "overlay":
        said.append("overlay: it is as durable as the file system of its upper directory")
    if len(said) == 1:
        said.append("No mount option speaks against it")
    return Promise(5, UNKNOWN, _said(said))


def _sync(facts: Sequence[Fact]) -> str:
    found = [fact.what for fact in facts if fact.about == "sync"]
    return found[0] if found else "was not tried"


def _served(facts: Sequence[Fact]) -> Promise:
    bad = [_of(fact) for fact in facts if (fact.promise, fact.grade) == (6, BAD)]
    follows = [_of(fact) for fact in facts if (fact.promise, fact.grade) == (6, WARNING)]
    if bad:
        return Promise(6, BROKEN, _said(bad + follows))
    if not any(fact.about == "order" for fact in facts):
        return Promise(6, UNKNOWN, "the order of a scan could not be tried")
    kept = "with one worker: a scan gives entries in the order of their commits"
    return Promise(6, KEPT, _said([kept, *follows]))


def _said(parts: Sequence[str]) -> str:
    """Join the parts as sentences."""
    return ". ".join(part[:1].upper() + part[1:] for part in parts if part)
