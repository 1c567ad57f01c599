"""What the sources of hints see of real writers: the same scenarios on every backend.

`inotify`; `polling` (every file); `large` (polling by the directory's own time). An event is a
hint: a backend may say less than happened (LOOK, EVERYTHING), never more: RENAMED is a proof.
"""

from __future__ import annotations

import gc
import os
import select
import subprocess
import sys
import time

import pytest

from watcher.arrive import polling
from watcher.arrive.inotify import Inotify
from watcher.arrive.polling import Polling
from watcher.arrive.source import Event, EventKind
from watcher.arrive.sources import Sources
from watcher.errors import WatchFailed
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.spool.spool import Spool

PATIENCE = 30.0
TAG = 7


class Scene:
    """A directory that a source watches, and what the source said so far."""

    def __init__(self, backend, directory, layout=Layout()):  # noqa: B008 - immutable
        self.backend, self.directory = backend, directory
        self.spool = Spool(os.fsencode(directory), layout)
        self.source = Inotify() if backend == "inotify" else Polling()
        self.hints: list[Event] = []

    def arm(self):
        self.source.arm(TAG, self.spool)
        return self

    def until(self, condition):
        """Read hints until `condition` holds; each wait is for the source's descriptor."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain; {self.backend} said {self.hints}"
            if select.select([self.source], [], [], left)[0]:
                self.hints += self.source.read()

    def said(self, seen, name=b""):
        return any(hint.seen is seen and hint.name == name for hint in self.hints)

    def noticed(self, *names):
        """Whether a scan would be made of all, or each of these was named."""
        if any(hint.seen is EventKind.EVERYTHING for hint in self.hints):
            return True
        named = {
            hint.name for hint in self.hints if hint.seen in {EventKind.RENAMED, EventKind.LOOK}
        }
        return named >= set(names)

    def mark(self):
        """Rename something in and wait until it is noticed: what was before it has been said."""
        self.hints = [hint for hint in self.hints if hint.seen is not EventKind.EVERYTHING]
        before = len(self.hints)
        self.rename_in(b"zz-mark.pck")
        self.until(
            lambda: any(h.name == b"zz-mark.pck" or h.seen is EventKind.EVERYTHING
                        for h in self.hints[before:])
        )  # fmt: skip

    def path(self, name):
        return os.path.join(os.fsencode(self.directory), name)

    def rename_in(self, name, data=b"data"):
        scratch = os.path.join(os.fsencode(self.directory.parent), b"scratch")
        with open(scratch, "wb") as file:
            file.write(data)
        os.rename(scratch, self.path(name))


@pytest.fixture(params=["inotify", "polling", "large"])
def backend(request, monkeypatch):
    monkeypatch.setattr(polling, "INTERVAL", 0.05)
    if request.param == "large":
        monkeypatch.setattr(polling, "MODERATE", -1)
        monkeypatch.setattr(polling.itertools, "islice", lambda *_arguments: iter([True]))
    return request.param


@pytest.fixture
def scene(queue):
    """Make scenes; each is taken down."""
    made = []

    def make(backend, layout=Layout(), directory=queue):  # noqa: B008 - immutable
        made.append(Scene(backend, directory, layout))
        return made[-1]

    yield make
    for one in made:
        one.source.close()


# -- what is committed is noticed -------------------------------------------------------------

NAMES = [
    b"1.0+ab.pck",
    b"\xff\xfe+caf\xe9.pck",
    b"two\nlines.pck",
    b"-rf.pck",
    b"n" * 251 + b".pck",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:16])
def test_a_rename_in_is_noticed(scene, backend, name):
    watched = scene(backend).arm()
    watched.rename_in(name)
    watched.until(lambda: watched.noticed(name))
    if backend == "inotify":
        assert watched.hints == [Event(TAG, EventKind.RENAMED, name)]
    else:  # it cannot be told from a file that was made here and is being written
        assert not watched.said(EventKind.RENAMED, name)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:16])
def test_a_rename_within_is_a_rename(scene, backend, name):
    watched = scene(backend)
    with open(watched.path(b"x.tmp"), "wb") as file:
        file.write(b"data")
    watched.arm()
    os.rename(watched.path(b"x.tmp"), watched.path(name))
    watched.until(lambda: watched.noticed(name))
    assert watched.said(EventKind.RENAMED, name) == (backend != "large")


def test_what_is_committed_as_soon_as_the_watch_is_armed_is_noticed(scene, backend):
    """Arm, then scan: whatever the scan can't have seen, the source must."""
    for number in range(20):
        watched = scene(backend).arm()
        name = b"%d.pck" % number
        if backend == "large":  # a directory's time is that of the kernel's last tick
            before = os.stat(watched.directory).st_mtime_ns
            while os.stat(watched.directory).st_mtime_ns == before:
                watched.rename_in(name)
        else:
            watched.rename_in(name)
        watched.until(lambda watched=watched, name=name: watched.noticed(name))


