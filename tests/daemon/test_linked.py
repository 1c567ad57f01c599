"""What is committed by link(2) is handled as what is renamed in is: at once, whole, and once."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

WHOLE = b"head\n" * 1000 + b"end\n"
# With `settle` nothing but the events of a file makes it ready at once: no scan, and not its times.
SLOW = ("--format", "raw", "--grace-age", "10m", "--sweep-every", "10m", "--settle", "9m")

pytestmark = [pytest.mark.promise1, pytest.mark.promise4]


@pytest.fixture
def folder(tmp_path):
    """Another directory of the same file system: Maildir's tmp/."""
    path = tmp_path / "tmp"
    path.mkdir()
    return path


def link_and_unlink(queue, folder, name):
    (folder / name).write_bytes(WHOLE)
    os.link(folder / name, queue / name)
    (folder / name).unlink()


def link_inside(queue, _folder, name):
    (queue / f".{name}").write_bytes(WHOLE)
    os.link(queue / f".{name}", queue / name)
    (queue / f".{name}").unlink()


def link_from_nowhere(queue, _folder, name):
    fd = os.open(queue, os.O_TMPFILE | os.O_WRONLY)
    os.write(fd, WHOLE)
    os.link(f"/proc/self/fd/{fd}", queue / name, src_dir_fd=fd)  # linkat(2), follows
    os.close(fd)


def link_from_nowhere_while_open(queue, _folder, name):
    fd = os.open(queue, os.O_TMPFILE | os.O_WRONLY)
    os.write(fd, WHOLE[:100])
    os.link(f"/proc/self/fd/{fd}", queue / name, src_dir_fd=fd)  # linkat(2), follows
    os.write(fd, WHOLE[100:])
    os.close(fd)


COMMITS = [link_and_unlink, link_inside, link_from_nowhere, link_from_nowhere_while_open]


@pytest.mark.parametrize("commit", COMMITS, ids=lambda commit: commit.__name__)
def test_a_file_that_is_linked_in_is_handled_at_once(queue, folder, start_daemon, recorder, commit):
    daemon = start_daemon(queue, *SLOW, handler=recorder.argv())
    for number in range(5):
        commit(queue, folder, f"a{number}.csv")
    daemon.wait_for("finish", 5)
    assert sorted(call["entry"] for call in recorder.calls) == sorted(
        f"a{number}.csv" for number in range(5)
    )
    assert {call["sha256"] for call in recorder.calls} == {hashlib.sha256(WHOLE).hexdigest()}


def write_in_place(path, pieces, *, reopen):
    for piece in range(pieces):
        with open(path, "ab", buffering=0) as file:
            file.write(b"piece %d\n" % piece)
            if not reopen:
                file.write(b"more\n" * pieces)
                return


def test_a_file_that_is_written_in_place_waits_however_often_it_is_opened_anew(
    queue, start_daemon, recorder
):
    daemon = start_daemon(queue, *SLOW, handler=recorder.argv())
    paths = [queue / f"a{number}.csv" for number in range(100)]

    def write(part, reopen):
        for path in part:
            write_in_place(path, 4, reopen=reopen)

    threads = [
        threading.Thread(target=write, args=(paths[0::2], True)),
        threading.Thread(target=write, args=(paths[1::2], False)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = queue / "last.csv"
    (queue / ".last").write_bytes(WHOLE)
    (queue / ".last").rename(last)
    daemon.wait_for("finish")
    assert [call["entry"] for call in recorder.calls] == ["last.csv"]
    assert all(path.exists() for path in paths)


def test_a_file_that_keeps_its_other_name_is_handled_when_that_goes(
    queue, folder, start_daemon, recorder, eventually
):
    daemon = start_daemon(queue, *SLOW, handler=recorder.argv())
    (folder / "a").write_bytes(WHOLE)
    os.link(folder / "a", queue / "a.csv")
    link_and_unlink(queue, folder, "b.csv")  # its event comes later: the other one was looked at
    daemon.wait_for("finish")
    assert [call["entry"] for call in recorder.calls] == ["b.csv"]
    (folder / "a").unlink()
    daemon.wait_for("finish", 2)
    assert [call["entry"] for call in recorder.calls] == ["b.csv", "a.csv"]


def test_with_hard_links_its_other_name_may_stay(queue, folder, start_daemon, recorder, tmp_path):
    settings = tmp_path / "watcher.toml"
    settings.write_text(
        f"""[queues.q]\npath = "{queue}"\nformat = "raw"\nhard_links = true\n"""
        f"""handler = {{ exec = {recorder.argv()!r} }}\n"""
    )
    daemon = start_daemon(None, "--config", str(settings))
    (folder / "a").write_bytes(WHOLE)
    os.link(folder / "a", queue / "a.csv")
    daemon.wait_for("finish")
    assert (folder / "a").read_bytes() == WHOLE


def test_a_temporary_file_that_is_made_and_removed_is_not_called_vanished(
    queue, start_daemon, recorder, run
):
    daemon = start_daemon(queue, *SLOW, handler=recorder.argv())
    for number in range(50):
        (queue / f"a{number}.lock").write_bytes(b"")
        (queue / f"a{number}.lock").unlink()
    (queue / ".last").write_bytes(WHOLE)
    (queue / ".last").rename(queue / "last.csv")
    daemon.wait_for("finish")
    assert daemon.end() == 0
    journal = b"".join(path.read_bytes() for path in (queue / ".watcher").glob("journal*"))
    assert b" finish " in journal
    assert b" vanish " not in journal
