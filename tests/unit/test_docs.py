"""The documentation points at what exists, and stays readable in an editor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cases import REPOSITORY

MOST_COLUMNS = 100

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "requirements/*.md", "tests/cases/*.md")
    for path in REPOSITORY.glob(pattern)
)
ARC_MINI = REPOSITORY / "appliance/models/arc-mini/README.md"
GENERATED = ("cli.md", "dsl.md", "families.md")
"""Pages that a module writes: their lines are as long as what they show."""

LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`([\w./-]+\.(?:py|ya?ml|md|mk|svg|sub|def|toml|txt)|[\w./-]+/)`")
NOT_OURS = re.compile(
    r"^(OUT|DIR|DAG|out|build|corpus|PACKAGE|shard-|~|/|\.venv|data|tasks|checkpoints|dataset"
    r"|adapter/|model/)"
)
"""Names of files that a run makes, or that the reader brings."""

FOLDERS = ("", "appliance", "tests/unit", "tests/e2e", "docs", "appliance/engine", "condor")
"""Where a file that is named in prose may lie, the nearest first."""


def ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(REPOSITORY)) for page in pages]


def anchors(page: Path) -> set[str]:
    """The names by which a page's headings can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()) for h in headings]
    return {w.strip().replace(" ", "-") for w in words}


@pytest.mark.parametrize("page", [*PAGES, ARC_MINI], ids=ids([*PAGES, ARC_MINI]))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for inline, reference in LINK.findall(FENCE.sub("", page.read_text())):
        link = inline or reference
        if "://" in link:
            continue

        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{target.name} has no heading #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_files_that_are_named_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # tells of what was
        return

    here = {str(p.relative_to(REPOSITORY)) for p in REPOSITORY.glob("appliance/**/*")}
    for name in NAMED.findall(FENCE.sub("", page.read_text())):
        if NOT_OURS.match(name):
            continue
        near = [page.parent, *(REPOSITORY / folder for folder in FOLDERS)]
        found = [str(folder) for folder in near if (folder / name).exists()]
        found += [path for path in here if path.endswith("/" + name.rstrip("/"))]
        assert found, f"{page.name} names {name}, which does not exist"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_lines_are_short(page: Path) -> None:
    """All but tables, links and what a machine writes."""
    if page.name in GENERATED:
        return

    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.startswith("|") and "](" not in line:
            assert len(line) <= MOST_COLUMNS, f"{page.name}:{number} has {len(line)} characters"


def test_the_readme_names_the_two_commands() -> None:
    text = (REPOSITORY / "README.md").read_text()
    commands = re.findall(r"^make (submit|test)\b", text, re.MULTILINE)
    assert {"submit", "test"} <= set(commands)


def test_every_page_stands_in_the_table_of_contents() -> None:
    index = (REPOSITORY / "docs/index.md").read_text()
    pages = {page.name for page in (REPOSITORY / "docs").glob("*.md")} - {"index.md"}
    assert pages - set(re.findall(r"\]\(([^)]+)\)", index)) == set()


def test_make_targets_that_are_named_exist() -> None:
    makefiles = (REPOSITORY / "Makefile").read_text() + (REPOSITORY / "make/targets.mk").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefiles, re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, f"{page.name} names make {named - targets}"
