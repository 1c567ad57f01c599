"""The page of handlers: its tables are the code's, each kind has a section, its examples load."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from watcher.config import load as configuration
from watcher.handle.handler_kinds import KINDS, settings_class

PAGE = Path(__file__).parents[2] / "docs" / "handlers.md"
TEXT = PAGE.read_text()
HEADINGS = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)


def kinds() -> str:
    """Return the table of all kinds."""
    lines = ["| kind | example | what an entry costs |", "| --- | --- | --- |"]
    for kind in KINDS:
        settings = settings_class(kind)
        lines.append(f"| [{kind}](#{kind}) | `{settings.EXAMPLE}` | {settings.COST} |")
    return "\n".join(lines)


def settings_of(kind: str) -> str:
    """Return the table of a kind's settings."""
    lines = ["| key | value | default | |", "| --- | --- | --- | --- |"]
    for key, option in settings_class(kind).OPTIONS.items():
        default = f"`{option.default}`" if option.default else ""
        lines.append(f"| `{key}` | {option.expected} | {default} | {option.help} |")
    return "\n".join(lines)


MADE = {"kinds": kinds()} | {
    kind: settings_of(kind) for kind in KINDS if settings_class(kind).OPTIONS
}


@pytest.mark.parametrize("name", MADE)
def test_the_documents_tables_of_handlers_are_those_of_the_kinds(name):
    """Run with WRITE_DOCUMENTS=1 to write them anew."""
    text = PAGE.read_text()
    begin = text.index("-->\n", text.index(f"<!-- {name}: ")) + len("-->\n")
    end = text.index("<!-- end -->", begin)
    if os.environ.get("WRITE_DOCUMENTS"):
        PAGE.write_text(f"{text[:begin]}\n{MADE[name]}\n\n{text[end:]}")
        return
    assert text[begin:end].strip() == MADE[name], "run `make docs`"


def test_the_document_has_a_section_for_each_kind_in_the_order_of_the_table():
    assert [heading for heading in HEADINGS if heading in KINDS] == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_names_each_kind(kind):
    section = (PAGE.parents[1] / "README.md").read_text().split("\n## Many queues")[1]
    assert f"`{kind}`" in section.partition("\n## ")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_documents_section_of_a_kind_has_an_example_of_it(kind):
    section = re.split(r"^## ", TEXT.split(f"\n## {kind}\n")[1], flags=re.MULTILINE)[0]
    assert f"{{ {kind} = " in section


@pytest.mark.parametrize(
    "example", re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
)
def test_a_configuration_that_the_document_shows_loads(example, tmp_path):
    file = tmp_path / "w.toml"
    file.write_text(example)
    assert configuration.load(str(file), {})
