"""What a metric is: a row of a table, and its samples. PURE.

Guarantees: the series of several queues differ, whatever the names of the queues are.
Fails: never.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from watcher.errors import one_line
from watcher.spool.daemon_status import Histogram

LONGEST_NAME = 256  # characters of a queue's name in a label

Source = TypeVar("Source")


class Type(enum.Enum):
    """What kind of number a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Sample(NamedTuple):
    """One value; in a row of a table, `labels` are those beside `queue`."""

    value: float | Histogram
    labels: tuple[str, ...] = ()


class Metric(NamedTuple, Generic[Source]):
    """One row of a table: how the samples of one queue come from what is known of it."""

    name: str
    type: Type
    help: str
    samples: Callable[[Source], Iterable[Sample]]
    labels: tuple[str, ...] = ("queue",)

    @property
    def exposed(self) -> str:
        """The name by which a query finds the metric."""
        return self.name + {Type.COUNTER: "_total", Type.INFO: "_info"}.get(self.type, "")


class Family(NamedTuple):
    """One metric with the samples of every queue."""

    name: str
    type: Type
    help: str
    exposed: str
    samples: list[tuple[dict[str, str], float | Histogram]]


def one(value: Callable[[Source], float | None]) -> Callable[[Source], Iterable[Sample]]:
    """Return a metric's samples: one value, or none if it is not known."""

    def samples(source: Source) -> Iterator[Sample]:
        found = value(source)
        if found is not None:
            yield Sample(found)

    return samples


def family(metric: Metric[Source], sources: Iterable[tuple[str, Source]]) -> Family:
    """Return a metric with the samples of these queues, each with its label."""
    samples = [
        (dict(zip(metric.labels, (queue, *labels), strict=True)), value)
        for queue, source in sources
        for value, labels in metric.samples(source)
    ]
    return Family(metric.name, metric.type, metric.help, metric.exposed, samples)


def queue_labels(names: Sequence[str]) -> list[str]:
    """Return the names as labels: printable, not too long, none twice."""
    found: dict[str, None] = {}
    for name in names:
        label = shown = one_line(name)[:LONGEST_NAME]
        number = 1
        while label in found:
            number += 1
            label = f"{shown}~{number}"
        found[label] = None
    return list(found)
