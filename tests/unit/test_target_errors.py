"""What an error of a handler's target means: the operator's mistake, the entry's, or a retry."""

import errno

import pytest

from watcher.rules.results import Verdict
from watcher.rules.target_errors import result_of

TABLE = [
    *((code, Verdict.MISCONFIGURED) for code in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)),
    *((code, Verdict.MISCONFIGURED) for code in (errno.EACCES, errno.EPERM, errno.EROFS)),
    *((code, Verdict.REJECT) for code in (errno.ENAMETOOLONG, errno.EFBIG, errno.EILSEQ)),
    *((code, Verdict.RETRY) for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)),
]


@pytest.mark.parametrize(("code", "verdict"), TABLE, ids=str)
def test_whose_fault_an_error_is(code, verdict):
    result = result_of(OSError(code, "words"), "move to /x")
    assert (result.verdict, result.reason, result.attempted) == (verdict, "move to /x: words", True)


def test_a_shortage_of_the_machine_is_no_attempt():
    result = result_of(OSError(errno.EMFILE, "words"), "move to /x")
    assert (result.verdict, result.attempted) == (Verdict.RETRY, False)


def test_an_error_without_words_gets_the_kernels():
    assert result_of(OSError(errno.ENOSPC, None), "x").reason == "x: No space left on device"
