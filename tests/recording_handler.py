"""A handler for tests: appends one JSON line for each call, then does as its arguments say.

    recording_handler.py RECORD [--gate FIFO] [--exit STATUS]

With --gate it stays at work until the test opens the FIFO for writing.
"""

import argparse
import hashlib
import json
import os
import sys

parser = argparse.ArgumentParser()
parser.add_argument("record")
parser.add_argument("--gate")
parser.add_argument("--exit", type=int, default=0)
options = parser.parse_args()

environment = os.environ
if "WATCHER_METADATA_FILE" in environment:
    with open(environment["WATCHER_METADATA_FILE"]) as file:
        metadata = json.load(file)
else:
    metadata = json.loads(environment["WATCHER_METADATA"])
message = sys.stdin.buffer.read()
call = {
    "queue": environment["WATCHER_QUEUE"],
    "entry": environment["WATCHER_ENTRY"],
    "key": environment["WATCHER_KEY"],
    "attempt": int(environment["WATCHER_ATTEMPT"]),
    "sha256": hashlib.sha256(message).hexdigest(),
    "metadata": metadata,
}
descriptor = os.open(options.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(descriptor, json.dumps(call).encode() + b"\n")
if options.gate:
    with open(options.gate, "rb") as gate:
        gate.read()
sys.exit(options.exit)