def test_many_renames_by_a_real_writer_are_all_noticed(scene, backend):
    watched = scene(backend).arm()
    program = (
        "import os, sys\n"
        "for n in range(1000):\n"
        "    path = os.path.join(sys.argv[1], '%d.pck' % n)\n"
        "    open(path + '.tmp', 'w').close(); os.rename(path + '.tmp', path)\n"
    )
    subprocess.run([sys.executable, "-c", program, watched.directory], check=True)
    watched.until(lambda: watched.noticed(*(b"%d.pck" % number for number in range(1_000))))


def test_a_directory_in_which_much_happens_is_not_gone(scene, backend):
    watched = scene(backend).arm()
    for _ in range(5):
        watched.mark()
        os.unlink(watched.path(b"zz-mark.pck"))
    os.mkdir(watched.path(b"folder"))
    watched.mark()
    assert not watched.said(EventKind.GONE)


def test_a_rename_over_a_file_is_noticed(scene, backend):
    watched = scene(backend)
    watched.rename_in(b"x.pck", b"yesterday's")
    watched.arm()
    watched.rename_in(b"x.pck", b"today's")
    watched.until(lambda: watched.noticed(b"x.pck"))


# -- what proves nothing is not called a rename -----------------------------------------------


def test_a_file_made_and_written_in_place_is_never_a_rename(scene, backend):
    watched = scene(backend).arm()
    with open(watched.path(b"x.pck"), "wb", buffering=0) as file:
        for _ in range(3):
            file.write(b"half")
            watched.mark()
    watched.mark()
    assert not watched.said(EventKind.RENAMED, b"x.pck")
    if backend == "inotify":  # not even subscribed to: the kernel's queue is for renames
        assert {hint.name for hint in watched.hints} == {b"zz-mark.pck"}
    if backend == "polling":
        assert watched.said(EventKind.LOOK, b"x.pck")


def test_a_link_in_is_never_a_rename(scene, backend, tmp_path):
    watched = scene(backend)
    (tmp_path / "elsewhere").touch()
    watched.arm()
    os.link(tmp_path / "elsewhere", watched.path(b"x.pck"))
    watched.mark()
    assert not watched.said(EventKind.RENAMED, b"x.pck")


def test_a_directory_renamed_in_is_no_entry(scene, backend, tmp_path):
    watched = scene(backend)
    (tmp_path / "folder").mkdir()
    watched.arm()
    os.rename(tmp_path / "folder", watched.path(b"1.0+ab.pck"))
    watched.mark()
    assert not watched.said(EventKind.RENAMED, b"1.0+ab.pck")
    assert not watched.said(EventKind.LOOK, b"1.0+ab.pck")


def test_what_leaves_is_not_hinted_at(scene, backend):
    watched = scene(backend)
    watched.rename_in(b"x.pck")
    watched.rename_in(b"y.pck")
    watched.arm()
    os.unlink(watched.path(b"x.pck"))
    os.rename(watched.path(b"y.pck"), watched.path(b"../y.pck"))
    watched.mark()
    assert {hint.name for hint in watched.hints} <= {b"zz-mark.pck", b""}


