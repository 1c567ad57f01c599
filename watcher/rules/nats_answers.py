"""What the answers of a JetStream server to a publish mean for an entry. PURE.

    answer                                       the entry
    -------------------------------------------  -----------------------------------------------
    stored, or known already by its key          done
    the message is larger than the stream takes  rejected: no later attempt can succeed
    its headers are larger than any stream takes  rejected: its metadata is too large
    the stream has no leader, or too much to do  published again, until the attempt's deadline
    anything else                                the queue is held: another entry fares no better

To hold the queue is MISCONFIGURED: no attempt counts, no entry loses its place, and one entry is
tried at the pace of the retry policy until it is taken.

Source: the error codes of nats-server, server/errors.json.
"""

from __future__ import annotations

from watcher.rules.results import HandlerResult, Verdict, shortened

NOT_NOW = 503
NOT_STORED = 10077  # JSStreamStoreFailedF: the reason is in the description alone
TOO_LARGE = 10054  # JSStreamMessageExceedsMaximumErr
LARGE_HEADERS = 10097  # JSStreamHeaderExceedsMaximumErr
LARGE_RECORD = -3  # of no server: NOT_STORED for this reason
# JSStreamDuplicateMessageConflict: the first of two is not stored yet; JSStreamTooManyRequests
_PASSING = (10158, 10167)
_OF_THE_ENTRY = {
    TOO_LARGE: "raise the stream's maximum message size, and requeue it",
    LARGE_HEADERS: "its metadata is too large for a message",
    LARGE_RECORD: "a stream's file takes no message of 32 MB",
}
_CURES = {
    10023: "the server is short of resources",  # JSInsufficientResourcesErr
    10028: "the account has used what it may",  # JSMemoryResourcesExceededErr
    10047: "the server's storage is full",  # JSStorageResourcesExceededErr
    10060: "another stream takes this subject; see `subject`",  # JSStreamNotMatchErr
    10109: "the stream is sealed",  # JSStreamSealedErr
}
NO_STREAM = -1  # of no server: none answered, as no stream has the subject
DENIED = -2  # of no server: it says that beside the answers


def is_final(status: int, code: int) -> bool:
    """Whether an error is the server's answer, and not that it has none now.

    503 alone means that the stream has no leader now, or that JetStream is not ready.
    """
    if code in _PASSING:
        return False
    return status != NOT_NOW or code in (TOO_LARGE, NOT_STORED) or code in _CURES


def refused(code: int, description: str, subject: str) -> HandlerResult:
    """Return the result for an error that the server gave as the answer to one publish."""
    if code == NO_STREAM:
        return held(f"no stream takes the subject {subject}; `watcher nats init` makes one")
    said = description.strip() or f"error {code}"
    is_too_large = code == NOT_STORED and "too large" in said
    if fault := _OF_THE_ENTRY.get(LARGE_RECORD if is_too_large else code):
        return HandlerResult(Verdict.REJECT, shortened(f"{said}: {fault}"))
    is_full = code == NOT_STORED and "maximum" in said
    cure = "the stream is full; see `watcher nats check`" if is_full else _CURES.get(code)
    return held(f"{said}: {cure}" if cure else said)


def held(why: str) -> HandlerResult:
    """Return the result for what concerns no entry alone: the queue waits until it works again."""
    return HandlerResult(Verdict.MISCONFIGURED, shortened(why), ran=False)


def too_large(size: int, limit: int) -> HandlerResult:
    """Return the result for an entry that no message can hold."""
    why = f"{size} bytes with its headers is more than the server takes: raise its max_payload"
    return HandlerResult(Verdict.REJECT, shortened(f"{why} ({limit}), and requeue it"))
