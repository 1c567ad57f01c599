"""What TLS needs on this side: the certificates to trust, and the one to show.

Guarantees: the server's certificate must be valid for its name. No password is asked for at a
terminal.
Fails: BadConfiguration that names the option, the file, and what is wrong with it.
"""

from __future__ import annotations

import ssl

from watcher.credentials.secret_file import check_secret
from watcher.errors import BadConfiguration


def tls_context(
    place: str, ca_file: str | None, cert_file: str | None = None, key_file: str | None = None
) -> ssl.SSLContext:
    """Return a client's context; `place` has the options `ca_file`, `cert_file` and `key_file`.

    Without `ca_file` the certificates of the system are trusted. `key_file` may be left out if the
    key is in `cert_file`, too.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise BadConfiguration(
            f"{place}.ca_file: {ca_file}: no certificates can be read: {_why(error)}"
        ) from None
    if cert_file is None:
        return context
    if key_file is not None:
        check_secret(key_file, f"{place}.key_file")
    else:
        check_secret(cert_file, f"{place}.cert_file")
    try:
        # An empty password: OpenSSL would ask for one at the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    except (OSError, ValueError) as error:
        raise BadConfiguration(
            f"{place}.cert_file: {cert_file}: no certificate with its key can be read:"
            f" {_why(error)}"
        ) from None
    return context


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
