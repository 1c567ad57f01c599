"""Follow one page of docs/recipes/ as a reader would: save its files, type its commands, compare.

    unshare --mount --net --pid --fork --kill-child --mount-proc python recipe.py PAGE DIRECTORY

It works in namespaces of its own, as root: /etc is a copy, and /srv, /home, /run and parts of /var
are empty directories below DIRECTORY. So the page's paths, ports and users are used as they are
and the machine keeps its own. The rules for a page's blocks:

- a block with `# /a/path` in its first or second line is a file, saved there (`settle` is 2 s);
- `console`: each `$ ` line is typed and ends with 0, and the lines below are its output; `...`
  stands for anything. `watcher run` gets a terminal of its own, after `watcher check` has accepted
  its configuration; `systemctl restart NAME` starts that server with the page's configuration. A
  command that only looks is repeated until it shows what the page shows;
- `text`: lines that the daemon's terminal shows from now on;
- any other block, and a `console` block after the comment `<!-- not run -->`, is not run.

Ends with 1 and the difference if the page does not say what happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts")]

from real_writers.servers import Program, start  # noqa: E402

PATIENCE = float(os.environ.get("RECIPE_PATIENCE", "40"))  # seconds for an output to come
EMPTY = (
    *("/srv", "/home", "/root", "/run", "/usr/local/sbin"),
    *("/var/cache", "/var/lib", "/var/log", "/var/mail", "/var/spool"),
)
# What a server's package makes, below the empty directories.
MADE = ("/run/sshd", "/run/proftpd", "/run/samba", "/var/lib/samba/private", "/var/log/samba")
MADE_TOO = ("/var/log/proftpd", "/etc/watcher", "/var/cache/samba")
SERVERS = {
    "ssh": (["sshd", "-D", "-e"], 22),
    "proftpd": (["proftpd", "--nodaemon"], 21),
    "smbd": (["smbd", "--foreground", "--no-process-group"], 445),
    "rsync": (["rsync", "--daemon", "--no-detach"], 873),
}
# Commands that change nothing: they may be typed again until they show what the page shows.
LOOKS = re.compile(r"(runuser -u \S+ -- )?(watcher (list|audit|cat|explain|check)|ls|cat|find)\b")
FASTER = ('settle = "10s"', 'settle = "2s"')  # the one thing in which the test is no reader
ENVIRONMENT = {
    "PATH": f"{ROOT / '.venv' / 'bin'}:{os.path.dirname(sys.executable)}"
    ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}
BLOCK = re.compile(r"(<!-- not run -->\n+)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


class PageIsWrong(Exception):
    """The page does not say what happens; the text is the difference."""


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Return the blocks that are to be followed: the language and the text of each."""
    for aside, language, text in BLOCK.findall(page):
        if not aside:
            yield language, text


def saved_as(text: str) -> str | None:
    """Return the path of the file that a block is, or None."""
    for line in text.splitlines()[:2]:
        if found := re.fullmatch(r"[#;] (/\S+?)(: .*)?", line):
            return found[1]
    return None


def shows(expected: str, line: str) -> bool:
    """Whether a line is the expected one; `...` stands for anything."""
    return re.fullmatch(re.escape(expected).replace(r"\.\.\.", ".*"), line) is not None


