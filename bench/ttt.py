"""What test-time training is worth, and from what it should start.

    python -m bench.ttt --tasks CHALLENGES --solutions SOLUTIONS --corpus CORPUS --work out/ttt

It prints one table over tasks and seeds, with intervals. A row of which nothing was trained is
refused, with the reason.

Rows (--rows, default all):
  greedy           the model as it is, one view, greedy
  vote16           the same under 16 views, voted
  ttt-lora         arc-mini with a new LoRA adapter (rank 32) trained on each task
  ttt-full         arc-mini with all weights trained on each task
  lora32-new       arc-mini after offline LoRA 32, merged; at test time a new adapter of rank 32
  lora32-continue  the same offline adapter, trained further at test time
  lora128-new, lora128-continue   the same with rank 128
  full-full        arc-mini after offline full fine-tuning, all weights trained at test time

The last five need --corpus (see `appliance train --pack`): from it each start is trained once, for
--offline-steps steps. Test time is `appliance submit` with --seconds-per-task for each task; greedy
and vote16 are sampled without a run. Everything is kept in --work, and the same command continues
where it was stopped.

Columns are means over tasks and seeds with 95 % intervals: tasks are drawn 2,000 times, each with
all its seeds (bootstrap). Where no draw can differ (all 0 or all 1), the Wilson interval for that
many tasks is given instead. accuracy, correct_pixels and pass_n are over the candidates of the last
pass that a task had (all rounds of it), vote_1 and vote_2 over all of its candidates; minutes are
per task, of wall time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from appliance.arc.metrics import task_figures, vote_k
from appliance.arc.source import load_solutions, load_tasks
from appliance.arc.task import Solutions, TaskSet
from appliance.arc.vote import DEFAULT_SELECTOR, Candidate, group_by_output
from appliance.clock import SystemClock
from appliance.engine.environment import prepare_process
from appliance.engine.folder.card import model_dir
from appliance.record.attempts import attempts_of
from appliance.record.coverage import coverage_of
from appliance.record.experiments.estimates import bootstrap, share_interval
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from bench.arguments import bench_parser
from bench.kept import kept, require_trained

COLUMNS = ("accuracy", "correct_pixels", "pass_n", "vote_1", "vote_2", "minutes")

STARTUP_S = 20.0
"""Added to the budget of a run for its start-up."""


@dataclass(frozen=True)
class Row:
    """How one row of the table comes about."""

    views: int = 0  # sampled without a run, under so many views; 0: by `submit`
    offline: str = ""  # the offline training that the model has first; "": none
    test_time: tuple[str, ...] = ()  # settings of `submit`
    wears: bool = False  # the offline adapter is trained further instead of merged


def lora(rank: int) -> tuple[str, ...]:
    return ("train.method=lora", f"train.rank={rank}", f"train.alpha={rank}")


FULL = ("train.method=full",)
"""Settings of `submit` that train all weights."""

ROWS = {
    "greedy": Row(views=1),
    "vote16": Row(views=16),
    "ttt-lora": Row(test_time=lora(32)),
    "ttt-full": Row(test_time=FULL),
    "lora32-new": Row(offline="lora32", test_time=lora(32)),
    "lora32-continue": Row(offline="lora32", test_time=lora(32), wears=True),
    "lora128-new": Row(offline="lora128", test_time=lora(128)),
    "lora128-continue": Row(offline="lora128", test_time=lora(128), wears=True),
    "full-full": Row(offline="full", test_time=FULL),
}

TaskFigures = dict[str, dict[str, float]]
"""Task id to its figures in one row with one seed."""


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser("ttt", __doc__)
    parser.add_argument("--tasks", required=True, help="challenges file or source")
    parser.add_argument("--solutions", required=True, help="file with their answers")
    parser.add_argument(
        "--work", type=Path, default=Path("out/ttt"), help="where models and figures are kept"
    )
    parser.add_argument("--corpus", type=Path, help="packed corpora for the offline starts")
    parser.add_argument(
        "--recipe",
        type=Path,
        default=Path("recipes/arc-mini.yaml"),
        help="the data of the offline starts",
    )
    parser.add_argument(
        "--offline-steps",
        type=int,
        default=200,
        help="of training before any task (default: %(default)s)",
    )
    parser.add_argument("--num-tasks", type=int, help="how many of the shortest tasks; default all")
    parser.add_argument("--seeds", default="0,1,2", help="one run for each (default: %(default)s)")
    parser.add_argument(
        "--rows", default=",".join(ROWS), help="rows of the table, by name (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds-per-task", type=float, default=40.0, help="of test time (default: %(default)s)"
    )
    parser.add_argument("--model", default="arc-mini", help="name or folder (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], help="further settings of submit")
    args = parser.parse_args(argv)

    unknown = [name for name in args.rows.split(",") if name not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")

    prepare_process()
    everything = load_tasks(args.tasks)
    by_length = sorted(everything, key=lambda t: (t.num_cells(), t.task_id))
    tasks = TaskSet(args.tasks, tuple(by_length[: args.num_tasks]))
    solutions = {
        i: a for i, a in load_solutions(args.solutions, everything).items() if i in tasks.ids()
    }
    seeds = [int(seed) for seed in args.seeds.split(",")]

    print(
        f"{len(tasks)} tasks of {args.tasks}, seeds {args.seeds}, "
        f"{args.seconds_per_task:.0f} s a task, {args.model}"
    )
    print("row               " + "".join(f"{column:>24}" for column in COLUMNS))
    for name in args.rows.split(","):
        found = [measured(name, seed, tasks, solutions, args) for seed in seeds]
        print(f"{name:16}  " + "".join(f"{text:>24}" for text in cells(found)), flush=True)
    return 0


def cells(found: Sequence[TaskFigures]) -> Iterator[str]:
    """Each column's mean over tasks and seeds with its interval."""
    for column in COLUMNS:
        # shape (seeds, tasks)
        values = np.array([[figures[column] for figures in by_task.values()] for by_task in found])
        by_task = values.mean(axis=0)
        low, high = bootstrap(by_task) if column == "minutes" else share_interval(by_task)
        yield f"{values.mean():.4f} [{low:.3f}, {high:.3f}]"


