"""docs/cli.md, made from --help: `python -m appliance.cli_page` writes it, a test keeps it true."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from appliance import cli

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
COLUMNS = "100"


def render() -> str:
    """The page: the overview and every verb's help at a fixed width."""
    os.environ["COLUMNS"] = COLUMNS  # where argparse looks; else the page depends on the terminal
    parts = ["# The command line\n\nGenerated from `--help` by `python -m appliance.cli_page`.\n"]
    parts.append(f"```\n{cli.overview()}\n```\n")

    for verb, (module_name, summary) in cli.VERBS.items():
        parser = cli.make_parser(verb, summary)
        importlib.import_module(module_name).add_arguments(parser)
        parts.append(f"## appliance {verb}\n\n```\n{parser.format_help().rstrip()}\n```\n")

    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
