"""The page of the task families is up to date and small."""

from __future__ import annotations

from xml.etree import ElementTree

from appliance.learn.synth import families, families_page
from tests.support.cases import REPOSITORY

DOCS = REPOSITORY / "docs"


def test_the_files_in_docs_are_those_that_the_script_makes() -> None:
    pages = families_page.pages()
    for path, text in pages.items():
        assert (DOCS.parent / path).read_text(encoding="utf-8") == text, (
            "run: python -m appliance.learn.synth.families_page"
        )
    assert {f"docs/families/{p.name}" for p in (DOCS / "families").iterdir()} == set(pages) - {
        "docs/families.md"
    }


def test_every_family_stands_on_the_page_and_on_a_sheet() -> None:
    page = (DOCS / "families.md").read_text(encoding="utf-8")
    sheets = "".join(p.read_text(encoding="utf-8") for p in (DOCS / "families").iterdir())
    for family in families():
        assert f"**{family.name}**" in page
        assert f">{family.name}" in sheets


def test_the_sheets_are_well_formed_and_small() -> None:
    sheets = list((DOCS / "families").iterdir())
    for sheet in sheets:
        ElementTree.parse(sheet)
    assert sum(sheet.stat().st_size for sheet in sheets) < 1_500_000
