"""Files beside an entry that say whether it is complete: the marker, and other companions. PURE.

A queue of the raw format may have a *marker*, `marker = "{name}.done"`: an entry is complete when
the file of that name is beside it. It may have *companions*, `companions = ["{name}.aria2"]`: an
entry is not complete while one of these is beside it. Neither is ever an entry. In a template
`{name}` is the entry's file name, and `{stem}` is that name without its last ending.

What to do with an entry of a queue with a marker; the first row that fits decides:

| companion | marker                         | writer   | age      | decision       |
|-----------|--------------------------------|----------|----------|----------------|
| there     | any                            | any      | any      | leave          |
| none      | none                           | any      | any      | leave          |
| none      | there                          | some     | any      | leave          |
| none      | younger than the last write    | not some | any      | take           |
| none      | older than the last write      | not some | >= grace | take           |
| none      | older than the last write      | not some | any      | wait           |

A marker that is older than the entry's last write may be one that was left behind: it does not make
a later file of the name complete at once. It may also have been made too early, or the clock was
stepped: so the entry does not wait for ever. The last write is the entry's mtime. An mtime later
than the ctime was set by hand, and says nothing. The marker's moment is its ctime.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from watcher.rules.evidence import Action, Decision, Writer

NAME, STEM = "{name}", "{stem}"
LONGEST = 64  # bytes of a template
MOST_COMPANIONS = 16
_PLACE = re.compile(r"\{[^{}]*\}")


class Template(NamedTuple):
    """A template of names, cut at its `{name}` or `{stem}`."""

    before: bytes
    after: bytes
    of_stem: bool

    def name_for(self, entry: bytes) -> bytes:
        """Return the companion's name for the entry's file name."""
        return self.before + (stem_of(entry) if self.of_stem else entry) + self.after

    def middle(self, companion: bytes) -> bytes:
        """Return what stands for `{name}` or `{stem}` in a companion's name; b"" if it is none."""
        if len(companion) <= len(self.before) + len(self.after):
            return b""
        if not (companion.startswith(self.before) and companion.endswith(self.after)):
            return b""
        return companion[len(self.before) : len(companion) - len(self.after)]


@functools.lru_cache(maxsize=256)
def parsed(template: bytes) -> Template:
    """Return a template that `wrong_template` accepts, cut in two."""
    of_stem = STEM.encode() in template
    before, _, after = template.partition((STEM if of_stem else NAME).encode())
    return Template(before, after, of_stem)


def stem_of(name: bytes) -> bytes:
    """Return a file's name without its last ending: `a.b.csv` is `a.b`, and `a` is `a`."""
    stem, dot, _ = name.rpartition(b".")
    return stem if dot else name


def last_ending(ending: bytes) -> bytes:
    """Return the last ending of names that all end in `ending`; b"" if that is not known.

    Then two names of one stem may be two entries, and would share a marker.
    """
    dot = ending.rfind(b".")
    return b"" if dot < 0 else ending[dot:]


def wrong_template(text: str) -> str | None:
    """Say what is wrong with a companion's template, and how to write it; None if it is right."""
    places = _PLACE.findall(text)
    if "/" in text or "\0" in text:
        return "a name in the queue directory, without a directory"
    if len(places) != 1 or places[0] not in (NAME, STEM):
        return f"it has to have {NAME} or {STEM} once, and no other braces"
    if text in (NAME, STEM):
        return f'that is the entry itself: write "{text}.done"'
    if text.endswith(".tmp"):
        return "no watcher looks at names that end in .tmp"
    return None


def wrong_marker(text: str) -> str | None:
    """Say what is wrong with a marker's template, and how to write it; None if it is right.

    A marker is moved into the process directory, whose own files have names with a dot in front.
    """
    if text.startswith("."):
        return f'no dot in front: write "{text.lstrip(".") or NAME}.done"'
    return wrong_template(text)


def wrong_for_ending(text: str, ending: bytes) -> str | None:
    """Say why a marker's template does not fit names that all end in `ending`; None if it does.

    Two entries must never share a marker: the first that is done would take it from the other.
    """
    if STEM not in text:
        return None
    last = last_ending(ending)
    if not last:
        return (
            f'{STEM} needs one ending that all entries have, like suffix = ".csv": a.csv and a.txt'
            f" would share a marker. Or write {NAME}"
        )
    if parsed(text.encode()).name_for(b"x" + last) == b"x" + last:
        return "it gives the entry's own name"
    return None


_TAKE = Decision(Action.TAKE, 0.0, "its marker is there")
_OPEN = Decision(Action.LEAVE, 0.0, "a process has it open for writing")


class Times(NamedTuple):
    """The times of an entry's file, in nanoseconds."""

    mtime_ns: int
    ctime_ns: int


def written_after(entry: Times, marker_ns: int) -> bool:
    """Whether the entry was written to after its marker's moment, as far as its times tell."""
    return marker_ns < entry.mtime_ns <= entry.ctime_ns


def rule_marked(entry: Times, marker_ns: int, writer: Writer, age: float, grace: float) -> Decision:
    """Rule on an entry whose marker is there. `age` and `grace` in seconds."""
    if writer is Writer.SOME:
        return _OPEN
    if not written_after(entry, marker_ns):
        return _TAKE
    older = "its marker is older than its last write"
    if age >= grace:
        return Decision(Action.TAKE, 0.0, f"past the grace age, {older}")
    return Decision(Action.WAIT, grace - age, older)


def is_of_newer(changed_ns: int, marker_ns: int) -> bool:
    """Whether a marker was given for the file that took an entry's place, or was written into it.

    `changed_ns` is when that file last changed, `marker_ns` when the marker was last written to. A
    marker from before is the old entry's, and goes with it.
    """
    return marker_ns >= changed_ns
