"""Programs of this machine that write, copy, move and link."""

from __future__ import annotations

import ctypes
import logging
import logging.handlers
import os
import shutil
import sqlite3
import tempfile
import time
import zipfile

from real_writers.case import (
    MARKER,
    NAME,
    PAUSE,
    Expected,
    Place,
    WriterFailed,
    case,
    command,
    contents,
    run,
    running,
    shell,
    whole,
)

_AT_FDCWD, _AT_SYMLINK_FOLLOW = -100, 0x400

command("cp", "cp")(lambda place, source: ["cp", source, place.path()])
command("cp, then x.csv.done", "cp", marker={"marker": MARKER})(
    lambda place, source: ["cp", source, place.path()]
)
command("cp -p", "cp")(lambda place, source: ["cp", "-p", source, place.path()])
command("cp -a", "cp")(lambda place, source: ["cp", "-a", source, place.path()])
command("install", "install")(lambda place, source: ["install", source, place.path()])
command("tee", "tee")(
    lambda place, source: shell('tee "$2" < "$1" >/dev/null', source, place.path())
)
command("sort -o", "sort")(lambda place, source: ["sort", "-o", place.path(), source])
command("mv, same file system", "mv")(lambda place, source: ["mv", source, place.path()])
command("mktemp, then mv", "mktemp", "mv")(
    lambda place, source: shell(
        't=$(mktemp -p "$2") && cat "$1" > "$t" && mv "$t" "$2/$3"', source, place.queue, NAME
    )
)
command("tar x", "tar")(
    lambda place, source: shell(
        'tar -C "$1" -c "$2" | tar -C "$3" -x', os.path.dirname(source), NAME, place.queue
    )
)
command("cpio -p", "cpio")(
    lambda place, source: shell(
        'cd "$1" && echo "$2" | cpio -p --quiet "$3"', os.path.dirname(source), NAME, place.queue
    )
)
command("ln, then rm", "ln")(
    lambda place, source: shell('ln "$1" "$2" && rm "$1"', source, place.path())
)
command("ln, the source stays; hard_links", "ln", options={"hard_links": True})(
    lambda place, source: ["ln", source, place.path()]
)
command("sh: > in two parts, a pause", "head", "tail")(
    lambda place, source: shell(
        f'(head -c 99999 "$1"; sleep {PAUSE}; tail -c +100000 "$1") > "$2"', source, place.path()
    )
)
command("dd, pauses, conv=notrunc", "dd")(
    lambda place, source: shell(
        "for n in 0 1 2; do dd bs=100k count=1 skip=$n seek=$n conv=notrunc"
        f' if="$1" of="$2" 2>/dev/null; sleep {PAUSE}; done',
        source,
        place.path(),
    )
)
command("sh: > x.tmp, then mv", "mv")(
    lambda place, source: shell('cat "$1" > "$2.tmp" && mv "$2.tmp" "$2"', source, place.path())
)
command("git checkout", "git")(
    lambda place, source: shell(
        'cd "$1" && export GIT_CONFIG_NOSYSTEM=1 HOME="$1" && git init -q && git add "$2" &&'
        " git -c user.name=x -c user.email=x@example.com commit -qm x &&"
        ' git --work-tree="$3" checkout -qf HEAD -- "$2"',
        os.path.dirname(source),
        NAME,
        place.queue,
    )
)


@case("gzip -c >", "gzip")
def _gzipped(place: Place) -> Expected:
    run(*shell('gzip -nc "$1" > "$2.gz" && cp "$2.gz" "$1.gz"', place.source(), place.path()))
    with open(os.path.join(place.beside, NAME + ".gz"), "rb") as file:
        return {NAME + ".gz": [file.read()]}


@case("split", "split")
def _split(place: Place) -> Expected:
    run("split", "-b", "100000", place.source(), place.path("x."))
    data = contents(place.queue)
    return {
        f"x.a{part}": [data[at : at + 100_000]]
        for part, at in zip("abc", range(0, len(data), 100_000), strict=True)
    }


@case("unzip", "unzip")
def _unzipped(place: Place) -> Expected:
    archive = os.path.join(place.beside, "x.zip")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(place.source(), NAME)
    run("unzip", "-q", archive, "-d", place.queue)
    return whole(place)


@case("zip", "zip")
def _zipped(place: Place) -> Expected:
    source, same = place.source(), os.path.join(place.beside, "x.zip")
    for archive in (same, place.path("x.zip")):
        run("zip", "-q", "-X", "-j", archive, source)
    with open(same, "rb") as file:
        return {"x.zip": [file.read()]}


@case("ln, the source stays", "ln")
def _snapshot(place: Place) -> Expected:
    run("ln", place.source(), place.path())
    return {}


