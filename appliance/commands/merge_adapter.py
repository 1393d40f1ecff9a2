"""`appliance merge-adapter`: fold an adapter into the weights of its base model."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from appliance.engine.environment import prepare_process
from appliance.errors import EXIT_DONE
from appliance.learn.merge import merge_adapter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """an adapter trained over an nf4 base is merged into the weights that it saw, nf4 turned back to 16 bits;
--onto original puts it on the unquantised weights instead, which are another model by a little"""
    parser.add_argument(
        "base", type=Path, metavar="BASE", help="model folder that the adapter was trained on"
    )
    parser.add_argument(
        "adapter", type=Path, metavar="ADAPTER", help="adapter folder, or a fully trained model"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument(
        "--onto", choices=("trained", "original"), default="trained", help="weights to merge into"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="stored type; default the base's",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    prepare_process()
    done = merge_adapter(args.base, args.adapter, args.out, onto=args.onto, dtype=args.dtype)
    if args.json:
        print(json.dumps(asdict(done)))
    else:
        print(
            f"{args.out}: {done.kind} merged, stored in {done.dtype}; the adapter moves logits by up to {done.effect:.3g}, "
            f"merging by {done.logit_error:.1e}, storing by {done.storage_error:.1e}"
        )
    return EXIT_DONE
