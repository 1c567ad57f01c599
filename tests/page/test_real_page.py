"""The page of a real daemon in a real browser: what is on the disk is what is shown."""

from __future__ import annotations

import signal

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(chromium):
    """A page of the browser, without an address yet."""
    page = chromium.page()
    page.resize(1280, 900)
    yield page
    page.close()


def test_entries_of_a_real_queue_until_its_daemon_is_killed(
    start_daemon, queue, recorder, opened, eventually
):
    hostile = "<img src=x onerror=alert(1)>.csv"
    options = ("--format", "raw", "--match", "*.csv", "--http", "127.0.0.1:0")
    daemon = start_daemon(queue, *options, handler=recorder.argv(gated=True))
    (record,) = daemon.wait_for("page")
    address = f"http://{record['detail'].rpartition(' ')[2]}/"
    for name in ("a.csv", hostile):
        (queue / f"{name}.tmp").write_text("x")
        (queue / f"{name}.tmp").rename(queue / name)
    opened.open(address)  # the only queue is shown itself
    opened.wait("document.querySelector('[aria-labelledby=slowest] th a')?.textContent === 'a.csv'")
    opened.wait(
        "document.querySelector('[aria-labelledby=oldest] th a')?.textContent.startsWith('<img')"
    )
    recorder.open_gate()
    daemon.wait_for("finish")
    eventually(lambda: len(recorder.calls) == 2)  # the second one is in its handler
    recorder.open_gate()
    daemon.wait_for("finish", count=2)
    opened.evaluate("document.getElementById('find').focus()")
    opened.send("Input.insertText", text=hostile)
    opened.press("Enter")
    opened.wait("document.querySelector('.steps')?.textContent.includes('attempt 1: handled')")
    assert opened.text("h1") == hostile
    assert opened.text(".result").startswith("handled on ")
    assert opened.complaints() == []
    daemon.end(signal.SIGKILL)
    opened.wait("!document.getElementById('silence').hidden")
    assert opened.text("#silence").startswith("No answer since ")
