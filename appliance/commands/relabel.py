"""`appliance relabel`: the programs that runs wrote become a dataset for `appliance train`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from appliance.atomic import check_replaceable
from appliance.commands.arguments import Arguments, add_json_argument, add_tasks_argument, whole
from appliance.commands.progress import counted_runs
from appliance.errors import EXIT_DONE
from appliance.foreign_text import as_shown
from appliance.learn.data.relabelled import PROVENANCE, Relabelling, relabel_written, write_pack
from appliance.learn.data.written import read_runs
from appliance.program.sandbox import Sandbox

EPILOG = """A program that is wrong for its task is right for the task that its own outputs make.
A task counts as solved here if one of its programs gets all demonstrations right.

  appliance submit --tasks TASKS --strategy induction --predictions 64 --out out/before
  appliance relabel out/before --out out/pack
  appliance train --recipe recipes/relabelled.yaml --model DIR --corpus out/pack --out out/learnt
  appliance submit --tasks TASKS --strategy induction --predictions 64 \\
      --model DIR --adapter out/learnt/adapter --out out/after"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="--out folders of runs; they are pooled"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="PACK",
        help="the dataset: a folder for --corpus; an older one that this command made is replaced",
    )
    add_choice_arguments(parser)
    add_tasks_argument(parser, "the tasks (default: those that each run was started with)")
    parser.add_argument(
        "--workers",
        type=whole(1, 1024),
        metavar="N",
        help="programs that run at the same time (default: one per core)",
    )
    add_json_argument(parser, "print the counts as JSON")


def add_choice_arguments(to: Arguments) -> None:
    """Which programs are taken."""
    to.add_argument(
        "--picked",
        type=whole(1, 100_000),
        default=8,
        metavar="N",
        help="different programs of a task, the best first by the share of demonstrations that "
        "they get exactly right (default: 8)",
    )
    to.add_argument(
        "--solved",
        choices=["keep", "drop", "only"],
        default="keep",
        help="tasks with a program that gets all demonstrations right: keep them (default), drop "
        "them, or take only them and of them only such programs",
    )
    to.add_argument(
        "--diverse",
        action="store_true",
        help="prefer programs whose outputs no other picked program gives",
    )


def choice_flags(args: argparse.Namespace) -> tuple[str, ...]:
    """The flags of `add_choice_arguments` as they were given."""
    flags = ("--picked", str(args.picked), "--solved", args.solved)
    return (*flags, "--diverse") if args.diverse else flags


def run(args: argparse.Namespace) -> int:
    check_replaceable(args.out, mark=PROVENANCE)  # before minutes are spent
    found = read_runs(args.runs, source=args.tasks)
    _tell(f"note: {note}" for note in found.notes)

    with Sandbox(found.limits, workers=args.workers, accept_level=found.accept_level) as sandbox:
        made = relabel_written(
            found.programs,
            counted_runs(sandbox),
            num_picked=args.picked,
            solved=args.solved,
            is_diverse=args.diverse,
        )

    named = [str(path) for path in args.runs]
    chosen = f"{args.picked} a task, solved tasks: {args.solved}" + ", diverse" * args.diverse
    write_pack(made, args.out, sources=[f"programs of {run} ({chosen})" for run in named])

    if args.json:
        print(json.dumps({"out": str(args.out), **made.as_json()}))
    else:
        print("\n".join(_lines(args.out, made)))
    return EXIT_DONE


def _lines(out: Path, made: Relabelling) -> list[str]:
    reasons = ", ".join(f"{n} {reason}" for reason, n in made.left_out.items())
    return [
        f"{out}: {len(made.families)} programs of {made.num_tasks} tasks; "
        f"in {made.num_solved} of them a program gets all demonstrations right",
        f"  of {made.num_programs} programs {made.num_same} repeat another one of their task, "
        f"{sum(made.left_out.values())} are left out" + (f": {reasons}" if reasons else ""),
    ]


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"appliance: {as_shown(line)}", file=sys.stderr)
