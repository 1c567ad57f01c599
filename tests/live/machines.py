"""Follow docs/beyond-one-machine.md as a reader with several machines would.

    unshare --mount --net --pid --fork --kill-child --mount-proc python machines.py PAGE DIRECTORY

As `recipe.py`, whose rules for the blocks hold here, with these of its own:

- a prompt names the machine: `worker$ watcher work ...`. Each machine has a network address, a host
  name, and /etc/watcher, /srv, /run and parts of /var of its own; all are on one network;
- a block with `# /a/path: on spool, worker` in its first or second line is saved on these machines;
- a server or a daemon (`nats-server`, `watcher run`, `watcher work`) gets a terminal of its own. A
  `text` block is what the terminal shows that was opened last. All are ended with the page, or at
  its comment `<!-- all stopped -->`; a daemon has to end with 0.

Ends with 1 and the difference if the page does not say what happens.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import recipe  # noqa: E402
from recipe import PageIsWrong  # noqa: E402

ADDRESSES = {"spool": 1, "worker": 2, "one": 11, "two": 12, "three": 13}  # in 10.0.0.0/24
OWN = ("/etc/watcher", "/srv", "/run", "/var/lib", "/var/spool")
COMMAND = re.compile(r"^(\w+)\$ ((?:.*\\\n)*.*)\n((?:(?!\w+\$ ).*\n)*)", re.MULTILINE)
STAYS = re.compile(r"(nats-server|watcher run|watcher work( --server| --config)) ")
LOOKS = re.compile(r"watcher (nats check|work list|list|status|history)\b|ls\b|cat\b")
STOPPED = "<!-- all stopped -->"


class Machine:
    """A host name, an address and directories of its own: namespaces that a process keeps."""

    def __init__(self, name: str, directory: str) -> None:
        self.directory = os.path.join(directory, name)
        commands = [f"hostname {name}"]
        for path in OWN:
            own = os.path.join(self.directory, path[1:].replace("/", "-"))
            os.makedirs(own)
            commands.append(f"mount --bind {own} {path}")
        keeper = "; ".join([*commands, "echo there; exec sleep infinity"])
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "sh", "-ec", keeper], stdout=subprocess.PIPE
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"there\n"
        pid, number = str(self._keeper.pid), ADDRESSES[name]
        self._link = f"to{number}"
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        _ip("link", "set", self._link, "master", "bridge", "up")
        for change in (f"addr add 10.0.0.{number}/24 dev eth0", "link set eth0 up"):
            subprocess.run(self.inside("ip", *change.split()), check=True)
        subprocess.run(self.inside("ip", "link", "set", "lo", "up"), check=True)

    def end(self) -> None:
        """Take the machine away; what runs on it has ended.

        Without the first step the kernel removes its link too, but some time after the namespace,
        and the next machine of this name needs the link's name.
        """
        _ip("link", "delete", self._link)
        self._keeper.kill()
        self._keeper.wait()

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs a command on this machine."""
        target = str(self._keeper.pid)
        return ["nsenter", "--target", target, "--net", "--mount", "--uts", "--", *command]


class Terminal:
    """A server or a daemon, and what it showed."""

    def __init__(self, machine: Machine, command: str, path: str) -> None:
        self.command, self._path, self._seen = command, path, 0
        with open(path, "wb") as output:
            self.process = subprocess.Popen(
                machine.inside("sh", "-c", f"exec {command}"),
                env={**recipe.ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def lines(self) -> str:
        """Return all that it showed."""
        return Path(self._path).read_text(encoding="utf-8", errors="replace")

    def await_lines(self, expected: str) -> None:
        """Wait until it shows these lines, in this order, and maybe others between them."""
        deadline = time.monotonic() + recipe.PATIENCE
        while True:
            lines, place, wanted = self.lines().splitlines(), self._seen, expected.splitlines()
            while wanted and place < len(lines):
                if recipe.shows(wanted[0], lines[place]):
                    del wanted[0]
                place += 1
            if not wanted:
                self._seen = place
                return
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise PageIsWrong(f"{self.command} does not show:\n{wanted[0]}\n{self.lines()}")
            time.sleep(0.05)

    def end(self) -> None:
        """Stop it, drained; raise PageIsWrong if it ends with an error."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(recipe.PATIENCE)
        if status and self.command.startswith("watcher"):
            raise PageIsWrong(f"{self.command} ended with {status}:\n{self.lines()}")


class Reader:
    """A reader with a shell on each machine, and a terminal for each daemon."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._machines: dict[str, Machine] = {}
        self._terminals: list[Terminal] = []
        self._parts = 0  # of the page that are over

    def follow(self, page: str) -> None:
        """Do what a page says; raise PageIsWrong if something else happens."""
        for part in page.split(STOPPED):
            for language, text in recipe.blocks(part):
                if language == "console":
                    for name, command, output in COMMAND.findall(text):
                        self._type(self._on(name), command, output)
                elif language == "text":
                    self._terminals[-1].await_lines(text)
                else:
                    for machine, path in self._saved(text):
                        self._save(machine, path, text)
            while self._terminals:
                self._terminals.pop().end()
            while self._machines:
                self._machines.popitem()[1].end()
            self._parts += 1

    def _on(self, name: str) -> Machine:
        if name not in self._machines:
            self._machines[name] = Machine(
                name, os.path.join(self._directory, f"part{self._parts}")
            )
        return self._machines[name]

    def _saved(self, text: str) -> Iterator[tuple[Machine, str]]:
        for line in text.splitlines()[:2]:
            if found := re.fullmatch(r"[#;] (/\S+?): on ([\w, ]+)", line):
                for name in found[2].split(", "):
                    yield self._on(name), found[1]

    @staticmethod
    def _save(machine: Machine, path: str, text: str) -> None:
        command = f"mkdir -p {os.path.dirname(path)} && cat >{path}"
        subprocess.run(machine.inside("sh", "-c", command), input=text, text=True, check=True)

    def _type(self, machine: Machine, command: str, output: str) -> None:
        if STAYS.match(command):
            assert output, f"how is it seen that {command} is ready?"
            path = os.path.join(self._directory, f"terminal{len(self._terminals)}")
            self._terminals.append(Terminal(machine, command, path))
            self._terminals[-1].await_lines(output)
        else:
            self._compare(machine, command, output)

    def _compare(self, machine: Machine, command: str, output: str) -> None:
        deadline = time.monotonic() + recipe.PATIENCE
        while True:
            ended = subprocess.run(
                machine.inside("sh", "-c", command),
                env=recipe.ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if recipe.same(output, ended.stdout) and not ended.returncode:
                return
            if not LOOKS.match(command) or time.monotonic() > deadline:
                shown = "".join(f"{each.command}:\n{each.lines()}" for each in self._terminals)
                raise PageIsWrong(
                    f"$ {command}\n{ended.stdout}(status {ended.returncode})\n"
                    f"the page says:\n{output}the terminals:\n{shown}"
                )
            time.sleep(0.1)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def main() -> int:
    """Follow the page; return 1 if it is wrong."""
    page, directory = sys.argv[1:]
    recipe.make_room(directory)
    _ip("link", "add", "bridge", "type", "bridge")
    _ip("link", "set", "bridge", "up")
    try:
        Reader(directory).follow(Path(page).read_text(encoding="utf-8"))
    except PageIsWrong as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
