"""What the documents name exists: tests, table rows, headings, classes and modules."""

from __future__ import annotations

import configparser
import importlib
import os
import re
import sys
from collections import Counter
from operator import attrgetter
from pathlib import Path

import pytest

from watcher import cli, errors
from watcher.cli import enqueue
from watcher.rules.results import Verdict

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMED = [
    named
    for page in ("proof.md", "security.md")
    for named in re.findall(
        r"`([a-z_/]+\.py)::(test_\w+)(?:\[(.+?)\])?`", (DOCS / page).read_text()
    )
]
ROWS = {
    line.split("|")[1].replace("`", "").strip()
    for line in (DOCS / "spool-format.md").read_text().splitlines()
    if line.startswith("| `")
}
# One entry of docs/glossary.md: the term, where the code has it (or nothing), the definition.
TERMS = [
    (term, home, " ".join(words.split()))
    for term, home, words in re.findall(
        r"^- \*\*(.+?)\*\*(?: \(`([\w.]+)`\))?: (.+?)(?=^- |\Z)",
        (DOCS / "glossary.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
]
SOURCES = [
    path
    for part in ("watcher", "scripts", "tests")
    for path in sorted((ROOT / part).rglob("*.py"))
    if path != Path(__file__)
]


@pytest.mark.parametrize(("file", "test", "row"), NAMED, ids=lambda value: value)
def test_a_test_that_a_page_names_is_there(file, test, row):
    assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text()
    assert not row or row in ROWS


def test_the_proof_counts_the_mutations_and_names_many_tests():
    sys.path.insert(0, str(ROOT / "tests/mutation"))
    from mutations import MUTATIONS

    sys.path.pop(0)
    # The exact number would have every change with a mutation change the same line.
    page = (DOCS / "proof.md").read_text()
    (most,) = re.findall(r"^More than (\d+) mutations", page, re.MULTILINE)
    assert int(most) < len(MUTATIONS) <= int(most) + 100
    assert len(NAMED) > 40


# -- the glossary -----------------------------------------------------------------------------


def in_code(home: str) -> object:
    """Return the module, class or constant that a dotted name stands for; raise if none is."""
    module, _, rest = home.partition(".")
    found: object = importlib.import_module(module)
    while rest:
        name, _, further = rest.partition(".")
        try:
            found = importlib.import_module(f"{module}.{name}")
        except ModuleNotFoundError:
            return attrgetter(rest)(found)
        module, rest = f"{module}.{name}", further
    return found


@pytest.mark.parametrize(("term", "home"), [term[:2] for term in TERMS], ids=lambda value: value)
def test_a_term_of_the_glossary_is_in_the_code(term, home):
    """Was a class or a module renamed? Then docs/glossary.md wants the new name, in its order."""
    if home:
        assert in_code(home) is not None
    if re.search("[a-z][A-Z]", term):  # the name of a class
        assert home.rpartition(".")[2] == term


def test_the_glossary_is_sorted_and_has_no_term_twice():
    terms = [term.lower() for term, _, _ in TERMS]
    assert terms == sorted(set(terms))
    assert len(terms) >= 40


@pytest.mark.parametrize(("term", "words"), [term[::2] for term in TERMS], ids=lambda value: value)
def test_a_term_of_the_glossary_is_defined_in_one_sentence(term, words):
    assert words[0].isupper() or words.startswith("`"), term
    assert re.findall(r"[.!?](?=\s|$)", words) == ["."], term
    assert words.endswith(".")


def test_every_entry_of_the_glossary_is_read():
    assert (DOCS / "glossary.md").read_text().count("\n- ") == len(TERMS)


# -- the code, and the pages that it names ----------------------------------------------------


def test_no_two_modules_have_one_name():
    """Those of cli/ are named after their commands."""
    stems = Counter(
        path.stem
        for path in (ROOT / "watcher").rglob("*.py")
        if path.parent.name != "cli" and path.stem != "__init__"
    )
    assert not [stem for stem, count in stems.items() if count > 1]


def headings(page: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", (DOCS / page).read_text(), re.MULTILINE))


def references() -> list[tuple[str, str, str]]:
    """Return each `docs/PAGE.md, "Heading"` of the sources, with the file that has it."""
    found = []
    for path in SOURCES:
        text = re.sub(r"\s+(?:# )?", " ", path.read_text())
        for page, heading in re.findall(r'docs/([\w-]+\.md), ?"([^"]+)"', text):
            found.append((str(path.relative_to(ROOT)), page, heading))
    return found


@pytest.mark.parametrize(("file", "page", "heading"), references())
def test_a_heading_that_the_code_names_is_there(file, page, heading):
    assert heading in headings(page), file


def test_the_code_names_the_design_by_its_headings():
    assert len({heading for _, page, heading in references() if page == "design.md"}) > 4
    by_number = re.compile(r"design,? section|of the design\b|\bsection [0-9]", re.IGNORECASE)
    assert not [
        str(path.relative_to(ROOT)) for path in SOURCES if by_number.search(path.read_text())
    ]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_a_link_between_the_pages_leads_somewhere(page):
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#?)([^)]*)\)", page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-")
                     for each in headings(os.path.relpath(path, DOCS))}  # fmt: skip
            assert anchor in slugs, target


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), ROOT / "README.md"], ids=lambda path: path.name
)
def test_a_source_file_that_a_page_names_is_there(page):
    named = re.findall(r"`((?:watcher|tests|scripts|docs)/[\w./-]+\.(?:py|md|toml|txt|c))`",
                       page.read_text())  # fmt: skip
    assert not [path for path in named if not (ROOT / path).exists()]


