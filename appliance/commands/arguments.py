"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """The layers of settings that several verbs share."""
    group = parser.add_argument_group("settings (appliance settings lists every key)")
    group.add_argument("--profile", metavar="NAME", help="shipped settings for a kind of machine")
    group.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, may be repeated",
    )
