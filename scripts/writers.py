"""The four ways in which Mailman has committed an entry to a queue directory, as small writers.

    python scripts/writers.py PROTOCOL QUEUE [--count N] [--interval S] [--pause S] [--abandon]

    2.0.8   `H.db` written and closed, then `H.msg` written in place       (Mailman 2.0 to 2.0.8)
            with --db-closed-last as in the report of 2002: `H.db` closed after `H.msg`
    2.0.13  `H.db` written and closed, then `H.msg.tmp` renamed to `H.msg` (2.0.10 to 2.0.13)
    2.1.4   `T+H.pck`, one pickle, in place, then `T+H.db.tmp` renamed     (2.1.0 to 2.1.4)
            with --plaintext `T+H.msg` instead of `T+H.pck`
    2.1.5   `T+H.pck.tmp`, two pickles, renamed to `T+H.pck`               (2.1.5 to 3.3)

Each function makes the same system calls on the directory as that Mailman version, and calls
`between` when the first file of the pair exists and the second does not: the window of 2002.
Prints `committed NAME` after each commit. With --abandon it ends in the window, prints
`abandoned NAME`, and leaves the first file behind, like a writer that was killed there.
TERM ends it between two entries: the current entry is committed and printed first.
"""

from __future__ import annotations

import argparse
import hashlib
import marshal
import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, NoReturn

Between = Callable[[str], None]
MARSHAL_VERSION = 2  # what Python 2.5 to 2.7 wrote; bytes come out as its str


class TestMessage(NamedTuple):
    """What a writer commits: the message and its metadata."""

    message: bytes
    metadata: dict[str, object]


def message_for(number: int, process: int) -> TestMessage:
    """Return a small list posting, different for each number and writing process."""
    message = (
        "From: ann@example.com\nTo: testlist@example.com\n"
        f"Subject: posting {number}\nMessage-ID: <{number}.{process}@example.com>\n"
        f"\nThis is posting {number} of process {process}.\n"
    ).encode()
    metadata: dict[str, object] = {
        "listname": "testlist",
        "tolist": 1,
        "version": 3,
        "received_time": time.time(),
    }
    return TestMessage(message, metadata)


def commit_2_0_8(
    queue: str, post: TestMessage, between: Between, *, db_closed_last: bool = False
) -> str:
    """Write the metadata, then the message, both in place."""
    name = _digest(post)
    with open(os.path.join(queue, name + ".db"), "wb") as metadata:
        metadata.write(_marshalled(post))
        if not db_closed_last:
            metadata.close()
        between(name)
        with open(os.path.join(queue, name + ".msg"), "wb") as message:
            message.write(post.message)
    return name


def commit_2_0_13(queue: str, post: TestMessage, between: Between) -> str:
    """Write the metadata in place, then the message under another name; rename that."""
    name = _digest(post)
    with open(os.path.join(queue, name + ".db"), "wb") as metadata:
        metadata.write(_marshalled(post))
    between(name)
    _write_and_rename(os.path.join(queue, name + ".msg"), post.message)
    return name


def commit_2_1_4(
    queue: str, post: TestMessage, between: Between, *, plaintext: bool = False
) -> str:
    """Write the message in place, then the metadata under another name, and rename that."""
    name = f"{time.time()!r}+{_digest(post)}"
    suffix = ".msg" if plaintext else ".pck"
    with open(os.path.join(queue, name + suffix), "wb") as message:
        message.write(post.message if plaintext else _pickled_str(post.message))
    between(name)
    _write_and_rename(os.path.join(queue, name + ".db"), _marshalled(post))
    return name


def commit_2_1_5(queue: str, post: TestMessage, between: Between) -> str:
    """Write both pickles into one file under another name, and rename it."""
    name = f"{time.time()!r}+{_digest(post)}"
    path = os.path.join(queue, name + ".pck")
    with open(path + ".tmp", "wb") as both:
        both.write(pickle.dumps(post.message, pickle.HIGHEST_PROTOCOL))
        between(name)
        both.write(pickle.dumps(post.metadata, pickle.HIGHEST_PROTOCOL))
        both.flush()
        os.fsync(both.fileno())
    os.rename(path + ".tmp", path)
    return name


PROTOCOLS: dict[str, Callable[[str, TestMessage, Between], str]] = {
    "2.0.8": commit_2_0_8,
    "2.0.13": commit_2_0_13,
    "2.1.4": commit_2_1_4,
    "2.1.5": commit_2_1_5,
}


def no_pause(_name: str) -> None:
    """Do not wait between the two files."""


def _write_and_rename(path: str, data: bytes) -> None:
    with open(path + ".tmp", "wb") as file:
        file.write(data)
    os.rename(path + ".tmp", path)


def _digest(post: TestMessage) -> str:
    return hashlib.sha1(post.message + repr(time.time()).encode()).hexdigest()


def _marshalled(post: TestMessage) -> bytes:
    return marshal.dumps(
        {_as_python2(key): _as_python2(value) for key, value in post.metadata.items()},
        MARSHAL_VERSION,
    )


def _pickled_str(text: bytes) -> bytes:
    """Pickle as protocol 1 of Python 2 pickled a str; Python 3 needs protocol 3 for bytes."""
    return b"T" + len(text).to_bytes(4, "little") + text + b"q\x00."


def _as_python2(value: object) -> object:
    """Return metadata with bytes for text, as Python 2 marshalled a str."""
    return value.encode() if isinstance(value, str) else value


def _span(text: str) -> tuple[float, float]:
    """Read `0.01` or `0-0.015` (drawn between these for each entry)."""
    low, _, high = text.partition("-")
    return float(low), float(high or low)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="writers.py", description="Write as Mailman did.")
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("queue")
    parser.add_argument("--count", type=int, default=1, help="entries to write (default 1)")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between entries")
    parser.add_argument(
        "--pause", type=_span, default=(0.0, 0.0), help="seconds between the halves: 0.01, 0-0.015"
    )
    parser.add_argument("--seed", type=int, default=1, help="what the pauses are drawn from [1]")
    parser.add_argument("--abandon", action="store_true", help="stop for good between the halves")
    parser.add_argument("--show-halves", action="store_true", help="print `half NAME` as well")
    parser.add_argument("--db-closed-last", action="store_true", help="2.0.8: close `.db` last")
    parser.add_argument("--plaintext", action="store_true", help="2.1.4: `.msg`, not `.pck`")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Commit the entries and print one line for each."""
    options = _arguments(argv)
    commit = PROTOCOLS[options.protocol]
    if options.db_closed_last:
        commit = partial(commit_2_0_8, db_closed_last=True)
    if options.plaintext:
        commit = partial(commit_2_1_4, plaintext=True)

    chance = random.Random(options.seed)

    def between(name: str) -> None:
        if options.show_halves:
            _say("half", name)
        if options.abandon:
            _abandon(name)
        pause = chance.uniform(*options.pause)
        if pause > 0:
            time.sleep(pause)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for number in range(options.count):
        if number and signal.sigtimedwait({signal.SIGTERM}, options.interval):
            return
        _say("committed", commit(options.queue, message_for(number, os.getpid()), between))


def _say(what: str, name: str) -> None:
    """Print one line with one write(2), so that writers can share a pipe."""
    sys.stdout.write(f"{what} {name}\n")
    sys.stdout.flush()


def _abandon(name: str) -> NoReturn:
    """End the process at once: the kernel closes the first file."""
    _say("abandoned", name)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
