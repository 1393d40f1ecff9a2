"""What test-time training is worth: the same tasks, seed and time with and without it.

    python -m bench.ttt --tasks CHALLENGES --solutions SOLUTIONS --num-tasks 20 --budget 10m [--set KEY=VALUE]

Both runs get the same budget; the one without training spends all of it on further views. The shortest tasks are taken, because
a small model on two cores does nothing useful with long ones. Prints accuracy, correct_pixels, correct_size and pass_n over the
candidates of the deep pass, and vote_1 and vote_2 over all tasks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from appliance.arc.source import load_tasks

COLUMNS = ("accuracy", "correct_pixels", "correct_size", "pass_n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ttt", description=__doc__)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--solutions", required=True)
    parser.add_argument("--num-tasks", type=int, default=20)
    parser.add_argument("--budget", default="10m", help="of each run")
    parser.add_argument("--model", default="arc-mini")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default="none,lora,full", help="of none, lora, full")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args(argv)
    tasks = sorted(load_tasks(args.tasks), key=lambda t: (t.num_cells(), t.task_id))[: args.num_tasks]
    only = ",".join(t.task_id for t in tasks)
    print(f"{len(tasks)} shortest of {args.tasks}, seed {args.seed}, {args.budget} a run")
    print("training  candidates  " + "  ".join(f"{c:>14}" for c in COLUMNS) + "  vote_1  vote_2  solved")
    for method in args.methods.split(","):
        print(row(method, only, args), flush=True)
    return 0


def row(method: str, only: str, args: argparse.Namespace) -> str:
    """One line of the table."""
    switch = ["train.enabled=false"] if method == "none" else [f"train.method={method}"]
    with tempfile.TemporaryDirectory() as out:
        command = ["submit", "--tasks", args.tasks, "--only", only, "--budget", args.budget, "--out", out]
        for setting in [*switch, *args.set]:
            command += ["--set", setting]
        run([*command, "--model", args.model, "--seed", str(args.seed), "--display", "none"])
        figures: dict[str, Any] = json.loads(run(["evaluate", out, "--solutions", args.solutions, "--json"]))
        report = json.loads((Path(out) / "run" / "report.json").read_text())
    stage = figures["stages"].get("deep") or figures["stages"]["quick"]
    values = "  ".join(f"{stage[c]:>14.4f}" for c in COLUMNS)
    votes = figures["votes"]
    return (
        f"{method:8}  {stage['num_candidates']:>10.0f}  {values}  {votes['vote_1']:.4f}  {votes['vote_2']:.4f}  "
        f"{report.get('solved', '?')} in {report['seconds']:.0f} s"
    )


def run(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, "-m", "appliance.cli", *arguments], capture_output=True, text=True)
    if done.returncode not in (0, 5):
        raise SystemExit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
