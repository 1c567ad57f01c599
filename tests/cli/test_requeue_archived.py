"""`requeue --state archived`: out of the archive into the queue, once, with the same key."""

from __future__ import annotations

import fcntl
import json
import os

import pytest

import watcher
from tests.command_server import run_command
from watcher.attempt import Attempt
from watcher.errors import NotPermitted, TryAgain, Usage
from watcher.handle.function import Function
from watcher.inspect.balance import balance
from watcher.operate.operator import Operator
from watcher.operate.operator_moves import Moves
from watcher.operate.select_entries import Filter, select
from watcher.recovery import recover
from watcher.rules.age import Ages, SystemClock
from watcher.rules.archived_names import ArchiveOptions
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout
from watcher.rules.results import AttemptEnd
from watcher.rules.retry import Policy
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool import libc
from watcher.spool.claimed import ClaimOptions
from watcher.spool.disk import Disk
from watcher.spool.process_dir import process_dir_for
from watcher.spool.spool import Spool

RAW = Layout(b"", raw=True)
LEGACY = Layout(legacy=True)
ARCHIVE = ArchiveOptions(b"archive")
DATED = ArchiveOptions(b"archive", dated=True)
TERMS = ClaimOptions(0.0, Ages(SystemClock()))
BY = Operator("alice", 1000)
MAX = 1 << 20


class Died(BaseException):
    """The process ends here, and no code of its own runs any more."""


