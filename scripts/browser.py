"""A headless Chromium, driven through the DevTools protocol over a pair of pipes.

The protocol is JSON with a NUL after each message, on the descriptors 3 and 4 of the browser
(`--remote-debugging-pipe`): no port, no driver program and no library is needed.
Guarantees: the browser ends with `close`, and by itself if this process dies (its pipe ends). Its
profile is a new directory, removed with it. It asks no server but those that a page names.
Fails: FileNotFoundError if there is no Chromium; BrowserError if it refuses a command, throws an
error in the page, or does not answer in time.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from types import TracebackType
from typing import Any, Self

PATIENCE = 30.0  # seconds for one answer, on a loaded machine too
_FIRST_FREE = 10  # descriptors of this process lie above those that the browser reads and writes
_POLL = "new Promise(done => { const ask = () => { const value = (%s); value ? done(value) : setTimeout(ask, 20); }; ask(); })"  # noqa: E501 - a program
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # the sandbox does not run as root, and the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)

Message = dict[str, Any]


class BrowserError(Exception):
    """The browser refused a command, a page threw an error, or no answer came in time."""


def chromium() -> str | None:
    """Return the path of the distribution's Chromium; None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One Chromium process. One thread uses it."""

    def __init__(self) -> None:
        program = chromium()
        if program is None:
            raise FileNotFoundError("there is no chromium: scripts/install_packages installs it")
        self.profile = tempfile.mkdtemp(prefix="watcher-chromium-")
        commands, self._out = _pipe()
        self._in, answers = _pipe()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        argv = [program, *_FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, commands, 3), (os.POSIX_SPAWN_DUP2, answers, 4)]
        self.process = os.posix_spawn(program, argv, os.environ, file_actions=actions, setpgroup=0)
        for fd in (commands, answers, null):
            os.close(fd)
        self._rest = b""
        self._number = 0
        self.events: list[Message] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and all its processes, and remove its profile."""
        for fd in (self._out, self._in):
            os.close(fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        shutil.rmtree(self.profile, ignore_errors=True)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> Message:
        """Send one command and return its result; what else comes is kept in `events`."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") == self._number:
                break
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        result: Message = answer["result"]
        return result

    def wait_for(self, method: str, session: str) -> Message:
        """Return the next event of this kind, also one that came before."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for event in self.events:
                if event.get("method") == method and event.get("sessionId") == session:
                    self.events.remove(event)
                    return event
            self.events.append(self._read(deadline, method))

    def page(self) -> Page:
        """Open a new page."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, target, session)

    def _read(self, deadline: float, what: str) -> Message:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._in, 1 << 20) if ready else b""
            if not data:
                raise BrowserError(f"{what}: the browser {'ended' if ready else 'does not answer'}")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        decoded: Message = json.loads(message)
        return decoded


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Message:
        """Send one command to this page."""
        return self._browser.send(method, self._session, **parameters)

    def open(self, address: str) -> None:
        """Go to an address, and wait until the page is loaded."""
        self.send("Page.navigate", url=address)
        self._browser.wait_for("Page.loadEventFired", self._session)

    def evaluate(self, program: str) -> Any:
        """Return the value of an expression in the page; a promise is awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=program, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(f"{program}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until an expression in the page is true; return its value."""
        return self.evaluate(_POLL % condition)

    def text(self, selector: str = "body") -> str:
        """Return the text that is seen in an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release one key."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36}
        common = {
            "key": key,
            "code": key,
            "windowsVirtualKeyCode": codes[key],
            "modifiers": 8 if shift else 0,
        }
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def resize(self, width: int, height: int) -> None:
        """Give the page a size in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Have the system prefer light or dark colours."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: str) -> None:
        """Write a picture of the whole page (PNG)."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(answer["data"]))

    def complaints(self) -> list[str]:
        """Return what the page wrote to its console or threw, and what its policy refused."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            method, said = event["method"], event["params"]
            if method == "Log.entryAdded" and said["entry"]["level"] in {"warning", "error"}:
                found.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
            elif method == "Runtime.exceptionThrown":
                found.append(json.dumps(said["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled":
                found.append(json.dumps(said["args"]))
        return found

    def forgive(self, text: str) -> None:
        """Forget the complaints that hold a text."""
        events = self._browser.events
        self._browser.events = [each for each in events if text not in json.dumps(each)]

    def requests(self) -> list[str]:
        """Return the addresses that the page has asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("sessionId") == self._session
            and event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        """Close the page."""
        self._browser.send("Target.closeTarget", targetId=self._target)
        self._browser.events.clear()


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe, above the numbers that the browser's ends get."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
