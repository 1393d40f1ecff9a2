"""`appliance settings`: every key that --set, --config, a profile or APPLIANCE_* may give."""

from __future__ import annotations

import argparse
import json

from appliance.config import describe_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as a list of objects")


def run(args: argparse.Namespace) -> int:
    rows = describe_settings()
    if args.json:
        print(json.dumps([{"key": k, "default": d, "meaning": m} for k, d, m in rows], indent=1))
        return 0
    key_width = max(len(k) for k, _, _ in rows)
    default_width = max(len(d) for _, d, _ in rows)
    for key, default, meaning in rows:
        print(f"{key:{key_width}}  {default:{default_width}}  {meaning}".rstrip())
    return 0
