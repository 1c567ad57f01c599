"""Programs that mirror: rsync, on this machine and to its daemon, and rclone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from real_writers.case import (
    MARKER,
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
    until,
    whole,
)

command("rsync", "rsync")(lambda place, source: ["rsync", "-t", source, place.path()])
command("rsync --bwlimit", "rsync")(
    lambda place, source: ["rsync", f"--bwlimit={SLOW_RATE}", source, place.path()]
)
command("rsync --inplace", "rsync")(
    lambda place, source: [*("rsync", "--inplace", f"--bwlimit={SLOW_RATE}", source, place.path())]
)
command("rsync --delay-updates", "rsync")(
    lambda place, source: ["rsync", "--delay-updates", source, place.queue + "/"]
)
command("rsync --temp-dir, another file system", "rsync")(
    lambda place, source: [*("rsync", f"--temp-dir={place.elsewhere}", source, place.queue + "/")]
)
command("rsync daemon", "rsync")(
    lambda place, source: [
        "rsync",
        source,
        f"rsync://127.0.0.1:{place.servers.port('rsync')}/q/{place.relative}/{NAME}",
    ]
)


def _interrupted(place: Place, begun: Callable[[], bool], *options: str) -> Expected:
    """Stop rsync in the middle of a transfer, and run it again."""
    source = place.source()
    rsync = ["rsync", *options, source, place.path()]
    with running(*rsync, f"--bwlimit={SLOW_RATE // 2}") as program:
        until(begun)
        time.sleep(PAUSE)
        program.terminate()
        program.wait(PATIENCE)
    run(*rsync)
    return whole(place)


def _temporary(place: Place) -> bool:
    return any(name.startswith(f".{NAME}.") for name in os.listdir(place.queue))


@case("rsync --inplace, killed, again", "rsync", settle=RESUMED, marker={"marker": MARKER})
def _in_place(place: Place) -> Expected:
    return _interrupted(place, lambda: begun(place), "--inplace")


@case(
    "rsync -P, killed, again",
    "rsync",
    marker={"marker": MARKER},
    unknown="rsync renames what has come so far when it is told to end",
)
def _partial(place: Place) -> Expected:
    return _interrupted(place, lambda: _temporary(place), "-P")


@case("rsync --partial-dir, killed, again", "rsync")
def _partial_directory(place: Place) -> Expected:
    return _interrupted(place, lambda: _temporary(place), "--partial-dir=.rsync-partial")


command("rclone copyto", "rclone")(
    lambda place, source: ["rclone", "--config", "", "copyto", source, place.path()]
)