# -- the guide for contributors ---------------------------------------------------------------


def example_patches() -> list[tuple[str, str]]:
    """Return each file of the example patches in CONTRIBUTING.md: its head line, and its lines."""
    found = []
    for block in re.findall(
        r"^```diff\n(.*?)^```", (DOCS / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        parts = re.split(r"^(--- .+|\+\+\+ .+)\n", block, flags=re.MULTILINE)
        assert not parts[0], "an example begins with the name of a file"
        found += zip(parts[1::2], parts[2::2], strict=True)
    return found


@pytest.mark.parametrize(
    ("head", "lines"), [pytest.param(*each, id=each[0]) for each in example_patches()]
)
def test_an_example_patch_fits_the_source(head, lines):
    """Was a quoted line changed? Then the example in CONTRIBUTING.md wants the new one."""
    kind, name = head.split()
    text = (ROOT / name).read_text() if kind == "---" else ""
    assert bool(text) == (ROOT / name).exists()
    for hunk in lines.split("@@\n"):
        marked = [(line[:1], line[1:] + "\n") for line in hunk.splitlines()]
        assert {mark for mark, _ in marked} <= {" ", "-", "+"}
        before = "".join(line for mark, line in marked if mark != "+")
        after = "".join(line for mark, line in marked if mark != "-")
        if before or text:
            assert f"\n{text}".count(f"\n{before}") == 1, f"{name} has not once:\n{before}"
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:] if before else after
    if name.endswith(".py"):
        compile(text, name, "exec")


def test_there_is_an_example_for_each_of_the_five_changes():
    assert (DOCS / "CONTRIBUTING.md").read_text().count("\nExample: ") == 5
    assert len(example_patches()) > 15


# -- the design -------------------------------------------------------------------------------


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading of the design, without its head."""
    section = (DOCS / "design.md").read_text().split(f"\n## {heading}\n")[1].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_design_has_every_exit_code():
    raised = {
        each.exit_code
        for module in (errors, enqueue)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, errors.WatcherError)
    }
    assert {int(code) for code, _ in table("Exit codes")} == raised | {0}


def test_the_design_has_every_command():
    named = [name for row in table("Commands") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(cli.COMMANDS)


def test_the_design_has_every_verdict():
    assert {row[0] for row in table("Handler results")} == {verdict.value for verdict in Verdict}


# -- the architecture -------------------------------------------------------------------------


def levels() -> str:
    """Return the import levels of setup.cfg, the highest first."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["importlinter:contract:layers"]["layers"].strip()


def test_the_import_levels_are_those_that_are_checked():
    """Run by `make docs` with WRITE_DOCUMENTS=1 to write them anew."""
    page = DOCS / "architecture.md"
    text = page.read_text()
    begin = text.index("-->\n", text.index("<!-- levels: ")) + len("-->\n")
    end = text.index("<!-- end -->", begin)
    made = f"\n```\n{levels()}\n```\n\n"
    if os.environ.get("WRITE_DOCUMENTS"):
        page.write_text(text[:begin] + made + text[end:])
        return
    assert text[begin:end] == made, "run `make docs`"


def test_the_tree_has_every_folder_and_no_other():
    page = (DOCS / "architecture.md").read_text()
    tree = page.partition("```\nwatcher/\n")[2].partition("```")[0]
    package = ROOT / "watcher"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    files = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    assert set(re.findall(r"^  (\w+)/", tree, re.MULTILINE)) == folders, "architecture.md, The tree"
    assert set(re.findall(r"\b\w+\.py", tree)) == files, "architecture.md, The tree"
