"""TLS and credentials with a real server: what is let in, what is said, and no secret is shown."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import nkeys
import pytest

pytest.importorskip("nats")

from tests.command_server import run_command
from tests.nats_server import PROGRAM, serving
from tests.scripted_http_server import EXTENSIONS, make_certificates

SECRET = "xyzzy-plugh"
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no nats-server")
ASK = """
req -new -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc
-subj /CN=old -keyout old.key -out old.csr
"""
ISSUE = """
ca -batch -notext -config issuer.cnf -extensions server -in old.csr
-cert authority.crt -keyfile authority.key -out old.crt
-startdate 200101000000Z -enddate 200102000000Z
"""
ISSUER = """
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """An authority, a server's and a client's certificate, and one that has expired."""
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory)
    (directory / "issuer.cnf").write_text(ISSUER + EXTENSIONS)
    (directory / "index.txt").touch()
    for command in (ASK, ISSUE):
        words = ["openssl", *command.split()]
        subprocess.run(words, cwd=directory, check=True, capture_output=True)
    pem = directory / "old.pem"
    pem.touch(0o600)
    pem.write_text((directory / "old.crt").read_text() + (directory / "old.key").read_text())
    return directory


@pytest.fixture
def check(watcher_command, environment):
    """Run `watcher nats check`; return its exit code and all that it prints."""

    def run(server, *arguments, url=None):
        where = ("--server", url or server.url, "--stream", "MAIL")
        argv = [*watcher_command, "nats", "check", *where, *map(str, arguments)]
        ended = run_command(argv, env=environment, text=True, input="")
        said = ended.stdout + ended.stderr
        assert SECRET not in said
        assert "Traceback" not in said
        return ended.returncode, said

    return run


@pytest.fixture
def secret(tmp_path):
    """Write a file of a secret."""

    def write(name, text=SECRET, mode=0o600):
        path = tmp_path / name
        path.write_text(text + "\n")
        path.chmod(mode)
        return path

    return write


def is_let_in(found):
    """Whether the server answered: there is no stream yet."""
    code, said = found
    return code == os.EX_UNAVAILABLE and "there is no such stream" in said


def tls(certificates, name="server", more=""):
    pem = certificates / f"{name}.pem"
    return f'tls {{ cert_file: "{pem}", key_file: "{pem}", {more} }}'


def over_tls(server):
    return server.url.replace("nats:", "tls:")


def test_a_server_whose_certificate_is_trusted_is_talked_to(check, certificates, tmp_path):
    ca = certificates / "ca.pem"
    with serving(tmp_path / "nats", tls(certificates)) as server:
        assert is_let_in(check(server, "--ca-file", ca))
        assert is_let_in(check(server, "--ca-file", ca, url=over_tls(server)))
        code, said = check(server, url=over_tls(server))
        assert code == os.EX_CONFIG
        assert "its certificate is not trusted" in said
        code, said = check(server, "--ca-file", certificates / "none.pem")
        assert code == os.EX_CONFIG
        assert "no certificates can be read" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"), [("old", "certificate has expired"), ("client", "mismatch")]
)
def test_a_wrong_certificate_is_not_trusted(check, certificates, tmp_path, name, words):
    with serving(tmp_path / "nats", tls(certificates, name)) as server:
        code, said = check(server, "--ca-file", certificates / "ca.pem")
        assert code == os.EX_CONFIG
        assert "its certificate is not trusted" in said
        assert words in said


def test_a_server_may_ask_for_a_certificate(check, certificates, tmp_path, secret):
    ca, own = certificates / "ca.pem", certificates / "client.pem"
    asks = tls(certificates, more=f'ca_file: "{ca}", verify: true')
    with serving(tmp_path / "nats", asks) as server:
        assert is_let_in(check(server, "--ca-file", ca, "--cert-file", own))
        code, said = check(server, "--ca-file", ca)
        assert code == os.EX_CONFIG
        assert "asks for a certificate" in said
        code, said = check(server, "--ca-file", ca, "--cert-file", certificates / "client.crt")
        assert code == os.EX_CONFIG
        assert "cert_file" in said
        key = secret("open.key", (certificates / "client.key").read_text(), 0o644)
        found = check(server, "--ca-file", ca, "--cert-file", own, "--key-file", key)
        assert found[0] == os.EX_CONFIG
        assert "chmod 600" in found[1]


def test_nothing_is_sent_to_a_server_without_tls(check, certificates, tmp_path, secret):
    password = secret("password")
    with serving(tmp_path / "nats", f'authorization {{ user: u, password: "{SECRET}" }}') as server:
        with open(server.config, "a") as file:
            file.write("trace: true\n")
        server.stop()
        server.start()
        let_in = ("--user", "u", "--password-file", password)
        code, said = check(server, "--ca-file", certificates / "ca.pem", *let_in)
        assert code == os.EX_CONFIG
        assert "the server offers no TLS" in said
        assert "CONNECT" not in server.log.read_text()
        assert is_let_in(check(server, *let_in))
        assert "CONNECT" in server.log.read_text()


