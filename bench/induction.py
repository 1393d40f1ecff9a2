"""Are searching and learning from one's own programs worth their time?

    python -m bench.induction [--model DIR] [--families N] [--compositions N] [--seeds N]
                              [--first N] [--epochs N] [--alone]

Both are compared with independent samples, at the same number of programs. All arms begin with the
same --first programs for each task by the plain model, and write --epochs times as many again:

- independent: by the plain model, as many for every task.
- search: by the plain model, in rounds; a task that a program fits leaves its share to those
  without one.
- search and learn: the same, but before every round the model learns from what its programs so far
  really do. The tasks of a set and seed learn together (one adapter for all, as in the quick pass
  of a run), or with --alone each by itself (as in the deep passes).

No training saw the tasks. They come from families of ours that are held out
(`families_of("held_out")`); of these the theme "sketch", all of which is held out, is a set by
itself; and from random compositions of other seeds than the training's. Tasks whose prompt is
longer than --max-prompt-tokens are left out.

Columns: programs is how many a task got; fit, the share of them that fit all demonstrations;
train_pass@n, whether one of them does; pass@n, whether one is right on the hidden test as well;
curve, pass@n after each round. Intervals: 95 %, bootstrap over tasks; a gain is paired by task.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from appliance.arc.grid import Grid
from appliance.arc.metrics import Figures, ProgramRun, program_task_figures, score_program
from appliance.arc.prompt import get_style
from appliance.arc.task import Task
from appliance.clock import Deadline, SystemClock, format_duration
from appliance.config import ProgramSettings
from appliance.engine.base import EngineSpec, NotTuned, Tuned, TuneSettings
from appliance.engine.environment import prepare_process
from appliance.engine.folder.card import model_dir
from appliance.engine.folder.examine import examine
from appliance.engine.registry import make_server, make_trainer
from appliance.learn.synth.catalogue import families_of
from appliance.learn.synth.compose import compose
from appliance.learn.synth.family import make_task, rng_for
from appliance.program.sandbox import Sandbox
from appliance.program.trial import Trial
from appliance.record.experiments.estimates import bootstrap
from appliance.solve.language import Language
from appliance.solve.write_programs import WriteLimits, Writer
from bench.arguments import bench_parser
from bench.kept import require_trained

ARMS = ("independent", "search", "search and learn")

COLUMNS = (
    "programs",
    "valid_outputs",
    "unique_outputs",
    "train_correct_grids",
    "fit",
    "train_pass@n",
    "pass@n",
)

BATCH_TOKENS = 1 << 15
"""Tokens that the sampler may hold at once."""


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser("induction", __doc__)
    parser.add_argument("--model", default="arc-mini", help="name or folder (default: %(default)s)")
    parser.add_argument(
        "--families",
        type=int,
        default=32,
        help="at most so many held-out families, one task a seed",
    )
    parser.add_argument(
        "--sketches", type=int, default=3, help="tasks of each family of the theme sketch, a seed"
    )
    parser.add_argument(
        "--compositions", type=int, default=15, help="random programs, a new set a seed"
    )
    parser.add_argument(
        "--max-calls", type=int, default=2, help="calls of a random program; some lines hold more"
    )
    parser.add_argument(
        "--max-prompt-tokens",
        type=int,
        default=450,
        help="leave out tasks with longer prompts (default: %(default)s)",
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=40, help="longest program (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: %(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="the others follow it (default: %(default)s)"
    )
    parser.add_argument(
        "--first",
        type=int,
        default=16,
        help="programs per task before each learning, and after the last",
    )
    parser.add_argument("--epochs", type=int, default=2, help="how often it learns")
    parser.add_argument("--alone", action="store_true", help="each task learns by itself")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=ProgramSettings().learning_rate,
        help="of the adapters (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=ProgramSettings().temperature,
        help="of sampling (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print figures of each task as JSON")
    args = parser.parse_args(argv)

    prepare_process()
    import torch

    torch.set_num_threads(args.threads)

    clock = SystemClock()
    began_s = clock.now()
    rows: list[Row] = []
    num_seeds = 0
    # When it is stopped, it still prints what was measured by then.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Arms(args) as run, contextlib.suppress(KeyboardInterrupt):
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            problems = [
                p for p in drawn(args, seed) if run.prompt_tokens(p.task) <= args.max_prompt_tokens
            ]
            rows += run.all_arms(problems, seed)
            if run.untrained:  # else all tasks were settled before anything was to be learnt
                require_trained(ARMS[2], run.untrained)
            num_seeds += 1
            print(
                f"seed {seed} {format_duration(clock.now() - began_s)}{run.told}", file=sys.stderr
            )
            print(table("so far", rows), file=sys.stderr, flush=True)

    num = args.first * (1 + args.epochs)
    title = f"{args.model}, {num} programs a task, {num_seeds} seeds from {args.first_seed}"
    if not rows:
        print("stopped before the first seed was done", file=sys.stderr)
    elif args.json:
        tasks = [
            {"set": r.problem.set_name, "task": r.problem.task.task_id, **r.figures} for r in rows
        ]
        print(json.dumps({"title": title, "tasks": tasks}))
    else:
        print(table(title, rows))
    print(f"in {format_duration(clock.now() - began_s)}", file=sys.stderr)
    return 0


def drawn(args: argparse.Namespace, seed: int) -> list[Problem]:
    """The tasks of one seed."""
    held_out = [f for f in families_of("held_out") if f.program]
    by_name = [f for f in held_out if f.theme != "sketch"][: args.families]

    own = [Problem("held-out families", *make_task(f, seed)) for f in by_name]
    seeds = range(seed * args.sketches, (seed + 1) * args.sketches)
    own += [
        Problem("sketches", *make_task(f, s))
        for f in held_out
        if f.theme == "sketch"
        for s in seeds
    ]

    return own + [composed(f"{seed}-{i}", args.max_calls) for i in range(args.compositions)]


def composed(name: str, max_calls: int) -> Problem:
    """Three demonstrations and a test of a random program."""
    made = compose(rng_for("bench composition", name), max_calls=max_calls)
    task = Task(f"composition-{name}", made.pairs[:-1], (made.pairs[-1].input,))
    return Problem("compositions", task, (made.pairs[-1].output,))


@dataclass(frozen=True)
class Problem:
    """A task with the answers that the arms do not see."""

    set_name: str
    task: Task
    answers: tuple[Grid, ...]

    def figures(self, rounds: Sequence[Sequence[Trial]]) -> Figures:
        """The figures of all trials, and as "@0", "@1" ... pass@n after each round."""
        train = [pair.output for pair in self.task.train]
        trials = [trial for written in rounds for trial in written]
        scores = [
            score_program(
                ProgramRun(has_code=bool(t.draft.source), train=t.train, test=t.test),
                train,
                self.answers,
            )
            for t in trials
        ]

        found = dict(program_task_figures(scores)) | {"programs": len(trials)}
        found["fit"] = sum(t.fits for t in trials) / len(trials)
        for number, num in enumerate(accumulate(map(len, rounds))):
            found[f"@{number}"] = program_task_figures(scores[:num])["pass@n"]
        return found


@dataclass(frozen=True)
class Row:
    """How the arms did on one task."""

    problem: Problem
    figures: Mapping[str, Figures]  # by arm


Written = Mapping[str, Sequence[Trial]]
"""The programs that a round wrote, by task."""


class Arms:
    """The model, the engines and the sandbox, and how the arms use them."""

    def __init__(self, args: argparse.Namespace) -> None:
        examined = examine(model_dir(args.model))
        folder, program_style = examined.folder, get_style(examined.card.program_style)
        self._language = language = replace(Language.of(folder), style=program_style)
        codec = language.codec
        self._scratch = tempfile.TemporaryDirectory()
        spec = EngineSpec(model_dir=folder, scratch_dir=Path(self._scratch.name))
        self._sandbox = Sandbox(workers=1)

        self._args = args
        self._settings = ProgramSettings(
            learning_rate=args.learning_rate, temperature=args.temperature
        )

        trainer = make_trainer("peft", spec, codec)
        server = make_server("transformers", spec, codec, trainer)

        def writer(*, learn: bool) -> Writer:
            return Writer(
                language,
                self._settings.model_copy(update={"learn": learn}),
                trainer=trainer,
                server=server,
                sandbox=self._sandbox,
                max_new_tokens=args.max_new_tokens,
            )

        self._plain, self._learning = writer(learn=False), writer(learn=True)
        self._reset = trainer.reset
        clock = SystemClock()
        self._limits = WriteLimits(
            max_lesson_tokens=4096,
            tune_settings=self._tune_settings,
            batch_tokens=BATCH_TOKENS,
            adapter_dir=Path(self._scratch.name) / "adapter",
            deadline=Deadline(clock.now() + 1e6, clock),
        )
        self.told = ""  # of each learning so far: programs learnt from, and both losses
        self.untrained: list[str | None] = []  # for each learning why it gave nothing

    def prompt_tokens(self, task: Task) -> int:
        return len(self._language.prompt_ids(task, 0))

    def all_arms(self, problems: Sequence[Problem], seed: int) -> list[Row]:
        """Every arm on every task. The arms share the first programs."""
        first, epochs = self._args.first, self._args.epochs
        tasks = [problem.task for problem in problems]
        names = dict.fromkeys(problem.set_name for problem in problems)
        sets = [
            [problem.task for problem in problems if problem.set_name == name] for name in names
        ]
        groups = [[task] for task in tasks] if self._args.alone else sets

        known = self._write(tasks, first, seed)
        more = self._write(tasks, first * epochs, seed + 1_000_003)

        self.told = ""
        rounds = {
            ARMS[0]: [known, *(cut(more, first * i, first * (i + 1)) for i in range(epochs))],
            ARMS[1]: [known, *self._search(self._plain, sets, known, seed)],
            ARMS[2]: [known, *self._search(self._learning, groups, known, seed)],
        }

        return [
            Row(
                p,
                {
                    arm: p.figures([written.get(p.task.task_id, []) for written in rounds[arm]])
                    for arm in ARMS
                },
            )
            for p in problems
        ]

    def _write(self, tasks: Sequence[Task], num: int, seed: int) -> Written:
        self._reset()
        batches = self._plain.write(
            tasks,
            num_samples=num,
            adapter=None,
            limits=self._limits,
            seed=seed,
        )
        return by_task(trial for batch in batches for trial in batch)

    def _search(
        self, writer: Writer, groups: Sequence[Sequence[Task]], known: Written, seed: int
    ) -> Iterator[Written]:
        """What each round wrote. A group whose tasks are all settled writes no more."""
        found: list[list[Trial]] = [[] for _ in range(self._args.epochs)]

        for tasks in groups:
            epochs = writer.epochs(
                tasks,
                [trial for task in tasks for trial in known[task.task_id]],
                num_samples=[self._args.first] * self._args.epochs,
                limits=self._limits,
                seed=seed,
            )
            for number, epoch in enumerate(epochs):
                found[number] += epoch.trials
                is_learning = writer is self._learning
                if is_learning and isinstance(epoch.outcome, NotTuned):
                    self.untrained.append(epoch.outcome.reason)
                if isinstance(epoch.outcome, Tuned):
                    self.untrained.append(None)
                    losses = f"{epoch.outcome.loss_before:.2f}->{epoch.outcome.loss_after:.2f}"
                    self.told += f" {epoch.num_picked}:{losses}"

        return map(by_task, found)

    def _tune_settings(self, row_tokens: int) -> TuneSettings:
        return TuneSettings(
            learning_rate=self._settings.learning_rate,
            max_steps=self._settings.max_steps,
            row_tokens=row_tokens,
            rows_per_step=max(1, 1024 // row_tokens),
        )

    def __enter__(self) -> Arms:
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.close()
        self._scratch.cleanup()


def by_task(trials: Iterable[Trial]) -> Written:
    found: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        found[trial.draft.task.task_id].append(trial)
    return found


def cut(written: Written, start: int, end: int) -> Written:
    return {task_id: trials[start:end] for task_id, trials in written.items()}


def table(title: str, rows: Sequence[Row]) -> str:
    lines = [
        title,
        f"{'set':18} {'arm':20} {'tasks':>5}" + "".join(f"  {c:>22}" for c in COLUMNS) + "  curve",
    ]

    for name in (*dict.fromkeys(r.problem.set_name for r in rows), "all"):
        chosen = [r.figures for r in rows if name in (r.problem.set_name, "all")]
        for arm in ARMS:
            lines.append(line(name, arm, [figures[arm] for figures in chosen]))
        for arm in ARMS[1:]:
            gain = [{c: f[arm][c] - f[ARMS[0]][c] for c in f[arm]} for f in chosen]
            lines.append(line(name, f"+ by {arm}", gain))

    return "\n".join(lines)


def line(set_name: str, arm: str, values: Sequence[Figures]) -> str:
    """A line of the table: the number of programs as it is, all else in percent."""
    cells = [f"{np.mean([v[COLUMNS[0]] for v in values]):.1f}"]
    cells += [interval([v[c] for v in values]) for c in COLUMNS[1:]]
    curve = "  ".join(
        f"{100 * np.mean([v[c] for v in values]):.1f}" for c in values[0] if c.startswith("@")
    )
    return (
        f"{set_name:18} {arm:20} {len(values):>5}"
        + "".join(f"  {cell:>22}" for cell in cells)
        + f"  {curve}"
    )


def interval(values: Sequence[float]) -> str:
    """Mean and the middle 95 % of the means of resampled tasks, in percent."""
    low, high = bootstrap(values)
    return f"{100 * np.mean(values):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
