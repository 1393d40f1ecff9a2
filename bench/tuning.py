"""Which settings of training at test time make right answers likeliest, at equal CPU time.

    python -m bench.tuning --tasks CHALLENGES --every 5 --cpu-seconds 12 --out out/tuning

For each task and each of --settings: train on the task's demonstrations for --cpu-seconds of this
process, as a run would, then read the right answers under a few views. Columns, each a mean over
answers with a 95 % interval over tasks (bootstrap):
  nats     of a whole right answer, mean over views
  right    the chance that one sample at temperature 1 is the right answer, mean over views
  against  the difference in `right` from the first setting, task by task
  steps    of training

--set adds a setting of its own, e.g. --set "lora 16 at 2e-3: rank=16 learning_rate=2e-3". Keys
are those of `train` in a run. What was measured is kept in --out.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.source import load_tasks
from appliance.arc.task import Solutions, Task
from appliance.arc.view import sampling_views
from appliance.clock import Deadline, cpu_seconds
from appliance.config import TrainSettings
from appliance.engine.base import NotTuned
from appliance.engine.environment import prepare_process
from appliance.engine.folder.card import model_dir
from appliance.foreign_text import as_file_name
from appliance.machine.host import find_host
from appliance.record.experiments.estimates import bootstrap
from appliance.seeds import generator, seed_of
from appliance.solve.ladder import tune_settings_of
from appliance.solve.language import Language
from appliance.solve.scoring import score_request
from appliance.solve.transduce import LessonPlan, lessons, longest_lesson
from bench.arguments import bench_parser
from bench.kept import kept, require_trained

SETTINGS = {
    "today": "",
    "no training": "enabled=false",
    "rank 16": "rank=16 alpha=16",
    "rank 128": "rank=128 alpha=128",
    "rate x 2": "learning_rate=2e-3",
    "rate / 2": "learning_rate=5e-4",
    "full, 3e-4": "method=full learning_rate=3e-4",
    "full, 1e-3": "method=full learning_rate=1e-3",
    "steps x 2": "tokens_per_step=2048",
    "steps x 4": "tokens_per_step=4096",
    "two out": "leave_two_out=0.3",
}
"""Settings by name, as KEY=VALUE of `train`."""

NUM_VIEWS = 6
"""Views under which a right answer is read."""


class CpuClock:
    """Time as the CPU seconds that this process has used."""

    def now(self) -> float:
        return cpu_seconds()

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError("nothing waits here")


@dataclass(frozen=True)
class Found:
    """What one training made of one task."""

    nats: float
    right: float
    num_steps: int
    note: str  # why nothing was trained


def main() -> None:
    parser = bench_parser("tuning", __doc__)
    parser.add_argument("--tasks", required=True, help="with solutions")
    parser.add_argument("--every", type=int, default=1, help="take each n-th task by size")
    parser.add_argument(
        "--cpu-seconds", type=float, default=12.0, help="of a training (default: %(default)s)"
    )
    parser.add_argument("--settings", default="|".join(SETTINGS), help="names, divided by |")
    parser.add_argument("--set", action="append", default=[], help="a further setting (see above)")
    parser.add_argument("--model", default="arc-mini", help="name or folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="where figures are kept")
    args = parser.parse_args()

    prepare_process()
    import torch

    torch.set_num_threads(1)
    named = dict(SETTINGS)
    names = [name for name in args.settings.split("|") if name]
    for text in args.set:
        name, _, values = text.partition(":")
        named[name] = values.strip()
        names.append(name)

    loaded = load_tasks(args.tasks)
    tasks = sorted(loaded, key=lambda t: (t.num_cells(), t.task_id))[:: args.every]
    bench = Bench(args, loaded.solutions)
    print(f"{len(tasks)} tasks, {args.cpu_seconds:.0f} CPU s each, {args.model}")

    first: list[Found] = []
    for name in names:
        found = [bench.found(task, name, named[name]) for task in tasks]
        if TrainSettings.model_validate(values_of(named[name])).enabled:
            require_trained(name, (f.note or None for f in found))
        first = first or found
        print(row_of(name, found, first), flush=True)


def values_of(text: str) -> dict[str, str]:
    """From "rank=16 learning_rate=2e-3"."""
    return dict(part.split("=") for part in text.split())


def row_of(name: str, found: list[Found], first: list[Found]) -> str:
    right = np.array([f.right for f in found])
    cells = [
        mean_of(np.array([f.nats for f in found]), "6.2f"),
        mean_of(right, "6.3f"),
        mean_of(right - np.array([f.right for f in first]), "+6.3f"),
        f"{np.mean([f.num_steps for f in found]):6.1f}",
    ]
    num_lost = sum(bool(f.note) for f in found)
    lost = f"  ({num_lost} not trained)" if num_lost else ""
    return f"{name:24}" + "  ".join(cells) + lost


def mean_of(values: np.ndarray, form: str) -> str:
    low, high = bootstrap(values)
    return f"{values.mean():{form}} [{low:{form.replace('6', '')}}, {high:{form.replace('6', '')}}]"


class Bench:
    """The model, loaded once, and what it does for a setting."""

    def __init__(self, args: Any, solutions: Solutions) -> None:
        from appliance.engine.folder.identity import weights_sha
        from appliance.engine.load_model import load_causal_lm
        from appliance.engine.training.peft_trainer import PeftTrainer

        self._args, self._solutions = args, solutions
        folder = model_dir(args.model)
        self._language = Language.of(folder)
        codec = self._language.codec

        dtype = "bfloat16" if find_host().can_bf16 else None
        model = load_causal_lm(folder, dtype="float32", device="cpu")
        self._trainer = PeftTrainer(
            model, pad_id=codec.pad_id, base_sha=weights_sha(folder), autocast_dtype=dtype
        )

    def found(self, task: Task, name: str, values: str) -> Found:
        """What the setting makes of the task, from --out or measured now."""
        facts = [values, self._args.cpu_seconds, self._args.model, self._args.seed]
        path = self._args.out / f"{as_file_name(task.task_id)}.{as_file_name(name)}.json"
        return Found(**kept(path, facts, lambda: vars(self._measure(task, values))))

    def _measure(self, task: Task, values: str) -> Found:
        train = TrainSettings.model_validate(values_of(values))
        self._trainer.reset()

        num_steps, note = 0, ""
        if train.enabled:
            num_steps, note = self._tune(task, train)
        nats = self._nats(task)
        return Found(float(nats.mean()), float(np.exp(-nats).mean()), num_steps, note)

    def _tune(self, task: Task, train: TrainSettings) -> tuple[int, str]:
        row_tokens = longest_lesson(task, self._language, train.max_seq_tokens)
        if not row_tokens:
            return 0, "no lesson fits"

        settings = tune_settings_of(train, row_tokens)
        seed, clock = self._args.seed, CpuClock()
        stream = lessons(
            task,
            self._language,
            generator(seed, task.task_id, "lessons"),
            max_tokens=row_tokens,
            plan=LessonPlan.of(train),
        )
        with tempfile.TemporaryDirectory() as scratch:
            outcome = self._trainer.tune(
                stream,
                settings,
                adapter_dir=Path(scratch) / "adapter",
                deadline=Deadline(clock.now() + self._args.cpu_seconds, clock),
                seed=seed_of(seed, task.task_id, "adapter"),
            )
        return (0, outcome.reason) if isinstance(outcome, NotTuned) else (outcome.num_steps, "")

    def _nats(self, task: Task) -> np.ndarray:
        """Of each right answer under each view."""
        from appliance.engine.sampling.scorer import ModelScorer, read_prefix_once

        views = sampling_views(generator("tuning", task.task_id), NUM_VIEWS, len(task.train))
        asked = [
            score_request(task, test_index, view, [answer], self._language)
            for view in views
            for test_index, answer in enumerate(self._solutions[task.task_id])
        ]
        requests = [request for request in asked if request is not None]

        with self._trainer.merged() as model:
            scorer = ModelScorer(model, read_prefix_once, self._language.codec.pad_id, 1 << 15)
            scores = scorer.score(requests, deadline=Deadline(math.inf, CpuClock()))
            return np.array([-logprob for (logprob,) in scores])


if __name__ == "__main__":
    main()
