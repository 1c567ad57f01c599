"""What docs/proof.md names is there: each test, and each row of the table of the spool's format."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(
    r"`([a-z_/]+\.py)::(test_\w+)(?:\[(.+?)\])?`", (ROOT / "docs/proof.md").read_text()
)
ROWS = {
    line.split("|")[1].replace("`", "").strip()
    for line in (ROOT / "docs/spool-format.md").read_text().splitlines()
    if line.startswith("| `")
}


@pytest.mark.parametrize(("file", "test", "row"), NAMED, ids=lambda value: value)
def test_a_test_that_the_proof_names_is_there(file, test, row):
    assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text()
    assert not row or row in ROWS


def test_the_proof_counts_the_mutations_and_names_many_tests():
    sys.path.insert(0, str(ROOT / "tests/mutation"))
    from mutations import MUTATIONS

    sys.path.pop(0)
    assert f"{len(MUTATIONS)} mutations" in (ROOT / "docs/proof.md").read_text()
    assert len(NAMED) > 40