def measured(
    name: str, seed: int, tasks: TaskSet, solutions: Solutions, args: argparse.Namespace
) -> TaskFigures:
    """The figures of one row with one seed: those kept in --work, else measured now.

    Kept ones count only if they were measured with the same tasks, model and settings.
    """
    row = ROWS[name]
    facts = [
        tasks.digest(),
        args.model,
        seed,
        args.seconds_per_task * (not row.views),
        args.set,
        row.test_time,
    ]
    path = args.work / "figures" / f"{name}-seed{seed}.json"
    if row.views:
        return kept(path, facts, lambda: sampled(row, seed, tasks, solutions, args))
    return kept(path, facts, lambda: submitted(name, seed, tasks, solutions, args))


def sampled(
    row: Row, seed: int, tasks: TaskSet, solutions: Solutions, args: argparse.Namespace
) -> TaskFigures:
    """Figures without test-time training: every task under the same number of views."""
    from appliance.engine.load_model import load_causal_lm
    from appliance.learn.examine import Examiner
    from appliance.solve.language import Language

    folder = model_dir(args.model)
    language = Language.of(folder)
    model = load_causal_lm(folder, dtype="float32", device="cpu")
    examiner = Examiner(tasks.tasks, solutions, row.views, 0.0, seed)

    began_s = time.perf_counter()
    found = list(examiner.candidates(model, language, tasks.tasks, clock=SystemClock()))
    minutes = (time.perf_counter() - began_s) / 60 / len(tasks)
    return figures_of({"quick": found}, solutions, minutes)