def same(expected: str, output: str) -> bool:
    """Whether an output is the expected one; the line `...` is any number of lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r" *\n"
        for line in expected.splitlines()
    )
    return re.fullmatch(pattern, output) is not None


class Reader:
    """A reader with a shell, a daemon's terminal, and servers."""

    def __init__(self, undo: contextlib.ExitStack, directory: str) -> None:
        self._undo = undo
        self._directory = "/home/reader"
        os.mkdir(self._directory)
        os.symlink(ROOT / "scripts", os.path.join(self._directory, "scripts"))
        self._terminal = os.path.join(directory, "terminal")
        self._seen = 0  # lines of the daemon's terminal that a `text` block has shown
        self._daemon: subprocess.Popen[bytes] | None = None

    def follow(self, page: str) -> None:
        """Do what a page says; raise PageIsWrong if something else happens."""
        for language, text in blocks(page):
            if language == "console":
                for command, output in COMMAND.findall(text):
                    self._type(command, output)
            elif language == "text":
                self._await(text)
            elif path := saved_as(text):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                Path(path).write_text(text.replace(*FASTER), encoding="utf-8")
                os.chmod(path, 0o755 if text.startswith("#!") else 0o644)
        if self._daemon is not None:
            self._end()

    def _type(self, command: str, output: str) -> None:
        if found := re.fullmatch(r"systemctl restart (\w+)", command):
            argv, port = SERVERS[found[1]]
            if found[1] == "ssh":
                subprocess.run(["ssh-keygen", "-q", "-A"], check=True)  # as its package does
            self._undo.enter_context(start(Program(found[1], argv, port), self._directory))
        elif "watcher run " in command:
            if self._daemon is not None:
                self._end()
            assert output, f"how is it seen that {command} is ready?"
            self._check(command)
            self._run(command)
            self._await(output)
        else:
            self._compare(command, output)

    def _shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", command],
            env=ENVIRONMENT,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )

    def _compare(self, command: str, output: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self._shell(command)
            if same(output, ended.stdout) and not ended.returncode:
                return
            if not LOOKS.match(command) or time.monotonic() > deadline:
                raise PageIsWrong(
                    f"$ {command}\n{ended.stdout}(status {ended.returncode})\n"
                    f"the page says:\n{output}the daemon's terminal:\n{self._lines()}"
                )
            time.sleep(0.1)

    def _check(self, command: str) -> None:
        """Have `watcher check` accept the configuration, as the user of the daemon."""
        check = command.replace("watcher run", "watcher check")
        ended = self._shell(check)
        if ended.returncode or re.search("^  bad ", ended.stdout, re.MULTILINE):
            raise PageIsWrong(f"$ {check}\n{ended.stdout}(status {ended.returncode})")

    def _run(self, command: str) -> None:
        with open(self._terminal, "wb") as terminal:
            self._daemon = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
            )
        self._seen = 0

    def _lines(self) -> str:
        if not os.path.exists(self._terminal):
            return ""
        return Path(self._terminal).read_text(encoding="utf-8", errors="replace")

    def _await(self, expected: str) -> None:
        """Wait until the daemon's terminal shows these lines, in this order, and maybe others."""
        deadline = time.monotonic() + PATIENCE
        while True:
            lines = self._lines().splitlines()
            place = self._seen
            wanted = expected.splitlines()
            while wanted and place < len(lines):
                if shows(wanted[0], lines[place]):
                    del wanted[0]
                place += 1
            if not wanted:
                self._seen = place
                return
            assert self._daemon is not None, "a `text` block before `watcher run`"
            if time.monotonic() > deadline or self._daemon.poll() is not None:
                raise PageIsWrong(
                    f"the daemon's terminal does not show:\n{wanted[0]}\nbut:\n{self._lines()}"
                )
            time.sleep(0.05)

    def _end(self) -> None:
        assert self._daemon is not None
        pid = self._daemon.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if Path(f"/proc/{pid}/comm").read_text() in {"runuser\n", "unshare\n"}:
            pid = int(children[0])  # they wait for it
        os.kill(pid, signal.SIGTERM)
        if status := self._daemon.wait(PATIENCE):
            raise PageIsWrong(f"the daemon ended with {status}:\n{self._lines()}")
        self._daemon = None


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _searchable(needed: list[Path], directory: str) -> None:
    """Let all users reach these paths: a daemon that is not root has to load Python and watcher.

    A directory above them that other users may not search, such as /root, becomes an empty one with
    nothing but these paths in it.
    """
    stashes = {}
    for number, path in enumerate(needed):
        if closed := [each for each in path.parents if not each.stat().st_mode & 0o001]:
            stash = os.path.join(directory, f"needed{number}")
            os.mkdir(stash)
            _mount("--rbind", str(path), stash)
            stashes[path] = (stash, closed[-1])
    for closed_one in {closed for _, closed in stashes.values()}:
        _mount("-t", "tmpfs", "-o", "mode=755", "recipe", str(closed_one))
    for path, (stash, _) in stashes.items():
        path.mkdir(parents=True, exist_ok=True)
        _mount("--rbind", stash, str(path))


def _own_etc(directory: str) -> None:
    """Mount an overlay over /etc, which takes no time; or a copy, where there are no overlays."""
    etc = os.path.join(directory, "etc")
    os.mkdir(etc)
    _mount("-t", "tmpfs", "-o", "mode=755", "recipe", etc)
    for part in ("upper", "work"):
        os.mkdir(os.path.join(etc, part), 0o755)
    try:
        parts = f"lowerdir=/etc,upperdir={etc}/upper,workdir={etc}/work"
        _mount("-t", "overlay", "-o", parts, "recipe", "/etc")
    except subprocess.CalledProcessError:
        copy = os.path.join(etc, "copy")
        shutil.copytree("/etc", copy, symlinks=True, ignore_dangling_symlinks=True)
        _mount("--bind", copy, "/etc")


def make_room(directory: str) -> None:
    """Give this mount namespace its own /etc, /srv and so on, and its network a loopback."""
    os.umask(0o022)
    _searchable([Path(sys.base_prefix), ROOT], directory)
    _own_etc(directory)
    for path in EMPTY:
        if os.path.isdir(path) and not os.path.islink(path) and not os.path.ismount(path):
            empty = os.path.join(directory, path[1:].replace("/", "-"))
            os.mkdir(empty)
            _mount("--bind", empty, path)
    for path in (*MADE, *MADE_TOO):
        os.makedirs(path, exist_ok=True)
    os.chmod("/var/lib/samba/private", 0o700)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def main() -> int:
    """Follow the page; return 1 if it is wrong."""
    page, directory = sys.argv[1:]
    make_room(directory)
    with contextlib.ExitStack() as undo:
        try:
            Reader(undo, directory).follow(Path(page).read_text(encoding="utf-8"))
        except PageIsWrong as error:
            print(error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