@pytest.mark.parametrize("data", [b"", b"data"], ids=["empty", "same size"])
def test_an_inode_that_is_used_again_is_no_rename(scene, backend, data):
    """By polling, `a.tmp` gone and its inode under `b.pck` look like a rename, and are none."""
    watched = scene(backend)
    for number in range(100):
        old, new = b"%d.tmp" % number, b"%d.pck" % number
        with open(watched.path(old), "wb") as file:
            file.write(data)
        inode = os.stat(watched.path(old)).st_ino
        written = os.stat(watched.path(old)).st_mtime_ns
        watched.arm()
        time.sleep(0.02)  # the kernel's stamps are no finer than its tick
        os.unlink(watched.path(old))
        with open(watched.path(new), "wb") as file:
            file.write(data)
        status = os.stat(watched.path(new))
        watched.mark()
        assert not watched.said(EventKind.RENAMED, new)
        if status.st_ino == inode:
            assert status.st_mtime_ns != written
            return
    pytest.skip("this file system does not use inodes again")


# -- legacy -----------------------------------------------------------------------------------


def test_legacy_closes_are_hints_and_renames_too(scene, backend):
    watched = scene(backend, Layout(legacy=True)).arm()
    writer = (
        "import os, sys; os.chdir(sys.argv[1])\n"
        "open('h.db', 'w').write('metadata'); open('h.msg', 'w').write('message')\n"
        "open('k.msg.tmp', 'w').close(); os.rename('k.msg.tmp', 'k.msg')\n"
    )
    subprocess.run([sys.executable, "-c", writer, watched.directory], check=True)
    watched.until(
        lambda: watched.noticed(b"k.msg", *([] if backend == "inotify" else [b"h.db", b"h.msg"]))
    )
    if backend == "inotify":
        assert [(hint.seen, hint.name) for hint in watched.hints] == [
            (EventKind.CLOSED, b"h.db"),
            (EventKind.CLOSED, b"h.msg"),
            (EventKind.CLOSED, b"k.msg.tmp"),
            (EventKind.RENAMED, b"k.msg"),
        ]
    else:
        assert not watched.said(EventKind.CLOSED, b"h.msg")


def test_a_close_comes_with_the_close_not_with_the_write(scene):
    watched = scene("inotify", Layout(legacy=True)).arm()
    with open(watched.path(b"h.msg"), "wb", buffering=0) as file:
        file.write(b"half")
        watched.mark()
        assert not watched.said(EventKind.CLOSED, b"h.msg")
    watched.until(lambda: watched.said(EventKind.CLOSED, b"h.msg"))


# -- raw --------------------------------------------------------------------------------------

RAW = Layout(b"", raw=True)


def write_and_link(watched):
    """Make a file in place, link one in, rename one in, and make a directory."""
    with open(watched.path(b"in place"), "wb") as file:
        file.write(b"data")
    outside = watched.directory.parent / "outside"
    outside.write_bytes(b"data")
    os.link(outside, watched.path(b"linked"))
    os.rename(outside, watched.path(b"renamed"))
    os.mkdir(watched.path(b"directory"))


def test_a_raw_queue_hears_what_is_made_and_closed_and_of_no_directory(scene):
    watched = scene("inotify", RAW).arm()
    write_and_link(watched)
    assert [(hint.seen, hint.name) for hint in watched.source.read_all()] == [
        (EventKind.CREATED, b"in place"),
        (EventKind.CLOSED, b"in place"),
        (EventKind.CREATED, b"linked"),
        (EventKind.RENAMED, b"renamed"),
    ]


