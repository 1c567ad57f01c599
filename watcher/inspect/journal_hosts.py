"""Which host wrote each line of the journal. PURE.

A file's first line names the host that began the file. A line `host` names the one that made the
write that it is in; each write begins with a mark. A later line `begin` in a file names none; it
says what was known before.
Guarantees: a host is reported only if the journal names it.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from watcher.spool.journal_line import MARK, parse_line


def with_hosts(
    lines: Iterable[tuple[bytes, bool]],
) -> Iterator[tuple[bytes, bool, bytes | None]]:
    """Yield each line of `journal_reader.read_lines` with its host; None: not known."""
    of_file: bytes | None = None
    of_write: bytes | None = None
    for raw, is_late in lines:
        if raw == MARK:
            of_write = of_file
        elif b" 0 " in raw and (b" begin 0 " in raw or b" host 0 " in raw):  # few have the first
            line = parse_line(raw)
            named = None if line is None or line.name == b"-" else line.name
            if line is not None and line.move == b"begin":
                if named is not None or b" known before" not in line.detail:
                    of_file = of_write = named
            elif line is not None and line.move == b"host":
                of_write = named
        yield raw, is_late, of_write