LETS_IN = (  # the server's configuration, options that are right, options that are wrong
    (
        f'authorization {{ user: u, password: "{SECRET}" }}',
        ("--user", "u", "--password-file", "FILE"),
        (("--user", "v", "--password-file", "FILE"), ("--user", "u", "--password-file", "OTHER")),
    ),
    (
        f'authorization {{ token: "{SECRET}" }}',
        ("--token-file", "FILE"),
        (("--token-file", "OTHER"), ()),
    ),
)


@pytest.mark.parametrize("row", LETS_IN, ids=["password", "token"])
def test_a_server_lets_in_who_has_the_secret(check, tmp_path, secret, row):
    configuration, right, wrong = row
    files = {"FILE": secret("file"), "OTHER": secret("other", f"{SECRET}-not")}

    def with_files(options):
        return [files.get(word, word) for word in options]

    with serving(tmp_path / "nats", configuration) as server:
        assert is_let_in(check(server, *with_files(right)))
        for options in wrong:
            code, said = check(server, *with_files(options))
            assert code == os.EX_CONFIG, said
            assert "Authorization Violation" in said
        files["FILE"].chmod(0o644)
        code, said = check(server, *with_files(right))
        assert code == os.EX_CONFIG
        assert "chmod 600" in said


def test_a_secret_is_in_no_log_no_status_and_no_command_line(
    tmp_path, secret, start_daemon, eventually, watcher_command, environment
):
    password, wrong = secret("password"), secret("wrong", f"{SECRET}-not")
    config = tmp_path / "work.toml"
    text = (
        '[work.mail]\nserver = "URL"\nstream = "MAIL"\nuser = "u"\n'
        f'password_file = "{wrong}"\ndirectory = "{tmp_path}/copies"\n'
        'handler = { exec = ["true"] }\n'
    )
    with serving(tmp_path / "nats", f'authorization {{ user: u, password: "{SECRET}" }}') as server:
        config.write_text(text.replace("URL", server.url))
        daemon = start_daemon(None, "--config", str(config), command="work", ready=True)
        (line,) = daemon.wait_for("unhealthy")
        assert "Authorization Violation" in line["detail"]
        argv = [*watcher_command, "status", "--json", "--config", str(config)]

        def status():
            return run_command(argv, env=environment, text=True, input="").stdout

        eventually(lambda: "Authorization Violation" in status())
        process = Path(f"/proc/{daemon.process.pid}")
        shown = (process / "cmdline").read_text() + (process / "environ").read_text()
        wrong.write_text(password.read_text())  # mended while it runs
        daemon.wait(lambda: "no such stream" in daemon.log())
        assert SECRET not in shown + status() + daemon.log()
        assert daemon.end() == 0


def token_of(issuer, subject, kind, claims):
    """Return a JWT as the server's own tool makes it."""

    def part(value):
        data = json.dumps(value).encode() if isinstance(value, dict) else value
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    body = {
        "iat": int(time.time()) - 60,
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": kind,
        "nats": {"type": kind, "version": 2, **claims},
    }
    digest = hashlib.sha256(json.dumps(body).encode()).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    signed = part({"typ": "JWT", "alg": "ed25519-nkey"}) + b"." + part(body)
    return (signed + b"." + part(issuer.sign(signed))).decode()


def key_of(name, prefix):
    seed = hashlib.sha256(name.encode()).digest()
    return nkeys.from_seed(bytearray(nkeys.encode_seed(seed, prefix)))


def credentials(user_token, user):
    return (
        f"-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


@pytest.mark.slow
def test_a_file_of_credentials_lets_its_user_in(check, tmp_path, secret):
    operator = key_of("operator", nkeys.PREFIX_BYTE_OPERATOR)
    user = key_of("user", nkeys.PREFIX_BYTE_USER)
    account, system, other = (
        key_of(name, nkeys.PREFIX_BYTE_ACCOUNT) for name in ("account", "system", "other")
    )
    no_limit = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    preload = "".join(
        f"{key.public_key.decode()}: {token_of(operator, key, 'account', {'limits': limits})}\n"
        for key, limits in ((account, no_limit | storage), (system, no_limit))
    )
    own = token_of(operator, operator, "operator", {})
    of_user = dict.fromkeys(("subs", "data", "payload"), -1)
    right = secret("right.creds", credentials(token_of(account, user, "user", of_user), user))
    wrong = secret("wrong.creds", credentials(token_of(other, user, "user", of_user), user))
    broken = secret("broken.creds", "nothing")
    more = (
        f"operator: {own}\nsystem_account: {system.public_key.decode()}\nresolver: MEMORY\n"
        f"resolver_preload {{\n{preload}}}\n"
    )
    with serving(tmp_path / "nats", more) as server:
        assert is_let_in(check(server, "--credentials-file", right))
        code, said = check(server, "--credentials-file", wrong)
        assert (code, "Authorization Violation" in said) == (os.EX_CONFIG, True), said
        code, said = check(server, "--credentials-file", broken)
        assert code == os.EX_CONFIG, said
        assert user.seed.decode() not in said
        assert check(server)[0] == os.EX_CONFIG
