"""Uploads by SSH: scp, sftp and its relatives, to an OpenSSH of this program."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path

from real_writers.case import (
    MARKER,
    NAME,
    PAUSE,
    RESUMED,
    SLOW_RATE,
    Expected,
    Place,
    begun,
    case,
    command,
    run,
    running,
    until,
    whole,
)


def _ssh(place: Place) -> list[str]:
    place.servers.port("sshd")
    return ["-F", place.servers.ssh_config]


def _sftp(place: Place, script: str, *options: str) -> None:
    run("sftp", *_ssh(place), *options, "-b", "-", "queue", stdin=script.encode())


_SSH = ("sshd", "ssh-keygen", "scp", "sftp")
command("scp", *_SSH)(
    lambda place, source: ["scp", "-q", *_ssh(place), source, f"queue:{place.path()}"]
)
command("scp -O", *_SSH)(
    lambda place, source: ["scp", "-O", "-q", *_ssh(place), source, f"queue:{place.path()}"]
)
command("scp -l, slow", *_SSH)(
    lambda place, source: [
        *("scp", "-q", "-l", str(SLOW_RATE * 8), *_ssh(place), source, f"queue:{place.path()}")
    ]
)
command("rsync over ssh", "rsync", *_SSH)(
    lambda place, source: [
        *("rsync", "-e", " ".join(["ssh", *_ssh(place)]), source, f"queue:{place.path()}")
    ]
)
command("lftp sftp, temporary file (link)", "lftp", *_SSH)(
    lambda place, source: [
        *("lftp", "-c"),
        (
            f'set sftp:connect-program "ssh -a -x {" ".join(_ssh(place))}";'
            "set xfer:use-temp-file yes; set xfer:temp-file-name .in.*;"
            f"open -u {_me()},x sftp://queue; put {source} -o {place.path()}"
        ),
    ]
)


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


@case("sftp put", *_SSH)
def _put(place: Place) -> Expected:
    _sftp(place, f"put {place.source()} {place.path()}\n")
    return whole(place)


@case("sftp put, slow", *_SSH)
def _put_slowly(place: Place) -> Expected:
    _sftp(place, f"put {place.source()} {place.path()}\n", "-l", str(SLOW_RATE * 8))
    return whole(place)


@case("sftp put x.filepart, rename", *_SSH)
def _put_and_rename(place: Place) -> Expected:
    part = place.path() + ".filepart"
    _sftp(place, f"put {place.source()} {part}\nrename {part} {place.path()}\n")
    return whole(place)


@case("sftp put, killed, reput", *_SSH, settle=RESUMED, marker={"marker": MARKER})
def _put_again(place: Place) -> Expected:
    source = place.source()
    slow = ["sftp", *_ssh(place), "-l", str(SLOW_RATE * 4), "queue"]
    with running(*slow) as program:
        assert program.stdin is not None  # noqa: S101 - a pipe was asked for
        program.stdin.write(f"put {source} {place.path()}\n".encode())
        program.stdin.flush()
        until(lambda: begun(place))
    time.sleep(PAUSE)
    _sftp(place, f"reput {source} {place.path()}\n")
    return whole(place)


@case("psftp put x.part, mv (link)", "psftp", "puttygen", *_SSH)
def _put_by_putty(place: Place) -> Expected:
    source, part = place.source(), place.path() + ".part"
    port = place.servers.port("sshd")
    key = os.path.join(place.beside, "key.ppk")
    run("puttygen", place.servers.ssh_key, "-o", key)
    _type, host_key, *_ = Path(place.servers.ssh_host_key).read_text(encoding="utf-8").split()
    digest = base64.b64encode(hashlib.sha256(base64.b64decode(host_key)).digest()).decode()
    run(
        *(
            "psftp",
            "-batch",
            "-P",
            str(port),
            "-i",
            key,
            "-hostkey",
            "SHA256:" + digest.rstrip("="),
        ),
        *("-b", "/dev/stdin", f"{_me()}@127.0.0.1"),
        stdin=f"put {source} {part}\nmv {part} {place.path()}\n".encode(),
    )
    return whole(place)


@case("sshfs, cp", "sshfs", "fusermount3", *_SSH)
def _over_sshfs(place: Place) -> Expected:
    source = place.source()
    with _sshfs(place) as mount:
        run("cp", source, os.path.join(mount, NAME))
    return whole(place)


@case("sshfs, cp x.tmp, mv", "sshfs", "fusermount3", *_SSH)
def _renamed_over_sshfs(place: Place) -> Expected:
    source = place.source()
    with _sshfs(place) as mount:
        path = os.path.join(mount, NAME)
        run("cp", source, path + ".tmp")
        run("mv", path + ".tmp", path)
    return whole(place)


@contextlib.contextmanager
def _sshfs(place: Place) -> Iterator[str]:
    mount = os.path.join(place.beside, "mount")
    os.mkdir(mount)
    run("sshfs", f"queue:{place.queue}", mount, *_ssh(place))
    try:
        yield mount
    finally:
        run("fusermount3", "-u", mount)


@case("rclone copyto, sftp", "rclone", *_SSH)
def _rclone(place: Place) -> Expected:
    source, port = place.source(), place.servers.port("sshd")
    remote = f":sftp,host=127.0.0.1,port={port},user={_me()},key_file={place.servers.ssh_key}"
    run("rclone", "--config", "", "copyto", source, f"{remote}:{place.path()}")
    return whole(place)
