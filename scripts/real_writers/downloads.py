"""Programs that download by HTTP into the folder; the server is a lighttpd of this program."""

from __future__ import annotations

import time

from real_writers.case import (
    NAME,
    PATIENCE,
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
    shell,
    until,
    whole,
)

_HTTP = ("lighttpd",)
LONG_PAUSE = 6.0  # seconds, more than `settle` of the table


def _url(place: Place) -> str:
    return f"http://127.0.0.1:{place.servers.port('lighttpd')}/{place.relative}/{NAME}"


command("curl, a slow download", "curl")(
    lambda place, source: [
        *("curl", "-sS", "--limit-rate", f"{SLOW_RATE}k", "-o", place.path(), f"file://{source}")
    ]
)
command("curl -o x.part, then mv", "curl", "mv")(
    lambda place, source: shell(
        'curl -sS -o "$2.part" "file://$1" && mv "$2.part" "$2"', source, place.path()
    )
)
command("wget -O", "wget", *_HTTP)(
    lambda place, _source: ["wget", "-q", "-O", place.path(), _url(place)]
)
command("wget --limit-rate", "wget", *_HTTP)(
    lambda place, _source: [
        *("wget", "-q", f"--limit-rate={SLOW_RATE}k", "-O", place.path(), _url(place))
    ]
)


def _aria2(place: Place, rate: int) -> list[str]:
    return [
        *("aria2c", "--no-conf", "-q", "-d", place.queue, "-o", NAME, "--continue=true"),
        *("--auto-save-interval=1", "--file-allocation=prealloc", "--allow-overwrite=true"),
        *(f"--max-download-limit={rate}K", "--dht-file-path=/dev/null", _url(place)),
    ]


command("aria2, slow", "aria2c", *_HTTP, marker={"companions": ["{name}.aria2"]})(
    lambda place, _source: _aria2(place, SLOW_RATE)
)


def _interrupted(place: Place, pause: float) -> Expected:
    place.source()
    with running(*_aria2(place, SLOW_RATE // 3)) as program:
        until(lambda: begun(place) and begun(place, NAME + ".aria2"))
        time.sleep(PAUSE)
        program.terminate()
        program.wait(PATIENCE)
    time.sleep(pause)
    run(*_aria2(place, 0))
    return whole(place)


@case(
    "aria2, ended, again",
    "aria2c",
    *_HTTP,
    settle=RESUMED,
    marker={"companions": ["{name}.aria2"]},
)
def _again(place: Place) -> Expected:
    return _interrupted(place, 0.0)


@case(
    "aria2, ended, again after settle",
    "aria2c",
    *_HTTP,
    marker={"companions": ["{name}.aria2"]},
    unknown="a pause longer than settle looks like the end",
)
def _again_later(place: Place) -> Expected:
    return _interrupted(place, LONG_PAUSE)