@pytest.mark.parametrize("layout", [RAW, Layout()], ids=["every writer renames", "mailman"])
def test_where_every_writer_renames_only_renames_fill_the_kernels_queue(scene, layout):
    watched = scene("inotify", layout)
    watched.source.arm(TAG, watched.spool, renames=layout.raw)
    write_and_link(watched)
    assert watched.source.read_all() == [Event(TAG, EventKind.RENAMED, b"renamed")]


def test_all_that_is_queued_is_read_however_many_reads_it_takes(scene, monkeypatch):
    monkeypatch.setattr("watcher.arrive.inotify.READ", 4096)
    watched = scene("inotify", RAW).arm()
    names = [b"%0200d" % number for number in range(200)]
    for name in names:
        with open(watched.path(name), "wb"):
            pass
    events = watched.source.read_all()
    assert [hint.name for hint in events if hint.seen is EventKind.CLOSED] == names
    monkeypatch.setattr("watcher.arrive.inotify.READS", 3)
    for name in names:
        os.utime(watched.path(name))
        with open(watched.path(name), "wb"):
            pass
    assert watched.source.read_all()[-1] == Event(None, EventKind.EVERYTHING)


# -- what is lost is said ---------------------------------------------------------------------


def test_an_overflow_says_that_everything_must_be_looked_at(scene):
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        room = int(file.read())
    if room > 100_000:
        pytest.skip(f"the kernel's queue holds {room} events")
    watched = scene("inotify").arm()
    watched.rename_in(b"0.pck")
    for number in range(room + 500):
        os.rename(watched.path(b"%d.pck" % number), watched.path(b"%d.pck" % (number + 1)))
    watched.until(lambda: watched.said(EventKind.EVERYTHING))
    overflows = [hint for hint in watched.hints if hint.seen is EventKind.EVERYTHING]
    assert overflows == [Event(None, EventKind.EVERYTHING)]
    assert len(watched.hints) == room + 1
    watched.hints.clear()
    watched.rename_in(b"after.pck")
    watched.until(lambda: watched.said(EventKind.RENAMED, b"after.pck"))
    assert not watched.said(EventKind.EVERYTHING)


# -- a watch is never assumed to live ---------------------------------------------------------


def test_a_directory_that_is_moved_away_is_gone(scene, backend, tmp_path):
    watched = scene(backend).arm()
    watched.directory.rename(tmp_path / "moved")
    watched.until(lambda: watched.said(EventKind.GONE))
    assert not watched.spool.is_current()


def test_a_directory_that_is_removed_is_gone(scene, backend):
    watched = scene(backend).arm()
    watched.directory.rmdir()
    assert (
        not watched.spool.is_current()
    )  # what tells while we hold a descriptor: inotify is silent
    if backend == "inotify":
        assert watched.source.read() == []
        watched.spool = None
        gc.collect()
    watched.until(lambda: watched.said(EventKind.GONE))
    watched.source.disarm(TAG)


def test_one_that_is_put_back_is_watched_again(scene, backend):
    watched = scene(backend).arm()
    watched.directory.rmdir()
    watched.source.disarm(TAG)
    watched.directory.mkdir()
    watched.spool = Spool(os.fsencode(watched.directory), Layout())
    gc.collect()
    watched.arm()
    watched.rename_in(b"x.pck")
    watched.until(lambda: watched.noticed(b"x.pck"))
    assert not watched.said(EventKind.GONE), "the last words of the old watch"


