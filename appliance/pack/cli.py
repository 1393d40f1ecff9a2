"""`appliance pack condor` and `appliance pack kaggle`."""

from __future__ import annotations

import argparse

from appliance.pack import condor

TARGETS = {
    "condor": (condor, "shards, a merge and their submit descriptions for HTCondor"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    targets = parser.add_subparsers(dest="target", required=True, metavar="TARGET")
    for name, (module, summary) in TARGETS.items():
        module.add_arguments(targets.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + "."))


def run(args: argparse.Namespace) -> int:
    module, _ = TARGETS[args.target]
    code: int = module.run(args)
    return code