class Mortal(Disk):
    """A disk with which the process dies before or after its nth call; as after a SIGKILL no
    later call does anything."""

    def __init__(self, after: int | None = None) -> None:
        self.left = after  # half steps: even: before a call, odd: after it

    def dies(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Died

    def move(self, *arguments):
        self.dies()
        super().move(*arguments)
        self.dies()

    def move_aside(self, *arguments):
        self.dies()
        super().move_aside(*arguments)
        self.dies()

    def archive(self, *_arguments):
        raise Died  # the way back into the archive is code of the dead process

    def sync(self, directory):
        self.dies()
        super().sync(directory)


def open_spool(queue, layout=RAW, options=ARCHIVE, disk=None):
    spool = Spool(os.fsencode(queue), layout, disk or Disk())
    spool.use_archive(options)
    return spool


def put(queue, name, data=b"x"):
    scratch = os.fsencode(queue) + b".scratch"
    with open(scratch, "wb") as file:
        file.write(data)
    os.rename(scratch, os.path.join(os.fsencode(queue), name))


def finisher():
    patience = DiskRetry(lambda _seconds: False, lambda _trouble: None)
    return Finisher("q", TERMS, Policy(), SystemClock(), lambda _transition: None, patience)


def handle(spool, location, keys=None):
    """Handle one entry; note its key."""
    keys = [] if keys is None else keys
    handler = Function(lambda entry: keys.append((entry.name, entry.key)))
    result = Attempt(handler, finisher())(spool, location, Proof.RENAMED)
    assert result.result is AttemptEnd.DONE, result
    return keys[-1]


def make(spool, names=None, states=(State.DONE,), **wanted):
    """Requeue; return what was done, and what was not found."""
    entries, missing = select(spool, names, Move.REQUEUE, states, Filter(**wanted), MAX)
    return list(Moves(spool, TERMS, BY).make(Move.REQUEUE, entries)), missing


def files(queue, below):
    """Return the files in a directory, by name; of the queue itself without .watcher/."""
    place = queue / below
    found = place.iterdir() if below == "." else place.rglob("*")
    return {str(path.relative_to(place)): path.read_bytes() for path in found if path.is_file()}


def deferred(queue):
    return {path.name for path in (queue / ".watcher/deferred").glob("[!.]*[!n]")}  # no notes


@pytest.mark.parametrize("options", [ARCHIVE, DATED], ids=["plain", "dated"])
@pytest.mark.parametrize("name", [b"report.csv", b"PROGRA~1.TXT", b"a\xff\n"], ids=ascii)
def test_it_is_handled_again_with_the_same_key(queue, options, name):
    put(queue, name)
    spool = open_spool(queue, options=options)
    before = handle(spool, name)
    assert files(queue, ".") == {}
    (moved,), missing = make(spool)
    assert (moved.state, missing) == (State.READY, [])
    assert files(queue, "archive") == {}
    assert handle(spool, name) == before
    assert len(files(queue, "archive")) == 1
    assert balance(spool).proved


def test_namesakes_keep_their_name_and_key_and_none_is_overwritten(queue):
    spool = open_spool(queue)
    keys = []
    for text in (b"1", b"2", b"3"):
        put(queue, b"report.csv", text)
        handle(spool, b"report.csv", keys)
    assert sorted(files(queue, "archive")) == ["report.csv", "report~1.csv", "report~2.csv"]
    put(queue, b"report.csv", b"new")
    done, _ = make(spool)
    assert [moved.state for moved in done] == [State.DEFERRED] * 3
    assert files(queue, ".") == {"report.csv": b"new"}
    again = [handle(spool, b"deferred/" + os.fsencode(name)) for name in sorted(deferred(queue))]
    assert again == keys
    assert balance(spool).proved


def test_a_pair_comes_back_whole_and_a_unique_name_without_its_number(queue):
    spool = open_spool(queue, LEGACY)
    put(queue, b"x.db", b"{0")
    put(queue, b"x.msg", b"text")
    before = handle(spool, b"x.msg")
    assert sorted(files(queue, "archive")) == ["x.db", "x.msg"]
    os.rename(queue / "archive/x.db", queue / "archive/x~4.db")
    os.rename(queue / "archive/x.msg", queue / "archive/x~4.msg")
    (moved,), _ = make(spool)
    assert (moved.state, moved.why) == (State.READY, "as x.msg")
    assert files(queue, ".") == {"x.db": b"{0", "x.msg": b"text"}
    assert handle(spool, b"x.msg") == before


def into_a_link(archive):
    (archive / "a.csv").rename(archive.parent.parent / "a.csv")
    (archive / "a.csv").symlink_to(archive.parent.parent / "a.csv")


def into_a_fifo(archive):
    os.unlink(archive / "a.csv")
    os.mkfifo(archive / "a.csv")


SPOILED = {  # what is done to the archive; why its file stays, "" if it is not even listed
    "link": (into_a_link, ""),
    "fifo": (into_a_fifo, ""),
    "hard links": (lambda archive: os.link(archive / "a.csv", archive / "b.csv"), "2 hard links"),
    "hidden": (lambda archive: (archive / "a.csv").rename(archive / ".a.csv"), "not an entry"),
    "other name": (lambda archive: (archive / "a.csv").rename(archive / "a"), "not an entry"),
    "cut": (lambda archive: (archive / "a.csv").rename(archive / f"{'n' * 249}~1.csv"), "cut"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_is_no_archived_entry_stays(queue, kind):
    put(queue, b"a.csv")
    spool = open_spool(queue, Layout(b".csv", raw=True))
    handle(spool, b"a.csv")
    archive = queue / "archive"
    spoil, why = SPOILED[kind]
    spoil(archive)
    there = sorted(os.listdir(archive))
    done, _ = make(spool)
    assert [moved.state for moved in done] == [None] * len(done)
    assert all(why in moved.why for moved in done)
    assert bool(done) is bool(why)
    assert sorted(os.listdir(archive)) == there
    assert files(queue, ".") == {}


def test_what_another_process_has_claimed_stays(queue):
    put(queue, b"a.csv")
    spool = open_spool(queue)
    handle(spool, b"a.csv")
    with open(queue / "archive/a.csv", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (moved,), _ = make(spool)
    assert (moved.state, "claimed by another process" in moved.why) == (None, True)


def test_an_archive_that_is_a_queue_keeps_its_files(queue):
    put(queue, b"a.csv")
    spool = open_spool(queue)
    handle(spool, b"a.csv")
    (queue / "archive/.watcher").mkdir()
    with pytest.raises(NotPermitted, match="it is a queue, too"):
        make(spool)


def test_a_name_says_which_entry_and_all_of_the_archive_must_be_asked_for(queue):
    spool = open_spool(queue)
    for text in (b"1", b"2"):
        put(queue, b"a.csv", text)
        handle(spool, b"a.csv")
    put(queue, b"b.csv", b"3")
    handle(spool, b"b.csv")
    usual = (State.DEAD, State.DEFERRED)
    assert make(spool, None, usual) == ([], [])
    assert [str(error) for error in make(spool, [b"b.csv"], usual)[1]]
    with pytest.raises(Usage, match=r"say archived/a\.csv, archived/a~1\.csv"):
        make(spool, [b"archived/a"], usual)
    done, missing = make(spool, [b"archived/a~1.csv", b"archived/b", b"archived/c"], usual)
    assert [moved.entry.files[0] for moved in done] == [b"a~1.csv", b"b.csv"]
    assert [str(error) for error in missing] == ["c: no such entry in archive = archive"]
    assert files(queue, ".") == {"a.csv": b"2", "b.csv": b"3"}


def test_entries_are_selected_by_age_and_metadata(queue):
    spool = open_spool(queue, LEGACY)
    for number in range(3):
        name = watcher.enqueue(queue, b"text", {"list": str(number)})
        handle(spool, os.fsencode(name) + b".pck")
    assert make(spool, older=60.0) == ([], [])
    (moved,), _ = make(spool, newer=60.0, where=(("list", "1"),))
    assert moved.state is State.READY
    assert len(files(queue, "archive")) == 2


HALF_STEPS = range(14)
SLOW = ("numbered", "replaced", "marked")


@pytest.mark.parametrize("half_steps", HALF_STEPS)
@pytest.mark.parametrize(
    "shape",
    ["raw", "pair", *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)],
)
def test_a_process_that_dies_leaves_each_entry_once(queue, shape, half_steps):
    """At each call that changes a name: in the archive, or an entry with its name and key."""
    layout = {"pair": LEGACY, "marked": RAW._replace(marker=b"{name}.done")}.get(shape, RAW)
    plain = LEGACY if shape == "pair" else RAW
    name = b"x.msg" if shape == "pair" else b"x.csv"
    spool = open_spool(queue, plain)
    if shape == "numbered":
        put(queue, name, b"other")
        handle(spool, name)
    if shape == "pair":
        put(queue, b"x.db", b"{0")
    put(queue, name, b"text")
    before = handle(spool, name)
    if shape == "numbered":
        os.unlink(queue / "archive/x.csv")
    whole = len(files(queue, "archive"))
    if shape == "replaced":
        put(queue, name, b"newer")
    mortal = open_spool(queue, layout, disk=Mortal(half_steps))
    process_dir_for(mortal)
    try:
        make(mortal)
    except Died:
        mortal.disk.left = 10**6  # its own code runs no more
    mortal_dir = process_dir_for(mortal)
    spool = open_spool(queue, layout)
    fcntl.flock(mortal_dir.fd, fcntl.LOCK_UN)  # as the kernel does
    recover(spool, finisher())
    if shape == "pair" and len(files(queue, "archive")) == 1:
        make(spool)  # the rest of a pair that was cut in two: the command is repeated
    there = files(queue, "archive")
    newer = {"x.csv": b"newer"} if shape == "replaced" else {}
    out = {**files(queue, "."), **dict.fromkeys(deferred(queue), b"")}
    assert len(there) + len(out) - len(newer) == whole
    assert newer.items() <= out.items()
    if there:
        assert len(there) == whole
    else:
        (place, *_) = [b"deferred/" + os.fsencode(each) for each in deferred(queue)] or [name]
        assert handle(open_spool(queue, layout), place) == before
    assert balance(spool).proved


def test_it_works_on_a_file_system_without_renameat2_flags(queue, monkeypatch):
    monkeypatch.setattr(libc, "renameat2", lambda *_: 22)
    put(queue, b"x.csv")
    spool = open_spool(queue)
    before = handle(spool, b"x.csv")
    (moved,), _ = make(spool)
    assert moved.state is State.READY
    assert handle(spool, b"x.csv") == before


def test_a_file_that_cannot_go_on_is_back_in_the_archive(queue):
    class Refusing(Disk):
        def move(self, *_arguments):
            raise OSError(28, "No space left on device")

    put(queue, b"x.csv")
    spool = open_spool(queue, disk=Refusing())
    handle(spool, b"x.csv")
    (moved,), _ = make(spool)
    assert (moved.state, moved.why) == (None, "No space left on device (errno 28)")
    assert files(queue, "archive") == {"x.csv": b"x"}
    assert balance(spool).proved


def test_a_file_of_the_name_in_the_process_directory_is_not_overwritten(queue):
    put(queue, b"x.csv")
    spool = open_spool(queue)
    handle(spool, b"x.csv")
    place = queue / ".watcher/inflight" / os.fsdecode(process_dir_for(spool).name)
    (place / "x.csv").write_bytes(b"other")
    with pytest.raises(TryAgain):
        make(spool)
    assert files(queue, "archive") == {"x.csv": b"x"}
    assert (place / "x.csv").read_bytes() == b"other"


def test_a_file_that_another_program_puts_in_its_place_stays_in_the_archive(queue):
    class Replacing(Disk):
        def move_aside(self, name, source, target, new_name=None):
            if new_name is not None:
                put(queue / "archive", name, b"other")
            super().move_aside(name, source, target, new_name)

    put(queue, b"x.csv")
    spool = open_spool(queue, disk=Replacing())
    handle(spool, b"x.csv")
    (moved,), _ = make(spool)
    assert (moved.state, moved.why) == (None, "no longer there")
    assert files(queue, "archive") == {"x.csv": b"other"}


@pytest.fixture
def run(watcher_command, environment, queue):
    """Requeue what is archived; return the lines, and what was said."""

    def running(*arguments, status=0):
        argv = [*watcher_command, "requeue", str(queue), "--state", "archived", *arguments]
        ended = run_command(argv, env=environment, text=True)
        assert status in (ended.returncode, None), ended.stderr
        return ended.stdout.splitlines(), ended.stderr

    return running


def test_the_command_says_what_it_does_and_a_dry_run_changes_nothing(queue, run):
    spool = open_spool(queue)
    for text in (b"1", b"2"):
        put(queue, b"a.csv", text)
        handle(spool, b"a.csv")
    options = ("--archive", "archive/", "--format", "raw", "--suffix", "")
    there = files(queue, "archive")
    lines, _ = run("ALL", "--dry-run", *options)
    assert lines == [
        "a.csv  archived, would be requeued",
        "a~1.csv  archived, would be requeued: as a.csv",
    ]
    assert files(queue, "archive") == there
    assert run("ALL", status=os.EX_USAGE)[1].endswith("say --archive DIR or --config\n")
    lines, said = run("ALL", "--limit", "1", "--json", *options)
    assert [json.loads(line)["from"] for line in lines] == ["archived"]
    lines, said = run("ALL", *options)
    assert lines == [
        "a~1.csv  archived, requeued: through deferred/: the queue has a newer file of its name"
    ]
    assert said == "1 requeued, 0 left\n"
    assert run("ALL", *options)[0] == []


def test_all_of_an_archive_that_queues_share_is_refused_and_a_queue_without_one_is_passed_over(
    tmp_path, watcher_command, environment
):
    written, shared = tmp_path / "w.toml", tmp_path / "shared"
    shared.mkdir()
    tables = {"one": f'archive = "{shared}"', "two": f'archive = "{shared}/../shared"', "none": ""}
    text = 'format = "raw"\nsuffix = ".csv"\nhandler = { exec = ["true"] }\n'
    for name in tables:
        (tmp_path / name).mkdir()
    written.write_text(
        "".join(
            f'[queues.{name}]\npath = "{tmp_path / name}"\n{text}{archive}\n'
            for name, archive in tables.items()
        )
    )
    (shared / "a.csv").write_text("whose?")
    argv = [*watcher_command, "requeue", "--state", "archived", "--config", str(written)]
    ended = run_command([*argv, "ALL"], env=environment, text=True)
    assert ended.returncode == os.EX_USAGE
    assert [line.split(": ")[2] for line in ended.stderr.splitlines()] == [
        "queue two has it, too, and no file there says whose it was",
        "queue one has it, too, and no file there says whose it was",
    ]
    ended = run_command([*argv, "one", "a.csv"], env=environment, text=True)
    assert ended.stdout == "a.csv  archived, requeued\n"


def test_a_daemon_that_archives_the_same_names_and_a_command_that_brings_them_back(
    queue, start_daemon, run, tmp_path
):
    """The whole archive goes round while the daemon works: two entries of each name, none lost."""
    count = tmp_path / "count"
    archive = ("--archive", "archive/")
    daemon = start_daemon(
        *(queue, "--format", "raw", "--suffix", ".csv", *archive, "--concurrency", "2"),
        handler=["sh", "-c", f'echo "$WATCHER_KEY" >> {count}'],
    )
    names = [b"%d.csv" % number for number in range(10)]
    for handled in (10, 20):
        for name in names:
            put(queue, name, b"text")
        daemon.wait_for("finish", handled)
    requeued = 0
    for _ in range(3):
        lines, _ = run("ALL", *archive, "--rate", "500/s", status=None)  # 75: some are claimed
        requeued += sum(", requeued" in line for line in lines)
    assert requeued >= 20
    daemon.wait_for("finish", 20 + requeued)
    daemon.end()
    assert len(files(queue, "archive")) == 20
    assert files(queue, ".") == {}
    keys = count.read_text().split()
    assert (len(keys), len(set(keys))) == (20 + requeued, 20)
    assert balance(open_spool(queue, Layout(b".csv", raw=True))).proved
