"""`appliance settings`: every key that --set, --config, a profile or APPLIANCE_* may give."""

from __future__ import annotations

import argparse
import json

from appliance.commands.arguments import add_json_argument
from appliance.config import describe_settings
from appliance.errors import EXIT_DONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json_argument(parser, "print the list as JSON objects")


def run(args: argparse.Namespace) -> int:
    rows = describe_settings()

    if args.json:
        print(json.dumps([{"key": k, "default": d, "meaning": m} for k, d, m in rows], indent=1))
        return EXIT_DONE

    key_width = max(len(key) for key, _, _ in rows)
    default_width = max(len(default) for _, default, _ in rows)
    for key, default, meaning in rows:
        print(f"{key:{key_width}}  {default:{default_width}}  {meaning}".rstrip())
    return EXIT_DONE
