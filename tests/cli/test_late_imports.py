"""What is imported only when it is needed: a process that nothing fails in never pays for it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["watcher.rules.backoff", "watcher.rules.retry"])
def test_tenacity_is_not_imported_before_the_first_failure(module):
    program = f"import sys, {module}; sys.exit('tenacity' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_library_of_one_kind_of_handler_is_imported_where_that_is_loaded(tmp_path):
    pytest.importorskip("httpx2")
    file = tmp_path / "w.toml"
    file.write_text('[queues.q]\npath = "/q"\nhandler = { http = "https://h.example/in" }\n')
    program = (
        "import sys\n"
        "from watcher.config.load import load\n"
        f"queue = load({str(file)!r}, {{}})['q']\n"
        "print([name for name in ('httpx2', 'ssl') if name in sys.modules])\n"
        "queue.load_handler()\n"
        "print([name for name in ('httpx2', 'ssl') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert done.stdout.decode().splitlines() == ["[]", "['httpx2', 'ssl']"]


def test_a_first_failure_for_want_of_descriptors_has_a_delay_too():
    program = (
        "import resource as r\n"
        "from watcher.rules.backoff import delay\n"
        "soft, hard = r.getrlimit(r.RLIMIT_NOFILE)\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (0, hard))\n"
        "print(delay(1), delay(9, 0.1, 0.5))\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (soft, hard))\n"
        "print(delay(1))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert done.stdout.split() == [b"1.0", b"0.5", b"0.2"]
