"""Run a decoder on a hostile input in a process of its own, and measure what that cost."""

from __future__ import annotations

import json
import os
import resource
import signal

import pytest

from watcher.errors import Undecodable

SECONDS = 5  # of processor time: what takes a second on an idle machine, and three on a busy one
GROWTH = 60  # bytes of memory a byte of input
SPARE = 40 << 20


def told(error):
    """Return an error's text, having checked that an operator can read it in one line."""
    text = str(error)
    assert text
    assert text.isprintable(), ascii(text)
    assert len(text) < 500, text[:100]
    return text


def _child(decode, data, out):
    signal.setitimer(signal.ITIMER_VIRTUAL, 4 * SECONDS + len(data) / 1e6)  # ends the process
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        decode(data)
        answer = "read"
    except Undecodable as error:
        answer = told(error)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cost = {
        "answer": answer,
        "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "memory": (after.ru_maxrss - before.ru_maxrss) << 10,
    }
    os.write(out, json.dumps(cost).encode())


def _costs(decode, data):
    """Return what `decode(data)` came to, "read" or the refusal, and what it cost."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _child(decode, data, writing)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - told to the parent, which fails
            os.write(writing, json.dumps({"escaped": repr(error)[:500]}).encode())
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        report = json.loads(stream.read() or b"{}")
    _, status = os.waitpid(child, 0)
    assert report, f"no answer in {4 * SECONDS} s of processor time (status {status})"
    assert "escaped" not in report, report["escaped"]
    return report


def _bounded(decode, data):
    """Return what `decode(data)` came to: "read", or the refusal; fail if it cost too much."""
    report = _costs(decode, data)
    assert report["seconds"] < SECONDS, report
    assert report["memory"] < GROWTH * len(data) + SPARE, report
    return report["answer"]


@pytest.fixture(scope="session")
def costs():
    return _costs


@pytest.fixture(scope="session")
def bounded():
    return _bounded


@pytest.fixture(scope="session")
def refusal():
    def refused(decode, data):
        with pytest.raises(Undecodable) as caught:
            decode(data)
        return told(caught.value)

    return refused
