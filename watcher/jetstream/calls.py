"""A connection for one command, with the errors that a command reports.

Fails: Unavailable, BadConfiguration or TryAgain, in one line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import nats.errors
from nats.js.errors import APIError, NotFoundError

from watcher.errors import BadConfiguration, TryAgain, Unavailable
from watcher.jetstream.api_errors import said
from watcher.jetstream.connection import Connection, Unreachable
from watcher.jetstream.server_settings import ServerSettings


@contextlib.contextmanager
def calling(server: ServerSettings, place: str) -> Iterator[Connection]:
    """Yield a connection that is closed afterwards; `place` names its options in messages."""
    server.access(place)  # what is wrong with a file is said before the server is asked
    connection = Connection(lambda: server.access(place))
    try:
        yield connection
    except Unreachable as error:
        kind = BadConfiguration if error.refused else Unavailable
        raise kind(str(error)) from None
    except NotFoundError as error:
        raise Unavailable(f"{said(error)}: `watcher nats init` makes it") from None
    except APIError as error:
        raise Unavailable(f"{server.shown}: {said(error)}") from None
    except TimeoutError:
        raise TryAgain(f"{server.shown}: no answer in time") from None
    except nats.errors.Error as error:
        raise Unavailable(f"{server.shown}: {error}") from None
    finally:
        connection.close()
