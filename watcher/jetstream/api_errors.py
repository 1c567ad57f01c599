"""The errors that a server answers to what is asked of its streams, in words for an operator. PURE.

Source: the error codes of nats-server, server/errors.json.
"""

from __future__ import annotations

import json

from nats.js.errors import APIError, ServiceUnavailableError

from watcher.errors import one_line

_CURES = {
    10005: "the cluster has fewer servers that can be used than --replicas",  # JSClusterNoPeersErr
    10039: "JetStream is not enabled for this account",  # JSNotEnabledForAccountErr
    10047: "the server's storage is full",  # JSStorageResourcesExceededErr
    10065: "another stream takes these subjects already",  # JSStreamSubjectOverlapErr
    10074: "--replicas needs a cluster of as many servers",  # JSStreamReplicasNotSupportedErr
    10076: "JetStream is not enabled on this server: see `jetstream` in its configuration",
}


def said(error: APIError) -> str:
    """Return an error of the server in words."""
    cure = _CURES.get(error.err_code or 0)
    if isinstance(error, ServiceUnavailableError) and cure is None:
        return "JetStream is not available there: not enabled, or without a leader now"
    words = one_line(str(error.description or error))
    return f"{words}: {cure}" if cure else words


def error_of(answer: bytes) -> APIError | None:
    """Return the error that an answer to a request has, if any; ValueError: it is no answer."""
    error = json.loads(answer).get("error")
    return None if error is None else APIError(**error)
