"""`appliance selftest`: learn a few tasks by heart and get them back through the whole pipeline."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from appliance.commands.arguments import add_json_argument, examine_model, whole
from appliance.engine.environment import prepare_process
from appliance.engine.folder.card import EMBEDDED
from appliance.errors import EXIT_COVERAGE, EXIT_DONE
from appliance.learn.selftest import all_stages, recipe_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit code 5: a stage is broken; look at the first one that failed"
    parser.add_argument(
        "--model", default=EMBEDDED, metavar="DIR|arc-mini", help="model to check the pipeline with"
    )
    parser.add_argument(
        "--method",
        choices=("full", "lora"),
        help="train all weights or a LoRA adapter (default: full for arc-mini, else lora)",
    )
    parser.add_argument(
        "--tasks",
        type=whole(1, 400),
        default=6,
        metavar="N",
        help="tasks to learn by heart (default 6)",
    )
    parser.add_argument(
        "--max-steps",
        type=whole(1, 1_000_000),
        metavar="N",
        help="training steps (default: 150 for arc-mini, else 300)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to keep what is made here (default: a temporary one)",
    )
    add_json_argument(parser, "print the stages as JSON")


def run(args: argparse.Namespace) -> int:
    prepare_process()
    folder = examine_model(args.model).folder
    method = args.method or ("full" if args.model == EMBEDDED else "lora")
    stages = []

    def tell(stage: str, words: str) -> None:
        if not args.json:
            print(f"...   {stage:7} {words}", flush=True)

    with tempfile.TemporaryDirectory(prefix="selftest-") as scratch:
        out = args.out or Path(scratch)
        recipe = recipe_for(folder, out, method=method, max_steps=args.max_steps)
        for stage in all_stages(recipe, out, num_tasks=args.tasks, tell=tell):
            stages.append(stage)
            if not args.json:
                verdict = "PASS" if stage.is_good else "FAIL"
                print(f"{verdict}  {stage.name:7} {stage.words}", flush=True)

    if args.json:
        print(json.dumps([asdict(stage) | {"is_good": stage.is_good} for stage in stages]))
    return EXIT_DONE if all(stage.is_good for stage in stages) else EXIT_COVERAGE
