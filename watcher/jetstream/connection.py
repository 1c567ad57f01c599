"""One connection to a NATS server, for the threads of this process; nats-py does the protocol.

nats-py is an extra of the package (`pip install 'spool-watcher[nats]'`), and of the project only
this package and the handler import it. It is a library for asyncio, so a thread of its own runs the
event loop; the other threads hand it coroutines and wait for their ends.

Guarantees: a call ends at its deadline, or when `cut` is called, whatever the server does. Where
TLS is configured nothing is sent without it (`open_client`). A
connection that broke is made anew by the next call, to the server of the list that answers. One
that is idle is closed, and its thread ends. No secret is in an error.
Fails: `call` raises Unreachable, or what the coroutine and `access` raise.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import nats.errors
from nats.aio.client import RawCredentials

from watcher.errors import one_line
from watcher.jetstream.name_lookup import LookupLoop
from watcher.jetstream.open_client import CertificateWanted, OpenClient

T = TypeVar("T")
Connect = Callable[[], Awaitable["OpenClient"]]

CONNECT = 5  # seconds for a connection to one server
ALL = 15.0  # seconds for a connection to any of them
LATE = 5.0  # seconds after its deadline at which a call is given up, whatever its loop does
IDLE = 30.0  # seconds without a call after which connection and thread end
PING = 20  # seconds between two looks whether the server is still there


class Access(NamedTuple):
    """How a connection is made: to where, and with what.

    `context` is None where the connection needs no TLS; a server may ask for it all the same.
    """

    servers: tuple[str, ...]  # as nats://HOST:PORT or tls://HOST:PORT
    context: ssl.SSLContext | None = None
    credentials: str = ""  # the text of a .creds file
    user: str = ""
    password: str = ""
    token: str = ""
    has_certificate: bool = False  # whether `context` has one to show
    name: str = "watcher"  # what the operators of the server see


class Unreachable(Exception):
    """No server could be reached, or none let this program in; the text says why.

    `refused`: a server answered and refuses: its operator or this one has to change something.
    """

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


class Connection:
    """One connection. Any thread may call its methods."""

    def __init__(self, access: Callable[[], Access]) -> None:
        """`access` is called for each connection: what is in the files of secrets may change."""
        self._access = access
        self._lock = threading.RLock()  # for the next four; reentrant, for a signal handler
        self._session: _Session | None = None
        self._running: set[concurrent.futures.Future[Any]] = set()
        self._is_cut = False
        self._stays = False  # something runs beside the calls

    def call(self, work: Callable[[OpenClient], Awaitable[T]], seconds: float) -> T:
        """Run a coroutine with the open connection, and return its value.

        Raises Unreachable, TimeoutError after so many seconds, CancelledError after `cut`, and what
        the coroutine raises.
        """
        with self._lock:
            if self._is_cut:
                raise concurrent.futures.CancelledError
            session = self._started()
            future = asyncio.run_coroutine_threadsafe(
                session.run(work, seconds, self._end_if_idle), session.loop
            )
            self._running.add(future)
            if self._is_cut:  # by a signal handler in this thread, since the look above
                future.cancel()
        try:
            return future.result(seconds + LATE)
        except BaseException:
            future.cancel()  # a signal handler raised in this thread
            raise
        finally:
            with self._lock:
                self._running.discard(future)

    def spawn(self, work: Callable[[Connect], Awaitable[None]]) -> concurrent.futures.Future[None]:
        """Have a coroutine run beside the calls; `close` cancels it.

        Its argument returns the open connection, as `call` has it.
        """

        async def run(session: _Session) -> None:
            await work(session.client)

        with self._lock:
            self._stays = True
            session = self._started()
            return asyncio.run_coroutine_threadsafe(run(session), session.loop)

    def cut(self) -> None:
        """End the calls that are under way, and refuse others."""
        with self._lock:
            self._is_cut = True
            for future in list(self._running):
                future.cancel()

    def close(self) -> None:
        """End the connection and its thread."""
        self.cut()
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.stop()
            session.thread.join()

    def _started(self) -> _Session:
        """Return the session, which is begun if need be. The caller holds the lock."""
        if self._session is None or not self._session.is_alive:
            self._session = _Session(self._access)
            self._session.thread.start()
        return self._session

    def _end_if_idle(self) -> None:
        """End the session if no call is under way; called in its thread."""
        with self._lock:
            session = self._session
            if session is None or self._stays or self._running:
                return
            self._session = None
        session.stop()


class _Session:
    """An event loop, its thread, and the connection; the thread alone uses all but `stop`."""

    def __init__(self, access: Callable[[], Access]) -> None:
        self.loop = LookupLoop()
        self.thread = threading.Thread(target=self._run, name="nats", daemon=True)
        self._access = access
        self._client: OpenClient | None = None
        self._connecting = asyncio.Lock()
        self._last_error: BaseException | None = None
        self._idle: asyncio.TimerHandle | None = None

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs, or is yet to be started."""
        return self.thread.ident is None or self.thread.is_alive()

    def stop(self) -> None:
        """Have the loop end, and the thread with it; any thread may call it."""
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(_on_task_error)
        try:
            self.loop.run_forever()
        finally:
            with contextlib.suppress(Exception):
                self.loop.run_until_complete(self._end())
            self.loop.close()

    async def _end(self) -> None:
        """Cancel what still runs, and close the connection."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if self._client is not None:
            await self._client.leave()
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def run(
        self,
        work: Callable[[OpenClient], Awaitable[T]],
        seconds: float,
        on_idle: Callable[[], None],
    ) -> T:
        """Run one call; `on_idle` is called when none followed for `IDLE` seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await work(await self.client(seconds))
        finally:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = self.loop.call_later(IDLE, on_idle)

    async def client(self, seconds: float = ALL) -> OpenClient:
        """Return an open connection, which is made if need be; raise Unreachable.

        Less than the seconds are used, so that a caller with that deadline gets the reason.
        """
        async with self._connecting:
            if self._client is not None and not self._client.is_connected:
                gone, self._client = self._client, None
                await gone.leave()
            if self._client is None:
                self._client = await self._connected(min(ALL, 0.9 * seconds))
            return self._client

    async def _connected(self, seconds: float) -> OpenClient:
        access = self._access()
        self._last_error = None
        client = OpenClient(
            needs_tls=access.context is not None, has_certificate=access.has_certificate
        )

        async def on_error(error: BaseException) -> None:
            self._last_error = error
            client.on_denied(error)

        given: dict[str, Any] = {
            key: value
            for key, value in (
                ("tls", access.context),
                ("user_credentials", RawCredentials(access.credentials)),
                ("user", access.user),
                ("password", access.password),
                ("token", access.token),
            )
            if value
        }
        try:
            async with asyncio.timeout(seconds):
                await client.connect(
                    list(access.servers),
                    name=access.name,
                    error_cb=on_error,
                    closed_cb=client.on_closed,
                    allow_reconnect=False,
                    connect_timeout=CONNECT,
                    # Each server of the list is tried twice, and at once.
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=PING,
                    max_outstanding_pings=2,
                    **given,
                )
        except asyncio.CancelledError:
            await client.drop()
            raise
        except Exception as error:  # noqa: BLE001 - what the library makes of a server's nonsense
            await client.leave()
            raise self._unreachable(access, error) from None
        return client

    def _unreachable(self, access: Access, error: BaseException) -> Unreachable:
        """Return what the end of an attempt to connect means."""
        cause = error
        if isinstance(error, nats.errors.NoServersError | TimeoutError) and self._last_error:
            cause = self._last_error
        where = ", ".join(shown(server) for server in access.servers)
        why, refused = _reason(cause)
        return Unreachable(f"{where}: {why}", refused=refused)


