"""A look at a server and a stream, as findings for an operator.

Fails: never; what goes wrong is a finding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import nats.errors
from nats.js.errors import APIError

from watcher.errors import BadConfiguration, one_line
from watcher.jetstream.connection import Connection, Unreachable
from watcher.jetstream.server_settings import ServerSettings
from watcher.jetstream.stream_setup import looked, said
from watcher.rules.finding import BAD, Check
from watcher.rules.stream_rules import findings


def target_findings(
    server: ServerSettings, place: str, stream: str, outage: float, subject: str, monitor: str
) -> Iterator[Check]:
    """Yield what is found of a server and a stream; `place` names the options in messages.

    `subject`: one that entries are published under, with `*` for what differs; "": not known.
    """
    connection = Connection(lambda: server.access(place))
    try:
        facts = looked(connection, stream, outage=outage, subject=subject, monitor=monitor)
    except BadConfiguration as error:
        yield Check(BAD, "server", str(error), error.exit_code)
    except Unreachable as error:
        code = os.EX_CONFIG if error.refused else os.EX_UNAVAILABLE
        yield Check(BAD, "server", str(error), code)
    except APIError as error:
        yield Check(BAD, "server", said(error))
    except (OSError, nats.errors.Error) as error:
        words = "no answer in time" if isinstance(error, TimeoutError) else one_line(str(error))
        yield Check(BAD, "server", f"{server.servers}: {words}")
    else:
        if facts is None:
            what = f"{stream}: there is no such stream; `watcher nats init` makes it"
            yield Check(BAD, "stream", what)
        else:
            yield from findings(facts)
    finally:
        connection.close()
