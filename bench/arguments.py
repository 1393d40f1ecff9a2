"""The parser of a bench's arguments."""

from __future__ import annotations

import argparse


def bench_parser(name: str, text: str | None) -> argparse.ArgumentParser:
    """For `python -m bench.NAME`; --help shows the text, a module's docstring, as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
