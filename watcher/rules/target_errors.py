"""What an error of the kernel means for a handler that writes to a directory. PURE.

The directory is the operator's: one that is not there, or that must not be written to, is no fault
of the entry, and no attempt is counted. A full disk is a retry, as it is for a command.
Fails: never.
"""

from __future__ import annotations

import errno
import os

from watcher.rules.results import SHORT, HandlerResult, Verdict, shortened

_OPERATOR = (
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV),
)
_ENTRY = (errno.ENAMETOOLONG, errno.EFBIG, errno.EILSEQ)  # the target can never hold this one


def result_of(error: OSError, what: str) -> HandlerResult:
    """Return the result of an attempt that ended with `error`; `what` names the target."""
    words = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    reason = shortened(f"{what}: {words}")
    if error.errno in _OPERATOR:
        return HandlerResult(Verdict.MISCONFIGURED, reason)
    if error.errno in _ENTRY:
        return HandlerResult(Verdict.REJECT, reason)
    return HandlerResult(Verdict.RETRY, reason, attempted=error.errno not in SHORT)
