"""`appliance pack condor` and `appliance pack kaggle`: one source, for two places to run."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from appliance.arc.source import load_tasks, select_tasks
from appliance.clock import format_duration, parse_duration
from appliance.commands.arguments import (
    add_selection_arguments,
    add_set_argument,
    add_strategy_argument,
    add_tasks_argument,
    whole,
)
from appliance.config import profile_layer
from appliance.engine.folder.card import EMBEDDED
from appliance.errors import EXIT_DONE, InputError, UsageError
from appliance.pack.condor import CondorRequest, Packed, pack_condor
from appliance.pack.kaggle import PYTHONS, KaggleRequest, check_folder, pack_kaggle
from appliance.pack.render_condor import DAG
from appliance.sizing.plan import Plan

COMPETITION = "arc-prize-2026-arc-agi-2"
"""As it stands in the address of the competition's page."""

SUMMARIES = {
    "condor": "shards, a merge and their submit descriptions for HTCondor",
    "kaggle": "a dataset and a notebook that run without internet on Kaggle",
}

MUCH_BYTES = 20 * 2**30
"""More than that through one access point is told: a pool has other ways for it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    places = parser.add_subparsers(dest="place", required=True, metavar="PLACE")
    parsers = {
        name: places.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        for name, summary in SUMMARIES.items()
    }

    _add_condor_arguments(parsers["condor"])
    _add_kaggle_arguments(parsers["kaggle"])


def run(args: argparse.Namespace) -> int:
    return _run_condor(args) if args.place == "condor" else _run_kaggle(args)


def _add_condor_arguments(parser: argparse.ArgumentParser) -> None:
    add_tasks_argument(parser, "tasks to solve", required=True)
    add_selection_arguments(parser)
    parser.add_argument(
        "--shards",
        required=True,
        type=whole(1, 100_000),
        metavar="N",
        help="number of jobs that share the tasks",
    )
    parser.add_argument(
        "--image",
        required=True,
        help="container image: a .sif file, or its docker://, oras:// or osdf:// address",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder to submit from; must be new"
    )
    parser.add_argument(
        "--model",
        default=EMBEDDED,
        metavar="DIR|arc-mini",
        help="model, sent along with every shard (default arc-mini, which the image holds)",
    )
    parser.add_argument(
        "--model-from",
        metavar="URL",
        help="where each shard fetches the model by itself: the osdf:// or other address of NAME"
        ".tar or NAME.tar.gz, NAME being the folder of --model",
    )
    parser.add_argument(
        "--profile",
        default="chtc-short",
        metavar="NAME",
        help="settings for a kind of slot (default chtc-short; condor-cpu only searches, and sends "
        "no model)",
    )
    add_strategy_argument(parser)
    parser.add_argument(
        "--budget", metavar="TIME", help="time of each shard (default: the profile's)"
    )
    parser.add_argument(
        "--every",
        default="1h",
        metavar="TIME",
        help="how often a shard saves its files and goes on from them (default 1h)",
    )
    parser.add_argument(
        "--site", metavar="NAME", help="chtc, ospool or none (default: by the profile's name)"
    )
    parser.add_argument(
        "--seed",
        type=whole(0, 10**18 - 1),
        default=0,
        metavar="N",
        help="random seed of every shard (default 0)",
    )
    add_set_argument(parser, "one setting of the run; may be repeated")
    parser.add_argument(
        "--line",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a submit command to add at the end; may be repeated",
    )


def _run_condor(args: argparse.Namespace) -> int:
    tasks = select_tasks(load_tasks(args.tasks), only=args.only, limit=args.limit, shard=None)
    budget = args.budget or profile_layer(args.profile).values.get("run.budget_s")
    if budget is None:
        raise UsageError(
            f"profile {args.profile} has no budget",
            expected="--budget",
            remedy="such as --budget 8h",
        )

    request = CondorRequest(
        image=args.image,
        model=args.model,
        model_from=args.model_from,
        profile=args.profile,
        budget=str(budget),
        every=args.every,
        num_shards=args.shards,
        site=args.site,
        seed=args.seed,
        settings=_settings(args),
        lines=tuple(args.line),
    )
    packed = pack_condor(tasks, request, args.out)

    for line in _told(args, packed, parse_duration(str(budget)), parse_duration(args.every)):
        print(line)
    return EXIT_DONE


def _settings(args: argparse.Namespace) -> tuple[str, ...]:
    """What --set and --strategy say, as --set would."""
    strategy = () if args.strategy is None else (f"strategy={args.strategy}",)
    return (*args.set, *strategy)


def _told(args: argparse.Namespace, packed: Packed, budget_s: float, every_s: float) -> list[str]:
    """What was made, and the next step."""
    slot = packed.slot
    sizes = [len(ids) for ids in packed.shards]
    loads = [sum(packed.costs[task_id] for task_id in ids) for ids in packed.shards]

    device = packed.plan.device if isinstance(packed.plan, Plan) else "one core"
    asks = [
        f"{slot.cpus.value} cores",
        f"{slot.memory_mib.value} MiB",
        f"{slot.disk_gib.value} GB disk",
    ]
    if slot.num_gpus.value:
        asks.append(f"{slot.num_gpus.value} GPU of at least {slot.gpu_memory_mib.value} MiB")

    notes = []
    if packed.image.target == "gpu" and not slot.num_gpus.value:
        notes.append("  the image is for GPUs and no shard asks for one: TARGET=cpu is far smaller")
    if packed.expressions:
        notes.append(f"  not checked, HTCondor evaluates it: {'; '.join(packed.expressions)}")
    if packed.sent_bytes * len(sizes) > MUCH_BYTES:
        notes.append(
            f"  the access point sends {packed.sent_bytes / 2**30:.1f} GiB to each of "
            f"{len(sizes)} shards; let the pool fetch them: docs/htcondor.md, Large images"
        )

    here = shlex.quote(str(args.out))
    return [
        f"{args.out}: {sum(sizes)} tasks in {len(sizes)} shards "
        f"of {min(sizes)} to {max(sizes)} tasks",
        f"  predicted work of a shard: {format_duration(min(loads))} to "
        f"{format_duration(max(loads))} on {device}, "
        f"budget {format_duration(budget_s)}, saved every {format_duration(every_s)}",
        f"  each asks for {', '.join(asks)}",
        *notes,
        f"  next: cd {here} && condor_submit_dag {DAG}   (make condor-submit DAG={here})",
    ]


def _add_kaggle_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="gets dataset/ and notebook/"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="pack nothing; check that every file of --out is as it was packed",
    )
    parser.add_argument("--owner", metavar="USER", help="Kaggle user name")
    parser.add_argument(
        "--competition",
        default=COMPETITION,
        metavar="SLUG",
        help=f"competition whose tasks are solved (default {COMPETITION})",
    )
    parser.add_argument(
        "--title",
        default="ARC appliance",
        help="title of dataset and notebook (default: ARC appliance)",
    )
    parser.add_argument(
        "--model",
        default=EMBEDDED,
        metavar="DIR|arc-mini",
        help="model to pack along (default arc-mini)",
    )
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="LoRA adapter to pack along, from which training starts",
    )
    parser.add_argument(
        "--profile",
        default="kaggle-l4x4",
        metavar="NAME",
        help="accelerator and settings (default kaggle-l4x4)",
    )
    add_strategy_argument(parser)
    parser.add_argument(
        "--target",
        choices=["cpu", "gpu"],
        default="gpu",
        help="whose requirements are packed (default gpu)",
    )
    parser.add_argument(
        "--python",
        action="append",
        metavar="3.N",
        help="Python version to pack wheels for; may be repeated "
        f"(default {' and '.join(PYTHONS)}, that of Kaggle's image)",
    )
    parser.add_argument(
        "--image",
        metavar="NAME@sha256:...",
        help="image that the notebook runs in (default: Kaggle's, as it was when the notebook was "
        "made)",
    )
    parser.add_argument(
        "--budget", metavar="TIME", help="time of the scored run (default: the profile's)"
    )
    parser.add_argument(
        "--smoke",
        default="10m",
        metavar="TIME",
        help="time of the short run that Kaggle makes when the notebook is saved (default 10m)",
    )
    add_set_argument(parser, "one setting of the run; may be repeated")


def _run_kaggle(args: argparse.Namespace) -> int:
    if not args.check:
        if not args.owner:
            raise UsageError(
                "no Kaggle user named",
                expected="--owner USER",
                remedy="the name in your profile's address",
            )
        pack_kaggle(_kaggle_request(args), args.out)

    faults = check_folder(args.out)
    if faults:
        raise InputError(
            "; ".join(faults), expected="a folder as it was packed", remedy="pack it anew"
        )

    size = sum(p.stat().st_size for p in (args.out / "dataset").rglob("*") if p.is_file())
    print(
        f"{args.out}: {size / 2**20:.0f} MiB, every file as its manifest says, "
        "metadata within Kaggle's rules"
    )
    return EXIT_DONE


def _kaggle_request(args: argparse.Namespace) -> KaggleRequest:
    return KaggleRequest(
        owner=args.owner,
        title=args.title,
        competition=args.competition,
        profile=args.profile,
        model=args.model,
        adapter=args.adapter,
        target=args.target,
        pythons=tuple(args.python or PYTHONS),
        budget=args.budget,
        smoke=args.smoke,
        settings=_settings(args),
        image=args.image,
    )
