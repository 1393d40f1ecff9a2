"""Is learning from one's own programs worth its time? Search-and-learn against independent samples, program for program.

    python -m bench.induction [--model DIR] [--families N] [--compositions N] [--seeds N] [--first N] [--epochs N] [--json]

Both begin with the same `first` programs a task by the plain model. Then one goes on sampling the plain model; the other learns
before every further `first` programs from what its programs so far really do. Tasks that neither has seen: families of ours
that are held out of training (`families_of("held_out")`) and random compositions of other seeds than the training's. A task
counts as solved when a program fits all demonstrations (train_pass@n), and pass@n when one is right on the hidden test as well.
Intervals: 95 %, bootstrap over tasks; the difference is paired by task.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.arc.encode import get_encoder
from appliance.arc.grid import Grid
from appliance.arc.metrics import Figures, ProgramRun, program_task_figures, score_program
from appliance.arc.prompt import get_style
from appliance.arc.task import Task
from appliance.clock import Deadline, SystemClock, format_duration
from appliance.config import ProgramSettings
from appliance.engine.base import EngineSpec, Tuned, TuneSettings
from appliance.engine.environment import prepare_process
from appliance.engine.folder import model_dir, read_card
from appliance.engine.registry import make_server, make_trainer
from appliance.engine.tokens import Codec
from appliance.learn.synth.catalogue import families_of
from appliance.learn.synth.compose import compose
from appliance.learn.synth.family import make_task, rng_for
from appliance.program.sandbox import Sandbox
from appliance.program.trial import Trial
from appliance.solve.search import Searcher
from appliance.solve.transduce import Language

COLUMNS = ("valid_outputs", "unique_outputs", "train_correct_grids", "train_pass@n", "pass@n")
BATCH_TOKENS = 1 << 15
NUM_DRAWS = 2000


@dataclass(frozen=True)
class Problem:
    task: Task
    answers: tuple[Grid, ...]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.induction", description=__doc__)
    parser.add_argument("--model", default="arc-mini")
    parser.add_argument("--families", type=int, default=8, help="held-out families, one task a seed")
    parser.add_argument("--compositions", type=int, default=8, help="random programs, a new set a seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--first", type=int, default=32, help="programs per task before each learning, and after the last"
    )
    parser.add_argument("--epochs", type=int, default=3, help="times that it learns")
    parser.add_argument("--learning-rate", type=float, default=ProgramSettings().learning_rate)
    parser.add_argument("--max-steps", type=int, default=ProgramSettings().max_steps)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    prepare_process()
    import torch

    torch.set_num_threads(args.threads)
    clock = SystemClock()
    began_s = clock.now()
    families = [f for f in families_of("held_out") if f.program][: args.families]
    arms: dict[str, dict[str, list[Figures]]] = {}  # of a set: of an arm: by task
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Arms(args) as run, contextlib.suppress(KeyboardInterrupt):  # what was measured by then is told
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            sets = {
                "held-out families": [Problem(*make_task(f, seed)) for f in families],
                "compositions": [composed(f"{seed}-{i}") for i in range(args.compositions)],
            }
            for name, problems in sets.items():
                for problem, independent, learnt in run.both(problems, seed):
                    found = arms.setdefault(name, {"independent": [], "search and learn": []})
                    found["independent"].append(figures(problem, independent))
                    found["search and learn"].append(figures(problem, learnt))
                    print(line(problem, found, run.told), file=sys.stderr, flush=True)
    arms["all"] = {arm: [f for by in arms.values() for f in by[arm]] for arm in ("independent", "search and learn")}
    num = args.first * (1 + args.epochs)
    title = f"{args.model}, {num} programs a task, {args.seeds} seeds from {args.first_seed}"
    print(json.dumps({"title": title, "arms": arms}) if args.json else table(title, arms))
    print(f"in {format_duration(clock.now() - began_s)}", file=sys.stderr)
    return 0


class Arms:
    """The model, the engines and the sandbox, and how the two arms use them."""

    def __init__(self, args: argparse.Namespace) -> None:
        folder = model_dir(args.model)
        card = read_card(folder)
        codec = Codec.load(folder)
        self._scratch = tempfile.TemporaryDirectory()
        spec = EngineSpec(model_dir=folder, scratch_dir=Path(self._scratch.name))
        self._sandbox = Sandbox(workers=1)
        self._settings = ProgramSettings(
            samples_per_epoch=args.first, epochs=args.epochs, learning_rate=args.learning_rate, max_steps=args.max_steps
        )
        language = Language(get_style(card.program_style), get_encoder(card.encoder), codec, card.max_positions)
        trainer = make_trainer("peft", spec, codec)
        server = make_server("transformers", spec, codec, trainer)

        def searcher(*, learn: bool) -> Searcher:
            return Searcher(
                language,
                self._settings.model_copy(update={"learn": learn}),
                trainer=trainer,
                server=server,
                sandbox=self._sandbox,
                max_new_tokens=card.program_tokens,
            )

        self._plain, self._learning = searcher(learn=False), searcher(learn=True)
        self._reset = trainer.reset
        self._clock = SystemClock()
        self.told = ""

    def both(self, problems: Sequence[Problem], seed: int) -> Iterator[tuple[Problem, list[Trial], list[Trial]]]:
        """For each problem the programs of both arms. The first ones are shared; all of the plain model's are one batch."""
        first = self._write(problems, self._settings.samples_per_epoch, seed)
        more = self._write(problems, self._settings.samples_per_epoch * self._settings.epochs, seed + 1_000_003)
        for problem in problems:
            task_id = problem.task.task_id
            known = first.get(task_id, [])
            yield problem, known + more.get(task_id, []), known + self._learn(problem, known, seed)

    def _write(self, problems: Sequence[Problem], num: int, seed: int) -> dict[str, list[Trial]]:
        self._reset()
        found: dict[str, list[Trial]] = {}
        for batch in self._plain.write(
            [p.task for p in problems],
            num_samples=num,
            adapter=None,
            batch_tokens=BATCH_TOKENS,
            deadline=self._no_deadline(),
            seed=seed,
        ):
            for trial in batch:
                found.setdefault(trial.draft.task.task_id, []).append(trial)
        return found

    def _learn(self, problem: Problem, known: list[Trial], seed: int) -> list[Trial]:
        trials: list[Trial] = []
        self.told = ""
        for epoch in self._learning.search(
            problem.task,
            known,
            self._tune_settings,
            max_lesson_tokens=4096,
            adapter_dir=Path(self._scratch.name) / "adapter",
            batch_tokens=BATCH_TOKENS,
            deadline=self._no_deadline(),
            seed=seed,
        ):
            trials += epoch.trials
            losses = (epoch.outcome.loss_before, epoch.outcome.loss_after) if isinstance(epoch.outcome, Tuned) else ()
            self.told += f" {epoch.num_picked}:" + "->".join(f"{loss:.2f}" for loss in losses)
        return trials

    def _tune_settings(self, row_tokens: int) -> TuneSettings:
        return TuneSettings(
            learning_rate=self._settings.learning_rate,
            max_steps=self._settings.max_steps,
            row_tokens=row_tokens,
            rows_per_step=max(1, 1024 // row_tokens),
        )

    def _no_deadline(self) -> Deadline:
        return Deadline(self._clock.now() + 1e6, self._clock)

    def __enter__(self) -> Arms:
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.close()
        self._scratch.cleanup()


def composed(name: str) -> Problem:
    """Three demonstrations and a test of a random program."""
    made = compose(rng_for("bench composition", name))
    task = Task(f"composition-{name}", made.pairs[:-1], (made.pairs[-1].input,))
    return Problem(task, (made.pairs[-1].output,))


def figures(problem: Problem, trials: Sequence[Trial]) -> Figures:
    train = [pair.output for pair in problem.task.train]
    runs = [ProgramRun(has_code=bool(t.draft.source), train=t.train, test=t.test) for t in trials]
    return program_task_figures([score_program(run, train, problem.answers) for run in runs])


def line(problem: Problem, found: dict[str, list[Figures]], told: str) -> str:
    values = [f"{f[-1]['train_correct_grids']:.3f}/{f[-1]['pass@n']:.0f}" for f in found.values()]
    return f"  {problem.task.task_id:30} independent {values[0]}  learning {values[1]} {told}"


def table(title: str, arms: dict[str, dict[str, list[Figures]]]) -> str:
    lines = [title, f"{'set':18} {'arm':18} {'tasks':>5}" + "".join(f"  {column:>26}" for column in COLUMNS)]
    for name, by_arm in arms.items():
        independent, learnt = by_arm["independent"], by_arm["search and learn"]
        rows: dict[str, Callable[[str], list[float]]] = {
            "independent": lambda c, f=independent: [x[c] for x in f],
            "search and learn": lambda c, f=learnt: [x[c] for x in f],
            "difference": lambda c, a=learnt, b=independent: [x[c] - y[c] for x, y in zip(a, b, strict=True)],
        }
        for arm, values in rows.items():
            cells = "".join(f"  {interval(values(column)):>26}" for column in COLUMNS)
            lines.append(f"{name:18} {arm:18} {len(independent):>5}{cells}")
    return "\n".join(lines)


def interval(values: Sequence[float]) -> str:
    """Mean and the middle 95 % of the means of resampled tasks, in percent."""
    draws = np.random.default_rng(0).choice(values, (NUM_DRAWS, len(values))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{100 * np.mean(values):.2f} [{100 * low:.2f}, {100 * high:.2f}]"


if __name__ == "__main__":
    sys.exit(main())