@case("cp -r of a directory, mv of a directory", "cp", "mv")
def _directories(place: Place) -> Expected:
    os.mkdir(os.path.join(place.beside, "directory"))
    place.source("directory/" + NAME)
    run("cp", "-r", os.path.join(place.beside, "directory"), place.path("copied"))
    run("mv", os.path.join(place.beside, "directory"), place.path("moved"))
    return {}


@case("mv, another file system", "mv")
def _moved_from_elsewhere(place: Place) -> Expected:
    source = place.source()
    far = os.path.join(place.elsewhere, NAME)
    shutil.copyfile(source, far)
    run("mv", far, place.path())
    return whole(place)


@case("mv of a file that is still written", "mv")
def _renamed_while_open(place: Place) -> Expected:
    data = contents(place.queue)
    part = os.path.join(place.beside, NAME + ".part")
    with open(part, "wb", buffering=0) as file:
        file.write(data[:1000])
        run("mv", part, place.path())
        time.sleep(PAUSE)
        file.write(data[1000:])
    return whole(place)


@case("Python: tempfile, os.replace")
def _replaced(place: Place) -> Expected:
    with tempfile.NamedTemporaryFile(dir=place.queue, prefix=".", delete=False) as file:
        file.write(contents(place.queue))
    os.replace(file.name, place.path())
    return whole(place)


@case("Python: tempfile, os.link")
def _linked(place: Place) -> Expected:
    with tempfile.NamedTemporaryFile(dir=place.queue, prefix=".", delete=False) as file:
        file.write(contents(place.queue))
    os.link(file.name, place.path())
    os.unlink(file.name)
    return whole(place)


@case("Python: shutil.copy")
def _copied(place: Place) -> Expected:
    shutil.copy(place.source(), place.path())
    return whole(place)


@case("Python: O_TMPFILE, linkat")
def _linked_from_nowhere(place: Place) -> Expected:
    fd = os.open(place.queue, os.O_TMPFILE | os.O_WRONLY, 0o644)
    with open(fd, "wb") as file:
        file.write(contents(place.queue))
        file.flush()
        library = ctypes.CDLL(None, use_errno=True)
        path, target = f"/proc/self/fd/{fd}".encode(), os.fsencode(place.path())
        if library.linkat(_AT_FDCWD, path, _AT_FDCWD, target, _AT_SYMLINK_FOLLOW):
            raise WriterFailed(os.strerror(ctypes.get_errno()))
    return whole(place)


@case("sh: >> while the handler works", waits=True)
def _appended(place: Place) -> Expected:
    name = "slow.csv"
    source = place.source(name)
    os.rename(source, place.path(name))
    place.at_work(name)
    data = contents(place.queue)
    with running("sh", "-c", 'cat >> "$1"', "sh", place.path(name)) as shell:
        time.sleep(4.0)  # until long after the handler has ended
        shell.communicate(b"appended\n")
    return {name: [data, data + b"appended\n"]}


@case("cp, then touch while the handler works", "touch")
def _touched(place: Place) -> Expected:
    name = "slow.csv"
    os.rename(place.source(name), place.path(name))
    place.at_work(name)
    run("touch", "-d", "2001-01-01", place.path(name))
    return whole(place, name)


@case("logrotate, olddir, the program goes on", "logrotate")
def _rotated(place: Place) -> Expected:
    data = contents(place.queue)
    log = os.path.join(place.beside, "app.log")
    config = os.path.join(place.beside, "logrotate.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"{log} {{\n olddir {place.queue}\n rotate 5\n create\n su root root\n}}\n")
    os.chmod(config, 0o600)
    with open(log, "wb", buffering=0) as file:
        file.write(data[:1000])
        run("logrotate", "-f", "-s", os.path.join(place.beside, "state"), config)
        time.sleep(PAUSE)
        file.write(data[1000:])
    return whole(place, "app.log.1")


@case("Python: RotatingFileHandler", waits=True)
def _rotating(place: Place) -> Expected:
    first, second = ("a" * 1000, "b" * 1000)
    output = logging.handlers.RotatingFileHandler(
        place.path("app.log"), maxBytes=1500, backupCount=3
    )
    for line in (first, second):
        output.emit(logging.LogRecord("app", logging.INFO, "", 0, line, None, None))
        time.sleep(PAUSE)
    output.close()
    return {f"app.log{end}": [line.encode() + b"\n"] for end, line in ((".1", first), ("", second))}


@case("SQLite, an open database")
def _database(place: Place) -> Expected:
    database = sqlite3.connect(place.path())
    database.execute("CREATE TABLE pages (text)")
    for _ in range(2):
        database.execute("INSERT INTO pages VALUES (?)", (contents(place.queue).decode(),))
        database.commit()
        time.sleep(PAUSE)
    with open(place.path(), "rb") as file:
        data = file.read()
    database.close()
    return {NAME: [data]}
