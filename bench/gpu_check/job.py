"""One main job in processes of its own, and what its journal and report say of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.arc.task import TaskSet
from appliance.clock import Clock
from appliance.engine.environment import CACHES
from appliance.machine.machine import Machine
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from bench.gpu_check.cases import ARC_MINI, Case, tasks_of
from bench.gpu_check.seconds import GRACE_S
from bench.job import submit_command
from bench.process import Ended, run

NUM_TASKS = 2
TASKS_PER_WORKER = 3
"""Of a case with several workers: one that starts a little late still finds a task."""

CHOSEN = (
    "precision.dtype",
    "precision.quantization",
    "train.trainer",
    "sample.engine",
    "sample.serving",
    "workers",
)
"""Choices of the plan that the table shows."""

RATIOS = {
    "train_step_s": "train_time",
    "train_memory_gib": "memory",
    "read_s": "read_time",
    "write_token_s": "write_time",
}
"""What a probe measures, and the name of what it makes of the plan's figure."""

LOSS_ROSE = re.compile(r"loss went from [\d.]+ to [\d.]+ ")
"""A reason not to use what was trained that says nothing about the machine: arc-mini may know a
task too well to gain. A loss that is no number does not match."""

LOG_END = 4000
"""Characters of a worker's log that the report of a failed main job shows."""


@dataclass(frozen=True)
class Place:
    """Where the jobs of a check run."""

    machine: Machine  # without a card: on the CPU
    source: str  # of the tasks, as --tasks takes it
    tasks: TaskSet  # all of the source
    scratch: Path
    clock: Clock

    @property
    def device(self) -> str:
        return "cuda" if self.machine.gpus else "cpu"

    def variables(self, *, all_cards: bool = False) -> dict[str, str]:
        """The environment of a job: one card, or all; caches of compiled code that begin empty."""
        cards = [gpu.uuid for gpu in self.machine.gpus]
        caches = {name: str(self.scratch / "caches" / folder) for name, folder in CACHES.items()}
        return caches | {"CUDA_VISIBLE_DEVICES": ",".join(cards if all_cards else cards[:1])}

    def num_workers(self, case: Case) -> int:
        """A worker on each card, or two where there is only one."""
        return max(2, len(self.machine.gpus)) if case.is_shared else 1

    def tasks_of(self, case: Case) -> TaskSet:
        """The same on every machine with as many cards."""
        each = TASKS_PER_WORKER if case.is_shared else NUM_TASKS
        return tasks_of(case, self.tasks, each * self.num_workers(case))

    def worker_settings(self, case: Case) -> dict[str, int]:
        if not (case.is_shared and self.machine.gpus):
            return {"run.workers": self.num_workers(case)}
        return {"run.workers_per_card": 2 if len(self.machine.gpus) == 1 else 1}


def run_case(case: Case, place: Place, budget_s: float) -> dict[str, Any]:
    """The case's row. It is over GRACE_S after the budget, or killed."""
    clock = place.clock
    row: dict[str, Any] = {"name": case.name}
    began_s = clock.now()
    model = case.model
    if model != ARC_MINI:
        folder, made = random_model(case.model, place, budget_s)
        if made is not None and made.outcome() != "ok":
            return row | {"outcome": made.outcome(), "told": made.last_line(), "log": made.text}
        model = str(folder)
        budget_s -= clock.now() - began_s

    tasks, num_workers = place.tasks_of(case), place.num_workers(case)
    out = place.scratch / re.sub(r"\W+", "-", case.name)
    flags = ["--only", ",".join(tasks.ids()), "--model", model]
    flags += ["--budget", f"{max(1.0, budget_s):.0f}s"]
    values = case.settings() | place.worker_settings(case)
    # As JSON, because YAML reads a bare off as "no".
    settings = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    command = submit_command(place.source, out, *flags, settings=settings)
    variables = place.variables(all_cards=case.is_shared)
    ended = run(command, budget_s + GRACE_S, clock, variables)

    row |= {"seconds": round(clock.now() - began_s, 1), "exit_code": ended.exit_code}
    if ended.exit_code is None or not RunFolder(out).report.is_file():
        outcome = "no time" if ended.exit_code is None else "FAILED"
        log = ended.text[-LOG_END:] + log_ends(out)
        return row | {"outcome": outcome, "told": ended.last_line(), "log": log}

    row |= figures(out) | {"num_tasks": len(tasks)}
    faults = faults_of(row, ended.exit_code, num_workers)
    if not faults:
        return row | {"outcome": "ok"}
    log = ended.text[-LOG_END:] + log_ends(out)
    return row | {"outcome": "FAILED", "told": "; ".join(faults), "log": log}


