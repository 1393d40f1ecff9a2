"""`appliance pack condor` and `appliance pack kaggle`."""

from __future__ import annotations

import argparse

from appliance.pack import condor, kaggle

PLACES = {
    "condor": (condor, "shards, a merge and their submit descriptions for HTCondor"),
    "kaggle": (kaggle, "a dataset and a notebook that run without internet on Kaggle"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    places = parser.add_subparsers(dest="place", required=True, metavar="PLACE")
    for name, (module, summary) in PLACES.items():
        module.add_arguments(
            places.add_parser(
                name, help=summary, description=summary[0].upper() + summary[1:] + "."
            )
        )


def run(args: argparse.Namespace) -> int:
    module, _ = PLACES[args.place]
    code: int = module.run(args)
    return code
