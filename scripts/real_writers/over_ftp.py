"""Uploads by FTP, to a vsftpd or ProFTPD of this program."""

from __future__ import annotations

import os
import time

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
    contents,
    run,
    running,
    until,
    whole,
)
from real_writers.servers import has

FTPD = "vsftpd" if has("vsftpd") else "proftpd, plain"  # the packages exclude each other
_FTPD = FTPD.partition(",")[0]


def _ftp(place: Place, server: str = FTPD) -> str:
    return f"ftp://127.0.0.1:{place.servers.port(server)}/{place.relative}/{NAME}"


def _lftp(place: Place, *commands: str, server: str = FTPD) -> list[str]:
    port = place.servers.port(server)
    options = ("set ftp:ssl-allow no", "set net:max-retries 2", "set xfer:clobber yes")
    opened = f"open -u anonymous,x -p {port} 127.0.0.1"
    return ["lftp", "-c", "; ".join([*options, opened, f"cd {place.relative}", *commands])]


command("curl to FTP", _FTPD, "curl")(
    lambda place, source: ["curl", "-sS", "-T", source, _ftp(place)]
)
command("curl to FTP, slow", _FTPD, "curl")(
    lambda place, source: [
        *("curl", "-sS", "--limit-rate", f"{SLOW_RATE}k", "-T", source, _ftp(place))
    ]
)
command("lftp to FTP", _FTPD, "lftp")(lambda place, source: _lftp(place, f"put {source} -o {NAME}"))
command("lftp to FTP, temporary file", _FTPD, "lftp")(
    lambda place, source: _lftp(
        place,
        "set xfer:use-temp-file yes",
        "set xfer:temp-file-name .in.*",
        f"put {source} -o {NAME}",
    )
)


@case("curl to FTP, killed, resumed", _FTPD, "curl", settle=RESUMED, marker={"marker": MARKER})
def _resumed(place: Place) -> Expected:
    source, url = place.source(), _ftp(place)
    with running("curl", "-sS", "--limit-rate", f"{SLOW_RATE // 3}k", "-T", source, url):
        until(lambda: begun(place))
    time.sleep(PAUSE)
    run("curl", "-sS", "-C", "-", "-T", source, url)
    return whole(place)


@case("curl to FTP, appended (APPE)", _FTPD, "curl", settle=RESUMED)
def _appended(place: Place) -> Expected:
    source, data = place.source(), contents(place.queue)
    for part in (data[:100_000], data[100_000:]):
        with open(source, "wb") as file:
            file.write(part)
        run("curl", "-sS", "--append", "-T", source, _ftp(place))
        time.sleep(PAUSE)
    return whole(place)


@case("lftp to FTP, MFMT after the store", _FTPD, "lftp")
def _stamped(place: Place) -> Expected:
    source = place.source()
    os.utime(source, (1_000_000_000, 1_000_000_000))
    run(*_lftp(place, f"put {source} -o {NAME}"))
    return whole(place)


command("curl to ProFTPD, HiddenStores", "proftpd", "curl")(
    lambda place, source: ["curl", "-sS", "-T", source, _ftp(place, "proftpd")]
)
command("curl to ProFTPD, HiddenStores, slow", "proftpd", "curl")(
    lambda place, source: [
        *("curl", "-sS", "--limit-rate", f"{SLOW_RATE}k", "-T", source, _ftp(place, "proftpd"))
    ]
)


@case("lftp to ProFTPD, HiddenStores, MFMT", "proftpd", "lftp")
def _stamped_after_the_rename(place: Place) -> Expected:
    source = place.source("slow.csv")
    os.utime(source, (1_000_000_000, 1_000_000_000))
    run(*_lftp(place, f"put {source} -o slow.csv", server="proftpd"))
    return whole(place, "slow.csv")


@case(
    "curl to ProFTPD, HiddenStores, killed",
    "proftpd",
    "curl",
    marker={"marker": MARKER},
    unknown="an FTP client that dies ends its file",
)
def _hidden_part(place: Place) -> Expected:
    source, url = place.source(), _ftp(place, "proftpd")
    slow = ("curl", "-sS", "--limit-rate", f"{SLOW_RATE // 3}k", "-T", source, url)
    with running(*slow):
        until(lambda: any(name.startswith(".in.") for name in os.listdir(place.queue)))
        time.sleep(PAUSE)
    until(lambda: not any(name.startswith(".in.") for name in os.listdir(place.queue)))
    run("curl", "-sS", "-T", source, url)
    return whole(place)
