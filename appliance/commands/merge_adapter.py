"""`appliance merge-adapter`: fold an adapter into the weights of its base model."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from appliance.commands.arguments import add_json_argument, folder_argument
from appliance.engine.environment import prepare_process
from appliance.errors import EXIT_DONE
from appliance.learn.merge import merge_adapter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "An adapter trained over a 4-bit (nf4) base is merged into the weights that it saw: the "
        "4-bit\nweights turned back to 16 bits. --onto original merges it into the unquantized "
        "weights instead;\nits answers then differ a little from those it was trained to give."
    )
    parser.add_argument(
        "base",
        type=folder_argument,
        metavar="BASE",
        help="model folder that the adapter was trained on",
    )
    parser.add_argument(
        "adapter",
        type=Path,
        metavar="ADAPTER",
        help="adapter folder, or the folder of a full fine-tuning",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="model folder to write; must be new")
    parser.add_argument(
        "--onto",
        choices=("trained", "original"),
        default="trained",
        help="base weights to merge into (default trained)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="data type of the merged weights (default: that of BASE)",
    )
    add_json_argument(parser, "print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    prepare_process()
    done = merge_adapter(args.base, args.adapter, args.out, onto=args.onto, dtype=args.dtype)

    for note in done.notes:
        print(f"appliance: {note}", file=sys.stderr)

    if args.json:
        print(json.dumps(asdict(done)))
    else:
        print(
            f"{args.out}: {done.kind} merged, stored in {done.dtype}; largest change of a logit: "
            f"{done.effect:.3g} by the adapter, {done.logit_error:.1e} by merging, "
            f"{done.storage_error:.1e} by storing"
        )
    return EXIT_DONE
