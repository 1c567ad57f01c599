"""Servers for the writers that need one: on loopback, on free ports, with their own configuration.

A server is started when the first writer needs it, and ended at the end of `with Servers`. The
machine's configuration, keys and running services are neither read nor changed.
Fails: CannotServe, with the last lines of the server's output.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

PATIENCE = 20.0  # seconds until a server answers
PRIVILEGE_SEPARATION = "/run/sshd"  # compiled into sshd


class CannotServe(Exception):
    """A server did not start; the text says why."""


class Program(NamedTuple):
    """A server's program, which is to answer on a port."""

    name: str
    argv: list[str]
    port: int
    udp: bool = False


@contextlib.contextmanager
def start(program: Program, directory: str) -> Iterator[None]:
    """Start a server and wait until it answers; its output is in a file of the directory."""
    log = os.path.join(directory, f"{program.name}.log")
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [_path(program.argv[0]), *program.argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (_bound if program.udp else _answers)(program.port):
            if server.poll() is not None or time.monotonic() > deadline:
                with open(log, encoding="utf-8", errors="replace") as lines:
                    said = " / ".join(line.strip() for line in lines.readlines()[-3:])
                raise CannotServe(f"{program.name} does not answer: {said or server.poll()}")
            time.sleep(0.05)
        yield
    finally:
        _end(server)


class Servers:
    """The running servers and their ports."""

    def __init__(self, directory: str, served: str) -> None:
        self._directory, self._served = directory, served
        self._lock = threading.Lock()
        self._ports: dict[str, int] = {}
        self._undo = contextlib.ExitStack()
        self.ssh_key = os.path.join(directory, "key")
        self.ssh_host_key = os.path.join(directory, "host_key.pub")
        self.ssh_config = os.path.join(directory, "ssh_config")
        self.smb_config = os.path.join(directory, "smb.conf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def port(self, name: str) -> int:
        """Return the port of a server; start the server if needed."""
        with self._lock:
            if name not in self._ports:
                port = _free_port()
                argvs: dict[str, Callable[[int], list[str]]] = {
                    "sshd": self._sshd,
                    "vsftpd": self._vsftpd,
                    "proftpd": lambda port: self._proftpd("proftpd", port, "on"),
                    "proftpd, plain": lambda port: self._proftpd("plain", port, "off"),
                    "smbd": self._smbd,
                    "rsync": self._rsyncd,
                    "lighttpd": self._lighttpd,
                    "tftpd": self._tftpd,
                }
                self._start(name, argvs[name](port), port)
                self._ports[name] = port
            return self._ports[name]

    def _start(self, name: str, argv: list[str], port: int) -> None:
        self._undo.enter_context(
            start(Program(name, argv, port, udp=name == "tftpd"), self._directory)
        )

    def _write(self, name: str, text: str) -> str:
        path = os.path.join(self._directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o600)
        return path

    def _sshd(self, port: int) -> list[str]:
        if os.geteuid() == 0 and not os.path.isdir(PRIVILEGE_SEPARATION):
            os.mkdir(PRIVILEGE_SEPARATION, 0o755)
            self._undo.callback(os.rmdir, PRIVILEGE_SEPARATION)
        for key in ("host_key", "key"):
            path = os.path.join(self._directory, key)
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]
            subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(os.path.join(self._directory, "key.pub"), self._directory + "/authorized")
        self._write(
            "ssh_config",
            f"Host queue\n HostName 127.0.0.1\n Port {port}\n User {_me()}\n"
            f" IdentityFile {self._directory}/key\n IdentitiesOnly yes\n BatchMode yes\n"
            " StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n",
        )
        config = self._write(
            "sshd_config",
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self._directory}/host_key\n"
            f"AuthorizedKeysFile {self._directory}/authorized\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n"
            "MaxStartups 100\nSubsystem sftp internal-sftp\n",
        )
        return ["sshd", "-D", "-e", "-f", config]

    def _vsftpd(self, port: int) -> list[str]:
        empty = os.path.join(self._directory, "empty")
        os.mkdir(empty, 0o555)
        config = self._write(
            "vsftpd.conf",
            f"listen=YES\nlisten_ipv6=NO\nlisten_address=127.0.0.1\nlisten_port={port}\n"
            "background=NO\nanonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\n"
            f"ftp_username={pwd.getpwuid(ftp_user()).pw_name}\nanon_root={self._served}\nallow_writeable_chroot=YES\nsecure_chroot_dir={empty}\n"
            "write_enable=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\n"
            "anon_umask=022\nanon_world_readable_only=NO\nseccomp_sandbox=NO\n"
            "mdtm_write=YES\nxferlog_enable=NO\npasv_address=127.0.0.1\n",
        )
        return ["vsftpd", config]

    def _proftpd(self, name: str, port: int, hidden: str) -> list[str]:
        place, user = self._directory, pwd.getpwuid(ftp_user())
        group = grp.getgrgid(user.pw_gid).gr_name
        config = self._write(
            f"{name}.conf",
            f"ServerType standalone\nDefaultAddress 127.0.0.1\nPort {port}\nUseIPv6 off\n"
            f"User {user.pw_name}\nGroup {group}\nPidFile {place}/{name}.pid\n"
            f"ScoreboardFile none\nDelayEngine off\nSystemLog {place}/{name}.system\n"
            "WtmpLog off\nTransferLog NONE\nAuthOrder mod_auth_unix.c\nRequireValidShell off\n"
            "UseReverseDNS off\nMaxInstances 100\n"
            f"<Anonymous {self._served}>\n User {user.pw_name}\n Group {group}\n"
            f" UserAlias anonymous {user.pw_name}\n RequireValidShell off\n"
            f" AnonRequirePassword off\n HiddenStores {hidden}\n AllowOverwrite on\n"
            " AllowStoreRestart on\n"
            " <Limit ALL>\n  AllowAll\n </Limit>\n</Anonymous>\n",
        )
        return ["proftpd", "--nodaemon", "--config", config]

    def _smbd(self, port: int) -> list[str]:
        place = os.path.join(self._directory, "smb")
        os.mkdir(place, 0o700)
        kinds = ("private dir", "lock directory", "state directory", "cache directory")
        directories = (*kinds, "pid directory", "ncalrpc dir", "usershare path")
        config = self._write(
            "smb.conf",
            f"[global]\nworkgroup = TEST\nserver role = standalone server\nsmb ports = {port}\n"
            "interfaces = lo\nbind interfaces only = yes\ndisable netbios = yes\n"
            "load printers = no\nprintcap name = /dev/null\ndisable spoolss = yes\n"
            f"map to guest = Bad User\nguest account = {_me()}\nlog file = {place}/log\n"
            "usershare max shares = 0\nserver multi channel support = no\n"
            + "".join(f"{kind} = {place}\n" for kind in directories)
            + f"[q]\npath = {self._served}\nguest ok = yes\nguest only = yes\nread only = no\n",
        )
        return ["smbd", "--foreground", "--no-process-group", f"--configfile={config}"]

    def _rsyncd(self, port: int) -> list[str]:
        config = self._write(
            "rsyncd.conf",
            f"port = {port}\naddress = 127.0.0.1\nuse chroot = no\n[q]\npath = {self._served}\n"
            "read only = no\n" + ("uid = root\ngid = root\n" if os.geteuid() == 0 else ""),
        )
        return ["rsync", "--daemon", "--no-detach", f"--config={config}"]

    def _lighttpd(self, port: int) -> list[str]:
        config = self._write(
            "lighttpd.conf",
            'server.modules = ("mod_webdav")\nwebdav.activate = "enable"\n'
            f'server.document-root = "{self._directory}"\nserver.port = {port}\n'
            f'server.bind = "127.0.0.1"\nserver.upload-dirs = ("{self._directory}")\n',
        )
        return [_path("lighttpd"), "-D", "-f", config]

    def _tftpd(self, port: int) -> list[str]:
        return [
            *(_path("in.tftpd"), "--foreground", "--address", f"127.0.0.1:{port}", "--create"),
            *("--permissive", "--user", _me(), "--secure", self._served),
        ]


def ftp_user() -> int:
    """Return the user of FTP servers: `ftp`, which their packages create, or nobody."""
    for name in ("ftp", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return os.geteuid()


def has(program: str) -> bool:
    """Whether a program is installed; servers may be outside of a user's PATH."""
    return bool(_find(program))


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")


def _path(program: str) -> str:
    found = _find(program)
    if found is None:
        raise CannotServe(f"{program} is not installed")
    return found


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _bound(port: int) -> bool:
    """Whether a server has this UDP port."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and its children: they are all in one session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(3)
