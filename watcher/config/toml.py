"""Reads a TOML file.

Fails: BadConfiguration that names the file.
"""

from __future__ import annotations

from typing import Any

from watcher.errors import BadConfiguration


def read_toml(file: str) -> dict[str, Any]:
    """Return the tables of a file; raise BadConfiguration."""
    import tomllib

    try:
        with open(file, "rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise BadConfiguration(f"{file}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise BadConfiguration(f"{file}: not TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, a number of 5000 digits
        raise BadConfiguration(f"{file}: not TOML: {error}") from None
