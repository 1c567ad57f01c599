"""The metrics as Prometheus and its like read them: text 0.0.4, or OpenMetrics if it is asked for.

The only module that imports prometheus_client, an extra (`spool-watcher[metrics]`). Its global
registry and its metrics of this process are not used: a registry of one collector is made for each
exposition.
Guarantees: bounded by the number of queues. Whatever the name of a queue is, the text can be
parsed.
Fails: ModuleNotFoundError at the import, without the extra.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as PrometheusMetric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from watcher.inspect.queue_status import QueueStatus
from watcher.spool.daemon_status import Histogram
from watcher.web.metrics import families
from watcher.web.series import Family


class _Collector(Collector):
    """Gives a registry what is known already."""

    def __init__(self, known: Iterable[Family]) -> None:
        self._known = [_family(each) for each in known]

    def collect(self) -> Iterator[PrometheusMetric]:
        """Yield each metric that has a sample."""
        return (each for each in self._known if each.samples)


def exposition(
    statuses: Sequence[QueueStatus], unreadable: Sequence[str] = (), accept: str = ""
) -> tuple[bytes, str]:
    """Return the metrics of these queues and the content type, by the client's Accept header.

    `unreadable` are the names of queues that could not be looked at.
    """
    return encoded(families(statuses, unreadable), accept)


def encoded(known: Iterable[Family], accept: str = "") -> tuple[bytes, str]:
    """Return metrics as text, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(known))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _family(known: Family) -> PrometheusMetric:
    family = PrometheusMetric(known.name, known.help, known.type.value)
    for labels, value in known.samples:
        if not isinstance(value, Histogram):
            family.add_sample(known.exposed, labels, value)
            continue
        ends = [*map(floatToGoString, value.bounds), "+Inf"]
        for end, count in zip(ends, accumulate(value.counts), strict=True):
            family.add_sample(f"{known.name}_bucket", {**labels, "le": end}, count)
        family.add_sample(f"{known.name}_count", labels, sum(value.counts))
        family.add_sample(f"{known.name}_sum", labels, value.seconds)
    return family