def test_what_is_no_longer_watched_says_nothing(scene, backend, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    watched = scene(backend).arm()
    watched.source.arm(8, Spool(os.fsencode(other), Layout()))
    watched.source.disarm(8)
    watched.source.disarm(8)
    watched.source.disarm(99)
    os.rename(watched.directory.parent.joinpath("other").as_posix(), tmp_path / "renamed")
    (tmp_path / "renamed/x.pck").touch()
    watched.mark()
    assert {hint.tag for hint in watched.hints} == {TAG}


def test_to_stop_watching_what_the_kernel_stopped_watching_is_silent(scene, capfd):
    watched = scene("inotify").arm()
    watched.directory.rmdir()
    watched.spool = None
    gc.collect()
    watched.source.disarm(TAG)
    assert capfd.readouterr().err == ""
    assert watched.source.read() == []


def test_each_queue_has_its_tag(scene, backend, tmp_path):
    watched = scene(backend).arm()
    other = tmp_path / "other"
    other.mkdir()
    spool = Spool(os.fsencode(other), Layout())
    watched.source.arm(8, spool)
    (tmp_path / "scratch").touch()
    (tmp_path / "scratch").rename(other / "x.pck")
    watched.until(lambda: any(hint.tag == 8 for hint in watched.hints))
    assert {hint.tag for hint in watched.hints} == {8}


def test_a_symbolic_link_to_a_directory_is_watched(scene, backend, queue, tmp_path):
    (tmp_path / "link").symlink_to(queue)
    watched = scene(backend, directory=tmp_path / "link").arm()
    watched.rename_in(b"x.pck")
    watched.until(lambda: watched.noticed(b"x.pck"))


@pytest.mark.parametrize("name", ["\udcff\udcfe", "two\nlines", "sp ace*[x]?"])
def test_a_directory_of_any_name_is_watched(scene, backend, tmp_path, name):
    directory = tmp_path / name
    directory.mkdir()
    watched = scene(backend, directory=directory).arm()
    watched.rename_in(b"x.pck")
    watched.until(lambda: watched.noticed(b"x.pck"))


def test_reading_never_waits_and_nothing_is_inherited(scene, backend):
    watched = scene(backend).arm()
    assert watched.source.read() == []
    assert not os.get_inheritable(watched.source.fileno())


# -- limits -----------------------------------------------------------------------------------

# The limits of a user namespace of our own: real, and for no other process.
LIMITED = """
import ctypes, os, sys
uid, gid = os.getuid(), os.getgid()
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
    print("no namespace"); sys.exit()
for file, line in (("uid_map", f"0 {uid} 1"), ("setgroups", "deny"), ("gid_map", f"0 {gid} 1")):
    with open("/proc/self/" + file, "w") as table: table.write(line)
with open("/proc/sys/user/" + sys.argv[2], "w") as limit: limit.write("0")
from watcher.arrive.sources import Sources
from watcher.errors import WatchFailed
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.spool.spool import Spool
sources, spool = Sources(), Spool(os.fsencode(sys.argv[1]), Layout())
try:
    print("armed by", sources.arm(1, spool, "inotify"))
except WatchFailed as error:
    print(error)
with open("/proc/sys/user/" + sys.argv[2], "w") as limit: limit.write("5")
print("armed by", sources.arm(1, spool, "inotify"))
"""


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("max_inotify_watches", ["No space left", "raise fs.inotify.max_user_watches"]),
        ("max_inotify_instances", ["Too many open files", "raise fs.inotify.max_user_instances"]),
    ],
)
def test_a_limit_that_is_hit_is_named_and_tried_again(queue, limit, words):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIMITED, queue, limit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.stdout == "no namespace\n":
        pytest.skip("no user namespaces here")
    said, then = done.stdout.splitlines()
    assert all(word in said for word in words), said
    assert "None" not in said
    assert then == "armed by inotify", done.stderr
    assert done.stderr == ""


SHORT = """
import os, resource, sys
from watcher.arrive.sources import Sources
from watcher.errors import WatchFailed
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.spool.spool import Spool
sources, spool = Sources(), Spool(os.fsencode(sys.argv[1]), Layout())
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (spool.fd + 1, hard))
try:
    print("armed by", sources.arm(1, spool, sys.argv[2]))
except WatchFailed as error:
    print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print("armed by", sources.arm(1, spool, sys.argv[2]))
"""


