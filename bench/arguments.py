"""The parser of a bench's arguments."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path


def bench_parser(name: str, text: str | None) -> argparse.ArgumentParser:
    """For `python -m bench.NAME`; --help shows the text, a module's docstring, as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def card_parser(
    name: str, text: str | None, *, all_s: Mapping[str, float], out: Path
) -> argparse.ArgumentParser:
    """The same for a check of a card, which has a time limit and writes a report.

    all_s: seconds for everything, on cuda and on cpu. out: folder of the report, unless said.
    """
    parser = bench_parser(name, text)
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu: check the check, with small models (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, help=f"time for everything (default: {all_s['cuda']:.0f} on cuda)"
    )
    parser.add_argument(
        "--out", type=Path, default=out, help="folder of the report (default: %(default)s)"
    )
    return parser


def is_wanted(name: str, only: str) -> bool:
    """Whether A|B|... after --only names it: one of them is part of the name."""
    return any(part in name for part in only.split("|"))
