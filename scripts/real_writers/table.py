"""The table as text or Markdown, and the lines that count its rows. PURE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from real_writers.case import Case
from real_writers.verdict import Outcome, Setting, When, count, verdict

_HEADS = ("writer", "commits, as seen", "defaults", "with settle", "with a marker", "verdict")
BEGIN = "<!-- writers: written by scripts/real_writers -->"
END = "<!-- end -->"
_COUNTED = (
    *(when.value for when in When),
    *("early", "twice", "foreign file", "cannot be known"),
)


class Row(NamedTuple):
    """One writer in the table."""

    case: Case
    outcomes: dict[Setting, Outcome]
    how: str = ""
    failed: str = ""  # why there are no outcomes

    @property
    def verdict(self) -> str:
        """The last column."""
        return self.failed or verdict(self.case, self.outcomes)

    @property
    def wrong(self) -> bool:
        """Whether it is not as it should be."""
        return self.verdict.startswith("wrong")

    @property
    def skipped(self) -> bool:
        """Whether it was not run."""
        return self.verdict.startswith("skipped")

    def columns(self) -> tuple[str, ...]:
        """Return the texts of the columns."""
        told = (str(self.outcomes[each]) if each in self.outcomes else "" for each in Setting)
        return (self.case.name, self.how, *told, self.verdict)


def as_text(rows: Sequence[Row]) -> str:
    """Return the table in columns; the last one is not padded."""
    lines = [_HEADS, *(row.columns() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS) - 1)]
    return "\n".join(
        "  ".join(
            [*(f"{text:<{width}}" for text, width in zip(line, widths, strict=False)), line[-1]]
        )
        for line in lines
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table for a page."""
    lines = [_HEADS, ("---",) * len(_HEADS), *(row.columns() for row in rows)]
    return "\n".join(
        "| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines
    )


def on_page(page: str, told: str) -> str:
    """Return a page with its table replaced: what stands between `BEGIN` and `END`."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{told}\n\n{end}{after}"


def summary(rows: Sequence[Row], setting: Setting) -> str:
    """Return the line that counts the writers of one column, each once."""
    ran = [row for row in rows if setting in row.outcomes]
    counts = Counter(count(row.case, row.outcomes[setting], setting) for row in ran)
    return f"{len(ran)} writers: " + ", ".join(f"{counts[word]} {word}" for word in _COUNTED)
