"""A file that holds a secret of the operator, such as a token: the configuration only names it.

Guarantees: no message has anything of the file's contents. At most `MOST` bytes are read.
Fails: BadConfiguration that names the option, the file, and what is wrong with it.
"""

from __future__ import annotations

import os
import stat

from watcher.errors import BadConfiguration

MOST = 64 << 10  # bytes


def read_secret(path: str, option: str) -> str:
    """Return the text of a secret's file without the space around it."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise BadConfiguration(f"{option}: {path}: cannot be read: {error.strerror}") from None
    if len(data) > MOST:
        raise BadConfiguration(f"{option}: {path}: expected at most {MOST} bytes")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise BadConfiguration(f"{option}: {path}: expected text in UTF-8") from None
    if not text:
        raise BadConfiguration(f"{option}: {path}: is empty")
    return text


def open_to_all(path: str) -> bool:
    """Whether every user may read the file; raises OSError."""
    return bool(os.stat(path).st_mode & stat.S_IROTH)
