"""Which directory of copies is refused: one that another user could exchange or fill."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("nats")

from watcher.config.work_settings import MARK
from watcher.daemon.message_copies import prepare
from watcher.errors import BadConfiguration


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_a_directory_that_another_user_could_exchange_is_refused(tmp_path):
    base, there = tmp_path / "watcher-1000", tmp_path / "watcher-1000" / "work" / "mail"
    base.mkdir()
    os.chown(base, 1000, 1000)
    with pytest.raises(BadConfiguration, match="watcher-1000: belongs to another user"):
        prepare(str(there))
    assert list(base.iterdir()) == []
    os.chown(base, 0, 0)
    base.chmod(0o777)
    with pytest.raises(BadConfiguration, match="every user may change what is in it"):
        prepare(str(there))
    base.chmod(0o1777)  # as /tmp is
    prepare(str(there))
    assert os.listdir(there) == [MARK]
    there.chmod(0o1777)  # its files would be anyone's
    with pytest.raises(BadConfiguration, match="mail: every user may change"):
        prepare(str(there))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to another user")
def test_a_link_leads_to_a_directory_that_is_looked_at(tmp_path):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1000, 1000)
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(BadConfiguration, match="theirs: belongs to another user"):
        prepare(str(tmp_path / "link"))
