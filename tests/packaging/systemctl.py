#!/usr/bin/python3 -I
"""Stands in for systemctl in a room without systemd: what the maintainer scripts ask of it.

It starts the command of an installed unit as the unit's user, with its capabilities, and waits
until it is ready; it stops it as systemd does, with TERM and a wait. /run/asked has each request
that changes something.
"""

import fnmatch
import glob
import os
import re
import signal
import socket
import subprocess
import sys
import time

STATE = "/run/units/"  # a file for each unit that was started: its PID
WANTS = "/etc/systemd/system/multi-user.target.wants/"
UNITS = "/usr/lib/systemd/system/"


def active(unit):
    try:
        with open(STATE + unit) as file:
            pid = int(file.read())
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pid


def start(unit):
    if active(unit):
        return
    name, instance = re.fullmatch(r"(.+?@?)([^@]*)\.service", unit).groups()
    with open(f"{UNITS}{name}.service" if name.endswith("@") else UNITS + unit) as file:
        text = file.read().replace("%i", instance)
    setting = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    granted = setting["AmbientCapabilities"].lower().replace("cap_", "+")
    address = f"/run/{unit}.notify"
    with (
        open(f"/run/{unit}.log", "ab") as log,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        told.bind(address)
        os.chmod(address, 0o666)
        process = subprocess.Popen(
            ["setpriv", "--reuid", setting["User"], "--regid", setting["Group"], "--init-groups"]
            + [f"--{kind}=-all,{granted}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
            + setting["ExecStart"].split(),
            env={**os.environ, "NOTIFY_SOCKET": address},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        told.settimeout(60)
        while b"READY=1" not in told.recv(4096):  # Type=notify
            pass
    os.unlink(address)
    with open(STATE + unit, "w") as file:
        file.write(str(process.pid))


def stop(unit):
    if pid := active(unit):
        os.kill(pid, signal.SIGTERM)
        while active(unit):
            time.sleep(0.01)


def enabled(unit):
    return bool(glob.glob(f"/etc/systemd/system/*.wants/{unit}"))


def main():
    os.makedirs(STATE, exist_ok=True)
    verb, *rest = [each for each in sys.argv[1:] if not each.startswith("-")]
    if verb == "is-enabled":
        print("enabled" if enabled(rest[0]) else "disabled")
        return 0 if enabled(rest[0]) else 1
    if verb == "is-active":
        return 0 if active(rest[0]) else 3
    if verb == "list-units":
        for unit in os.listdir(STATE):
            if active(unit) and any(fnmatch.fnmatch(unit, each) for each in rest):
                print(unit, "loaded active running")
        return 0
    with open("/run/asked", "a") as asked:
        print(verb, *rest, file=asked)
    for unit in rest:
        if verb == "enable":
            os.makedirs(WANTS, exist_ok=True)
            os.symlink(UNITS + unit, WANTS + unit)
        if verb in {"start", "restart"} or "--now" in sys.argv:
            start(unit)
        elif verb == "stop":
            stop(unit)
    return 0


sys.exit(main())