def _on_task_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report the error of a task that nothing waited for, unless a connection broke.

    The read task of nats-py ends with the error of a connection that breaks while it is closed; the
    next call says that there is none. asyncio would print a traceback.
    """
    if not isinstance(context.get("exception"), OSError | nats.errors.Error):
        loop.default_exception_handler(context)


def shown(server: str) -> str:
    """Return a server's URL for a message: its host and port."""
    return server.partition("://")[2].rpartition("@")[2] or server


def _reason(error: BaseException) -> tuple[str, bool]:
    """Return why there is no connection, and whether a server refuses it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}", True
    if isinstance(error, nats.errors.SecureConnWantedError):
        return "the server offers no TLS", True
    if isinstance(error, CertificateWanted):
        return "the server asks for a certificate (cert_file)", True
    if isinstance(error, ssl.SSLError):
        return f"TLS: {one_line(error.reason or str(error))}", True
    if isinstance(error, TimeoutError):
        return "no answer in time", False
    if isinstance(error, OSError):
        number = error.errno or 0
        return os.strerror(number) if number > 0 else error.strerror or str(error), False
    if not isinstance(error, nats.errors.Error):
        return "it does not speak the protocol of NATS", False
    text = one_line(str(error)).removeprefix("nats: ").strip("' ")
    refused = "authorization" in text.lower() or "authentication" in text.lower()
    return text or type(error).__name__, refused
