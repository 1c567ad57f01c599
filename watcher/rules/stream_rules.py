"""What of a server and a stream keeps or breaks the promise that no entry is lost. PURE.

Each row of the table below is one function, which returns what it finds. `watcher nats check` and
`watcher check` show them.

Sources: docs.nats.io, "JetStream Model Deep Dive" and "Configuration"; the release notes of
nats-server 2.10 (`sync_interval: always`) and 2.12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from watcher.durations import show
from watcher.errors import counted
from watcher.rules.finding import BAD, OK, WARNING, Check

OLDEST = (2, 10)  # the first version that can sync each message
FULL, NEARLY_FULL = 1.0, 0.8  # of the stream's largest size
OLD = 0.5  # of max_age: how old an entry that no worker has handled may be without a warning
REPLICAS = 3


class ServerFacts(NamedTuple):
    """What is known of the server."""

    version: tuple[int, int, int]
    max_payload: int  # bytes
    servers: int = 1  # of the cluster that has the stream
    sync: float | None = None  # seconds between two syncs of the disk; 0: always; None: not known
    no_sync: str = ""  # why it is not known, if a monitoring page was named


class StreamFacts(NamedTuple):
    """What is known of a stream; times in seconds, sizes in bytes, 0: no limit."""

    name: str
    subjects: tuple[str, ...]
    retention: str = "limits"
    storage: str = "file"
    replicas: int = 1
    discards_old: bool = False
    max_age: float = 0.0
    window: float = 0.0
    max_bytes: int = 0
    max_messages: int = 0
    max_message: int = 0
    bytes: int = 0
    messages: int = 0
    acknowledges: bool = True
    sealed: bool = False
    copied_from: str = ""  # the stream that it mirrors
    of_a_subject: int = 0  # messages of one subject that it keeps
    removes_handled: bool = False  # workers remove what is handled (`rules.handled_messages`)
    consumers: int = 0


class ConsumerFacts(NamedTuple):
    """What is known of the consumer of `watcher work`."""

    name: str
    waiting: int  # messages that no worker has handled
    oldest: float | None = None  # how old the oldest of them is, in seconds
    on_the_way: int = 0  # delivered, and not acknowledged
    most_on_the_way: int = 0
    deliveries: int = 0  # how often a message is delivered at most; 0: no limit
    explicit: bool = True  # whether each message is acknowledged by itself
    paused: bool = False
    pushes: bool = False  # it sends messages to a subject, and answers no request
    only: tuple[str, ...] = ()  # the subjects that it delivers; none: all
    without_bodies: bool = False
    in_memory: bool = False
    forgotten_after: float = 0.0  # seconds without a worker after which it is removed; 0: never


class Facts(NamedTuple):
    """All that is known; `outage` is the longest that is to be survived, in seconds."""

    server: ServerFacts
    stream: StreamFacts
    outage: float
    subjects: tuple[str, ...] = ()  # that entries are published under, where that is known
    largest: int = 0  # bytes of the largest entry that a queue takes; 0: not known
    consumer: ConsumerFacts | None = None
    dead_letters: StreamFacts | None = None


Finding = tuple[str, str] | None
Rule = Callable[[Facts], Finding]


def _version(facts: Facts) -> Finding:
    shown = ".".join(map(str, facts.server.version))
    if facts.server.version[:2] < OLDEST:
        return WARNING, f"nats-server {shown}: before 2.10 no server syncs each message to its disk"
    return OK, f"nats-server {shown}"


def _sync(facts: Facts) -> Finding:
    sync = facts.server.sync
    if facts.server.version[:2] < OLDEST:
        return None
    if sync is None and (why := facts.server.no_sync):
        return WARNING, f"whether it syncs each message is not known: its monitoring page {why}"
    if sync is None:
        return WARNING, (
            "whether it syncs each message is not known: name its monitoring URL (--monitor), or"
            " see to `sync_interval: always` in its configuration"
        )
    if sync:
        return WARNING, (
            f"syncs every {show(sync)}: a power failure loses what it acknowledged since; set"
            " `sync_interval: always`"
        )
    return OK, "syncs each message to its disk"


def _no_acknowledgement(facts: Facts) -> Finding:
    if not facts.stream.acknowledges:
        return BAD, "the stream acknowledges nothing (no_ack): no entry could ever be done"
    return None


def _sealed(facts: Facts) -> Finding:
    return (BAD, "the stream is sealed: it takes nothing") if facts.stream.sealed else None


def _mirror(facts: Facts) -> Finding:
    source = facts.stream.copied_from
    return (BAD, f"the stream is a mirror of {source}: it takes nothing") if source else None


def _subject(facts: Facts) -> Finding:
    has = facts.stream.subjects
    for subject in facts.subjects:
        if not any(covers(one, subject) for one in has):
            takes = ", ".join(has)
            return BAD, f"the stream does not take {subject}; it takes {takes}: see `subject`"
    return None


def _of_a_subject(facts: Facts) -> Finding:
    if not (most := facts.stream.of_a_subject):
        return None
    if facts.stream.discards_old:
        return BAD, (
            f"keeps {counted(most, 'message', 'messages')} of each subject: a new entry removes an"
            " older one, handled or not (max_msgs_per_subject); set no limit"
        )
    return WARNING, (
        f"takes {counted(most, 'message', 'messages')} of each subject (max_msgs_per_subject): then"
        " queues are held until older ones go; set no limit"
    )


def _retention(facts: Facts) -> Finding:
    if facts.stream.retention == "limits":
        return OK, "keeps each message until it is of age (Limits)"
    return WARNING, (
        f"retention {facts.stream.retention}: a message that is handled is removed with its id, and"
        " a restarted server no longer knows it: an entry can be stored twice; use Limits"
    )


def _storage(facts: Facts) -> Finding:
    if facts.stream.storage == "file":
        return None
    return WARNING, "storage memory: a restart loses every entry that it acknowledged; use file"


def _replicas(facts: Facts) -> Finding:
    replicas = facts.stream.replicas
    if replicas >= REPLICAS:
        return OK, f"{replicas} replicas"
    if replicas > 1:
        return WARNING, f"{replicas} replicas: the loss of one stops the stream; use {REPLICAS}"
    if facts.server.servers > 1:
        return WARNING, f"one replica of {facts.server.servers} servers: use {REPLICAS}"
    return WARNING, "one server: a lost disk loses what is in the stream; see three servers"


def _window(facts: Facts) -> Finding:
    stream = facts.stream
    if stream.window < facts.outage:
        return WARNING, (
            f"the duplicate window is {show(stream.window)}: after an outage of more, up to"
            f" {show(facts.outage)} (`outage`), an entry can be stored twice"
        )
    return OK, f"knows a message for {show(stream.window)}"


def _age(facts: Facts) -> Finding:
    stream, consumer = facts.stream, facts.consumer
    if not stream.max_age:
        return None
    if stream.max_age < stream.window:
        return WARNING, f"max_age {show(stream.max_age)} is shorter than the duplicate window"
    oldest = consumer.oldest if consumer is not None else None
    if oldest is not None and oldest > OLD * stream.max_age:
        return BAD, (
            f"the oldest entry that waits is {show(round(oldest))} old: the server removes it at"
            f" {show(stream.max_age)} (max_age), handled or not"
        )
    return OK, f"keeps an entry for {show(stream.max_age)}; one that waits for longer is lost"


def _full(facts: Facts) -> Finding:
    stream = facts.stream
    most = max(
        stream.bytes / stream.max_bytes if stream.max_bytes else 0.0,
        stream.messages / stream.max_messages if stream.max_messages else 0.0,
    )
    if stream.discards_old and (stream.max_bytes or stream.max_messages):
        return WARNING, (
            "discards the oldest message when it is full, handled or not: use discard new, which"
            " holds the queue"
        )
    if most >= FULL:
        return BAD, "the stream is full: queues are held; raise max_bytes or remove what is handled"
    if most >= NEARLY_FULL:
        return WARNING, f"the stream is {most:.0%} full"
    return None


def _handled(facts: Facts) -> Finding:
    stream = facts.stream
    until = f"for {show(stream.max_age)} (max_age)" if stream.max_age else "for ever"
    if stream.removes_handled and stream.consumers > 1:
        return WARNING, (
            f"handled messages stay {until}: the stream has {stream.consumers} consumers, and what"
            " watcher has handled another one may not have read"
        )
    if not stream.removes_handled and (stream.max_bytes or stream.max_messages):
        return WARNING, (
            f"handled messages stay {until} and may fill the stream, which then takes no entry:"
            " `watcher nats init --handled remove --update` has workers remove them after"
            f" {show(round(stream.window))}"
        )
    return None


def _size(facts: Facts) -> Finding:
    limits = [limit for limit in (facts.server.max_payload, facts.stream.max_message) if limit]
    most = min(limits, default=0)
    if facts.largest and most < facts.largest:
        return WARNING, (
            f"takes messages of {most} bytes: a larger entry goes to dead/ (max_payload of the"
            f" server, max_msg_size of the stream; a queue takes {facts.largest})"
        )
    return OK, f"takes messages of {most} bytes, with their headers"


def _dead_letters(facts: Facts) -> Finding:
    if facts.dead_letters is None:
        return WARNING, "no stream for dead letters: `watcher nats init` makes it"
    if facts.dead_letters.max_age:
        return WARNING, f"dead letters are removed after {show(facts.dead_letters.max_age)}"
    return None


def _consumer(facts: Facts) -> Finding:
    consumer = facts.consumer
    if consumer is None:
        return WARNING, "no consumer: `watcher nats init` makes it"
    name = f"the consumer {consumer.name}"
    if not consumer.explicit:
        return BAD, f"{name} does not acknowledge each message"
    if consumer.pushes:
        return BAD, f"{name} sends messages by itself (deliver_subject): no worker gets any"
    if consumer.without_bodies:
        return BAD, f"{name} delivers headers alone (headers_only): every entry would be empty"
    if consumer.deliveries:
        return WARNING, (
            f"{name} delivers a message {consumer.deliveries} times at most: then it is lost; use"
            " no limit, workers count attempts themselves"
        )
    if consumer.only:
        only = ", ".join(consumer.only)
        return WARNING, f"{name} delivers {only} alone: other entries are never handled"
    if consumer.in_memory or consumer.forgotten_after:
        when = show(consumer.forgotten_after) if consumer.forgotten_after else ""
        how = f"without a worker for {when} (inactive_threshold)" if when else "a restart"
        return WARNING, f"{name} is forgotten after {how}: every entry would be handled again"
    return _on_the_way(consumer)


def _on_the_way(consumer: ConsumerFacts) -> Finding:
    if consumer.paused:
        return WARNING, f"the consumer {consumer.name} is paused: no worker gets a message"
    most = consumer.most_on_the_way
    if most and consumer.on_the_way >= most:
        return WARNING, (
            f"{consumer.on_the_way} messages are with workers or wait for another attempt, as many"
            " as may (max_ack_pending): nothing new is delivered"
        )
    return OK, f"{consumer.waiting} wait, {consumer.on_the_way} are with workers or deferred"


RULES: tuple[tuple[str, Rule], ...] = (
    ("server", _version),
    ("sync", _sync),
    ("acknowledgement", _no_acknowledgement),
    ("sealed", _sealed),
    ("mirror", _mirror),
    ("subject", _subject),
    ("subject", _of_a_subject),
    ("retention", _retention),
    ("storage", _storage),
    ("replicas", _replicas),
    ("duplicates", _window),
    ("age", _age),
    ("room", _full),
    ("handled", _handled),
    ("size", _size),
    ("dead letters", _dead_letters),
    ("consumer", _consumer),
)


def findings(facts: Facts) -> Iterator[Check]:
    """Yield what every rule finds."""
    for about, rule in RULES:
        if (found := rule(facts)) is not None:
            yield Check(found[0], about, found[1])


def covers(pattern: str, subject: str) -> bool:
    """Whether a stream that takes `pattern` takes `subject`, whose `*` stands for any token."""
    wanted, given = pattern.split("."), subject.split(".")
    for number, word in enumerate(wanted):
        if word == ">":
            return number < len(given)
        if number >= len(given) or (word not in ("*", given[number])):
            return False
    return len(wanted) == len(given)