@pytest.mark.parametrize("wanted", ["inotify", "polling"])
def test_a_source_that_is_first_wanted_without_descriptors_comes_later(queue, wanted):
    """A reload may bring the first queue that is polled when its module cannot be opened."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHORT, queue, wanted],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    said, then = done.stdout.splitlines()
    assert "Too many open files" in said
    assert then == f"armed by {wanted}"


def test_a_directory_that_cannot_be_polled_says_so(scene, monkeypatch):
    watched = scene("polling")
    watched.directory.rmdir()
    with pytest.raises(WatchFailed, match="cannot be polled"):
        watched.arm()


# -- the sources of a process -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "filesystem", "expected"),
    [
        ("auto", "ext4", "inotify"),
        ("auto", "", "inotify"),
        ("auto", "nfs4", "inotify and polling"),
        ("auto", "fuse", "inotify and polling"),
        ("inotify", "nfs4", "inotify"),
        ("polling", "ext4", "polling"),
    ],
)
def test_where_events_are_blind_it_polls(queue, monkeypatch, wanted, filesystem, expected):
    monkeypatch.setattr(polling, "INTERVAL", 0.05)
    sources, spool = Sources(), Spool(os.fsencode(queue), Layout())
    spool.filesystem = filesystem
    try:
        assert sources.filenos() == []
        assert sources.arm(TAG, spool, wanted) == expected
        fd, *others = sources.filenos()
        assert len(others) == expected.count("and")
        (queue / "x.tmp").touch()
        (queue / "x.tmp").rename(queue / "x.pck")
        assert select.select([fd], [], [], PATIENCE)[0]
        assert {hint.name for hint in sources.reader(fd)()} == {b"x.pck"}
        assert sources.reader(-1)() == []
        sources.disarm(TAG)
    finally:
        sources.close()


def test_where_events_are_blind_a_rename_of_this_machine_is_heard_at_once(queue, monkeypatch):
    monkeypatch.setattr(polling, "INTERVAL", 3600.0)
    sources, spool = Sources(), Spool(os.fsencode(queue), Layout())
    spool.filesystem = "fuse"
    try:
        sources.arm(TAG, spool, "auto")
        deferred = spool.make_state_dir(State.DEFERRED)
        assert not sources.arm_deferred(TAG, spool, deferred), "it must be listed all the same"
        (queue / "x.tmp").touch()
        (queue / "x.tmp").rename(queue / "x.pck")
        (queue / "y.tmp").touch()
        (queue / "y.tmp").rename(queue / ".watcher/deferred/y.pck")
        event_time_ns = [hint for fd in sources.filenos() for hint in sources.reader(fd)()]
        assert event_time_ns == [
            Event(TAG, EventKind.RENAMED, b"x.pck"),
            Event(TAG, EventKind.RENAMED, b"deferred/y.pck"),
        ]  # fmt: skip
        sources.disarm(TAG)
        (queue / "z.pck").touch()
        (queue / "z.pck").rename(queue / "w.pck")
        assert [hint for fd in sources.filenos() for hint in sources.reader(fd)()] == []
    finally:
        sources.close()


def test_where_the_kernel_will_not_watch_polling_will_do(queue, monkeypatch):
    sources, spool = Sources(), Spool(os.fsencode(queue), Layout())
    spool.filesystem = "fuse"

    def refuse():
        raise WatchFailed("no inotify instance to be had")

    monkeypatch.setattr(sources, "inotify", refuse)
    try:
        assert sources.arm(TAG, spool, "auto") == "polling (no inotify instance to be had)"
        assert len(sources.filenos()) == 1
    finally:
        sources.close()


def test_what_is_not_used_is_not_imported(queue):
    program = (
        "import os, sys, warnings\nwarnings.simplefilter('ignore')\n"
        "from watcher.arrive.sources import Sources\nfrom watcher.rules.names import Layout\n"
        "from watcher.spool.spool import Spool\n"
        "assert not {'pyinotify', 'watchdog'} & set(sys.modules)\n"
        "sources = Sources(); sources.arm(1, Spool(os.fsencode(sys.argv[1]), Layout()), 'auto')\n"
        "sys.exit('watchdog' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, queue], check=True)
