"""A file that holds a secret of the operator, such as a token: the configuration only names it.

Guarantees: no message has anything of the file's contents. At most `MOST` bytes are read. A file
that every user may read or write is refused.
Fails: BadConfiguration that names the option, the file, and what is wrong with it.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader

from watcher.errors import BadConfiguration

MOST = 64 << 10  # bytes


def read_secret(path: str, option: str) -> str:
    """Return the text of a secret's file without the space around it."""
    try:
        with open(path, "rb") as file:
            _refuse_open_to_all(file, path, option)
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


def check_secret(path: str, option: str) -> None:
    """Look at the file of a secret that a library reads; raise as `read_secret`."""
    try:
        with open(path, "rb") as file:
            _refuse_open_to_all(file, path, option)
    except OSError as error:
        raise BadConfiguration(f"{option}: {path}: cannot be read: {error.strerror}") from None


def _refuse_open_to_all(file: BufferedReader, path: str, option: str) -> None:
    if os.fstat(file.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise BadConfiguration(
            f"{option}: {path}: every user may read or write it; chmod 600 {path}"
        )
