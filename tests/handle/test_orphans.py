"""Reaping as PID 1 does: in a child of ours, which becomes a subreaper."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap

import pytest

BEGIN = """
import ctypes, math, os, subprocess, sys, threading, time
from watcher.handle import adopted_children
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def orphan(text="pass"):
    '''Begin a process whose parent ends at once; return it.'''
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            exec(text)
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(read, 20))


def ended(pid):
    '''Wait until a process is a zombie: its parent has not waited for it.'''
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def is_there(pid):
    return os.path.exists(f"/proc/{pid}")
"""


def run(text):
    code = BEGIN + textwrap.dedent(text)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("listed", [True, False], ids=["children listed", "older kernel"])
def test_an_orphan_is_waited_for_when_it_has_been_a_zombie_for_a_while(listed):
    run(f"""
        mine = adopted_children.Orphans()
        if not {listed}:
            mine._children = "/nonexistent"
        assert mine.reap(0.0) == math.inf
        living = orphan("time.sleep(60)")
        dead = orphan()
        ended(dead)
        assert mine.reap(10.0) == 10.0 + adopted_children.GRACE
        assert is_there(dead)
        assert mine.reap(10.0 + adopted_children.GRACE) == math.inf
        assert not is_there(dead)
        os.kill(living, 9)
        ended(living)
        mine.reap(20.0)
        mine.reap(30.0)
        assert not is_there(living)
    """)


def test_the_child_of_another_thread_is_left_to_it():
    run("""
        mine = adopted_children.Orphans()
        begun, go_on, status = threading.Event(), threading.Event(), []

        def work():
            child = subprocess.Popen(["sh", "-c", "exit 7"])
            ended(child.pid)
            begun.set()
            go_on.wait(30)
            status.append(child.wait())

        thread = threading.Thread(target=work)
        thread.start()
        assert begun.wait(30)
        mine._children = "/nonexistent"
        for now in (0.0, 100.0):
            assert mine.reap(now) == math.inf
        go_on.set()
        thread.join()
        assert status == [7]
    """)


def test_what_is_noted_as_ours_is_left_alone():
    run("""
        mine = adopted_children.Orphans()
        child = subprocess.Popen(["sh", "-c", "exit 7"])
        adopted_children.own_children.add(child.pid)
        ended(child.pid)
        for now in (0.0, 100.0):
            assert mine.reap(now) == math.inf
        assert child.wait() == 7
    """)


def test_a_process_that_is_given_no_orphans_looks_for_none():
    answer = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(37, ctypes.byref(answer), 0, 0, 0)
    if answer.value or os.getpid() == 1:
        pytest.skip("we are given orphans")
    text = (
        "from watcher.handle import adopted_children; raise SystemExit(adopted_children.adopts())"
    )
    assert subprocess.run([sys.executable, "-c", text], timeout=60).returncode == 0
