"""docs/cli.md says what --help says."""

from __future__ import annotations

import sys

import pytest

from appliance import cli_page


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="argparse words its help differently in other versions"
)
def test_the_page_of_the_command_line_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", cli_page.COLUMNS)
    assert cli_page.PAGE.read_text(encoding="utf-8") == cli_page.render(), (
        "run: python -m appliance.cli_page"
    )
