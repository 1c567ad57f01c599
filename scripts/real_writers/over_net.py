"""Uploads by Samba, TFTP and WebDAV, to servers of this program."""

from __future__ import annotations

import os
import time

from real_writers.case import (
    NAME,
    PATIENCE,
    PAUSE,
    SLOW_RATE,
    Expected,
    Place,
    case,
    command,
    contents,
    run,
    running,
    whole,
)


def _smb(place: Place, script: str) -> list[str]:
    port = str(place.servers.port("smbd"))
    client = ["smbclient", "-s", place.servers.smb_config, "-N", "-p", port, "//127.0.0.1/q"]
    return [*client, "-c", f"cd {place.relative}; {script}"]


command("smbclient put", "smbd", "smbclient")(
    lambda place, source: _smb(place, f"put {source} {NAME}")
)
command("smbclient put, rename", "smbd", "smbclient")(
    lambda place, source: _smb(place, f"put {source} {NAME}.tmp; rename {NAME}.tmp {NAME}")
)


@case("smbclient put from a slow pipe", "smbd", "smbclient")
def _slow_pipe(place: Place) -> Expected:
    pipe = place.source() + ".pipe"
    os.mkfifo(pipe)
    data = contents(place.queue)
    with running(*_smb(place, f"put {pipe} {NAME}")) as client, open(pipe, "wb") as file:
        file.write(data[:100_000])
        file.flush()
        time.sleep(PAUSE)
        file.write(data[100_000:])
        file.close()
        client.wait(PATIENCE)
    return whole(place)


# -- TFTP and WebDAV ----------------------------------------------------------------------------

command("tftp put", "in.tftpd", "tftp")(
    lambda place, source: [
        *("tftp", "-m", "binary", "127.0.0.1", str(place.servers.port("tftpd"))),
        *("-c", "put", source, f"{place.relative}/{NAME}"),
    ]
)


def _dav(place: Place, name: str = NAME) -> str:
    return f"http://127.0.0.1:{place.servers.port('lighttpd')}/queues/{place.relative}/{name}"


_WEBDAV = ("lighttpd", "curl")
command("WebDAV PUT, slow", *_WEBDAV)(
    lambda place, source: [
        *("curl", "-sSf", "--limit-rate", f"{SLOW_RATE}k", "-T", source, _dav(place))
    ]
)


@case("WebDAV PUT x.tmp, MOVE", *_WEBDAV)
def _put_and_moved(place: Place) -> Expected:
    temporary = _dav(place, NAME + ".tmp")
    run("curl", "-sSf", "-T", place.source(), temporary)
    run("curl", "-sSf", "-X", "MOVE", "-H", f"Destination: {_dav(place)}", temporary)
    return whole(place)