def submitted(
    name: str, seed: int, tasks: TaskSet, solutions: Solutions, args: argparse.Namespace
) -> TaskFigures:
    """Figures of a whole run of `submit`, which continues where an earlier one was stopped."""
    row = ROWS[name]
    out = args.work / "runs" / f"{name}-seed{seed}"
    model = start_of(row, args)
    settings = [*row.test_time, *args.set]
    budget_s = STARTUP_S + args.seconds_per_task * len(tasks)
    command = ["submit", "--tasks", args.tasks, "--only", ",".join(tasks.ids())]
    command += ["--budget", f"{budget_s:.0f}s"]
    command += ["--out", str(out), "--seed", str(seed), "--display", "none", *model]
    command += ["--strategy", "transduction"]

    began_s = time.perf_counter()
    verb(*command, *(part for setting in settings for part in ("--set", setting)))
    minutes = (time.perf_counter() - began_s) / 60 / len(tasks)

    journal = Journal(RunFolder(out).journal)
    found, covered = journal.candidates(), coverage_of(journal)
    journal.close()
    why = max(covered.untrained_reasons, key=covered.untrained_reasons.__getitem__, default=None)
    require_trained(
        f"{name}, seed {seed}", [None] if covered.trained else [] if why is None else [why]
    )
    return figures_of(found, solutions, minutes)


def figures_of(
    found: dict[str, list[Candidate]], solutions: Solutions, minutes: float
) -> TaskFigures:
    """Figures of each task: of the candidates of its last pass, and the votes of all of them.

    found: candidates by stage; a pass may have several rounds.
    """
    voted = attempts_of(found, DEFAULT_SELECTOR)
    passes: dict[str, list[Candidate]] = {"deep": [], "quick": []}
    for stage, candidates in found.items():
        passes[stage] += candidates
    by_pass = [group_by_output(candidates) for candidates in passes.values()]

    result: TaskFigures = {}
    for task_id, answers in solutions.items():
        outputs = [(task_id, i) for i in range(len(answers))]
        last = next(
            (groups for groups in by_pass if any(output in groups for output in outputs)), {}
        )
        predictions = [[c.grid for c in last.get(output, [])] for output in outputs]
        attempts = {task_id: [list(voted.get(output, ())) for output in outputs]}
        votes = {f"vote_{k}": vote_k(attempts, {task_id: answers}, k) for k in (1, 2)}
        result[task_id] = {**task_figures(predictions, answers), **votes, "minutes": minutes}

    return result


def start_of(row: Row, args: argparse.Namespace) -> list[str]:
    """The options of `submit` for the row's model, which is trained and merged first if missing."""
    if not row.offline:
        return ["--model", args.model]
    if args.corpus is None:
        raise SystemExit(
            f"offline start {row.offline}: pass --corpus, made by `appliance train --pack`"
        )

    out = args.work / "offline" / row.offline
    is_full = row.offline == "full"
    result = out / ("model" if is_full else "adapter")
    if not result.is_dir():
        settings = ["adaptation.method=full"]
        if not is_full:
            rank = row.offline.removeprefix("lora")
            settings = ["adaptation.method=lora"]
            settings += [f"adaptation.rank={rank}", f"adaptation.alpha={rank}"]
        plan = yaml.safe_load(args.recipe.read_text())
        plan["optimization"] = {"learning_rate": 3e-4 if is_full else 1e-3, "warmup_steps": 10}
        out.mkdir(parents=True, exist_ok=True)
        (out / "recipe.yaml").write_text(yaml.safe_dump(plan))

        command = ["train", "--recipe", str(out / "recipe.yaml"), "--corpus", str(args.corpus)]
        command += ["--out", str(out), "--model", str(model_dir(args.model))]
        command += ["--max-steps", str(args.offline_steps), "--display", "none"]
        verb(*command, *(part for setting in settings for part in ("--set", setting)))

    if is_full:
        return ["--model", str(result)]
    if row.wears:
        return ["--model", args.model, "--adapter", str(result)]

    merged = out / "merged"
    if not merged.is_dir():
        folders = [str(model_dir(args.model)), str(result), str(merged)]
        verb("merge-adapter", *folders, "--dtype", "float32")
    return ["--model", str(merged)]


def verb(*arguments: str) -> None:
    """Run a verb of the appliance. Exit code 5 (coverage below a floor) is no failure here."""
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *arguments], capture_output=True, text=True
    )
    if done.returncode not in (0, 5):
        raise SystemExit(f"appliance {arguments[0]}: exit {done.returncode}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