def faults_of(row: Mapping[str, Any], exit_code: int, num_workers: int) -> list[str]:
    """What is wrong with a run that came to its end, in words."""
    faults = list(row["faults"])
    if exit_code:
        faults.append(f"exit code {exit_code}")
    if not row["num_trained"] or row["num_trained"] + row["num_rose"] < row["num_tasks"]:
        why = "; ".join(row["untrained"]) or "no time"
        faults.append(f"trained {row['num_trained']} of {row['num_tasks']} tasks: {why}")
    if row["num_sampled"] < row["num_tasks"]:
        faults.append(f"sampled {row['num_sampled']} of {row['num_tasks']} tasks")
    if served := engine_fault(row["chosen"]["sample.engine"], row["coverage"]):
        faults.append(served)
    else:  # a worker that began again, perhaps with another trainer than the one under test
        faults += row["coverage"]["setbacks"]

    idle = [worker for worker, num in row["jobs"].items() if not num]
    if idle or len(row["jobs"]) < num_workers:
        faults.append(f"of {num_workers} workers only {len(row['jobs']) - len(idle)} did a job")
    return faults


def engine_fault(engine: str, coverage: Mapping[str, Any]) -> str:
    """What of a run was sampled by another engine than the plan's, and why; "" if nothing was.

    coverage: "served" and "refusals" of a run's report.
    """
    others = {
        how: num for how, num in coverage["served"].items() if not f"{how} ".startswith(engine)
    }
    if coverage["served"] and not others:
        return ""

    told = [f"{num} x by {how}" for how, num in others.items()] or ["by nothing"]
    why = [f"{num} x {refusal}" for refusal, num in coverage["refusals"].items()]
    why += list(coverage["setbacks"])
    return f"{engine} was chosen, and sampled was {', '.join(told)}: " + (
        "; ".join(why) or "no reason is told"
    )


def log_ends(out: Path) -> str:
    """What the workers of a run wrote last: tracebacks, where there are any."""
    logs = sorted(RunFolder(out).logs.glob("*.log"))
    return "".join(f"\n{p.name}:\n{p.read_text(errors='replace')[-LOG_END:]}" for p in logs)


def figures(out: Path) -> dict[str, Any]:
    """What a finished run says of itself; its probe's figures beside those of the plan."""
    journal = Journal(RunFolder(out).journal)
    stages, probe, events = journal.stages(), journal.fact("probe") or {}, journal.events()
    jobs = journal.fact("jobs") or {}
    workers = [journal.fact(f"worker-{worker}") or {} for worker in jobs]
    journal.close()
    report = json.loads(RunFolder(out).report.read_text())
    plan = dict(choices(json.loads(RunFolder(out).plan.read_text())))

    measured = {}
    for name, key in RATIOS.items():
        ratio = probe.get("correction", {}).get(key)
        if probe.get(name) is not None and ratio:
            measured[name] = {"measured": probe[name], "planned": probe[name] / ratio}

    trained = [s for s in stages if s.stage == "train"]
    untrained = [str(s.detail.get("reason")) for s in trained if s.status != "done"]
    about = ("tokens", "rows", "memory_fault")
    told = ("ladder", "next try", "died", "killed", "in place of", "no probe", "probe failed")
    return {
        "num_trained": sum(s.status == "done" for s in trained),
        "num_rose": sum(LOSS_ROSE.match(reason) is not None for reason in untrained),
        "untrained": untrained,
        "num_sampled": len({s.task_id for s in stages if (s.stage, s.status) == ("deep", "done")}),
        "faults": report["faults"],
        "coverage": {n: report["coverage"][n] for n in ("served", "refusals", "setbacks")},
        "chosen": {name: plan[name] for name in CHOSEN},
        "start_s": [worker.get("seconds") for worker in workers],
        "engines": [worker.get("engine") for worker in workers],
        "jobs": jobs,
        "probe": {name: probe.get(name) for name in about} | measured,
        "notes": [text for _, text in events if any(word in text for word in told)],
    }


def choices(plan: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every choice of a plan by its dotted name, such as "precision.quantization"."""
    for name, part in plan.items():
        if isinstance(part, dict):
            if part.keys() == {"value", "reason"}:
                yield prefix + name, part["value"]
            else:
                yield from choices(part, f"{prefix}{name}.")


def random_model(shape: str, place: Place, limit_s: float) -> tuple[Path, Ended | None]:
    """A folder with a random model of that shape in bfloat16, made once in its own process.

    Also how that process ended, None where there was nothing to make.
    """
    folder = place.scratch / f"qwen3-{shape}"
    if folder.is_dir():
        return folder, None
    command = [sys.executable, "-m", "bench.gpu_check.model", shape, str(folder), place.device]
    return folder, run(command, limit_s, place.clock, place.variables())
