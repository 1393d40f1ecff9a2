"""What the learning rate does to a model at test time, and which one the check would take.

    python -m bench.rates --model DIR --tasks CHALLENGES --num-tasks 8 --steps 40 --out out/rates

On each task the last demonstration is held back; the model trains on the others at each rate, as a
run would, and reads the answer held back under four views. The rates are --rates, and a third, once
and three times that of the plan. Columns: nats a token of that answer, mean over tasks, and on how
many tasks it became less likely than untrained. The last line is what the check of a run decides.
What was measured is kept in --out.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from appliance.arc.source import load_tasks
from appliance.arc.task import Task
from appliance.arc.view import sampling_views
from appliance.clock import Deadline, SystemClock
from appliance.commands.arguments import model_cards
from appliance.config import Layer
from appliance.engine.base import EngineSpec, TuneSettings
from appliance.engine.environment import prepare_process
from appliance.engine.folder.card import model_dir
from appliance.engine.registry import make_scorer, make_trainer
from appliance.foreign_text import as_file_name
from appliance.machine.machine import find_machine
from appliance.machine.software import software_of
from appliance.run.schedule.rate_check import (
    FACTORS,
    NUM_VIEWS,
    judge,
    lines_of,
    untrained_nats,
)
from appliance.seeds import generator
from appliance.sizing.make_plan import make_plan
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest
from appliance.solve.ladder import tune_settings_of
from appliance.solve.language import Language
from appliance.solve.messages import Checked, Job, TaskMessage
from appliance.solve.rate_check import check_rates
from appliance.solve.transduce import LessonPlan, lessons, longest_lesson
from bench.arguments import bench_parser
from bench.kept import kept, require_trained

BATCH_TOKENS = 8192
"""Of prompts that are read at once."""


def main() -> None:
    parser = bench_parser("rates", __doc__)
    parser.add_argument("--model", required=True, help="name or folder")
    parser.add_argument("--tasks", required=True, help="challenges file or source")
    parser.add_argument("--num-tasks", type=int, default=8, help="from the shorter half")
    parser.add_argument("--steps", type=int, default=40, help="of each training")
    parser.add_argument("--rates", default="1e-3", help="tried beside those of the plan")
    parser.add_argument("--most-tokens", type=int, default=4096, help="of a lesson")
    parser.add_argument("--out", type=Path, required=True, help="where figures are kept")
    args = parser.parse_args()

    prepare_process()
    tasks = [t for t in load_tasks(args.tasks) if len(t.train) >= 3]
    tasks.sort(key=lambda t: (t.num_cells(), t.task_id))
    half = tasks[: len(tasks) // 2]
    chosen = half[:: max(1, len(half) // args.num_tasks)][: args.num_tasks]

    bench = Bench(args)
    planned = bench.plan.train.learning_rate
    extra = [float(text) for text in args.rates.split(",") if text]
    rates = [*extra, *(factor * planned.value for factor in FACTORS)]
    print(f"{args.model}, {len(chosen)} tasks, {args.steps} steps; planned: {planned.value:g}")
    print(f"  ({planned.reason})")

    checked = [bench.found(task, rates) for task in chosen]
    require_trained(f"{args.model} at {len(rates)} rates", (f.reason for f in checked))
    found = [f for f in checked if f.reason is None]
    print(f"{'untrained':12} {fmean(untrained_nats(f) for f in found):.3f}")
    for i, rate in enumerate(rates):
        worse = sum(f.trained[i] > untrained_nats(f) for f in found)
        mean = fmean(f.trained[i] for f in found)
        print(f"{rate:<12.2g} {mean:.3f}   worse on {worse} of {len(found)}")

    tried = [f.model_copy(update={"trained": f.trained[len(extra) :]}) for f in found]
    verdict = judge(rates[len(extra) :], tried)
    for line in lines_of(verdict, rates[len(extra) :], tried, args.steps):
        print(line)


class Bench:
    """The model, loaded once, and the plan that a run on this machine would have."""

    def __init__(self, args: Any) -> None:
        import torch

        torch.set_num_threads(1)
        self._args = args
        folder = model_dir(args.model)
        machine = find_machine()
        made = make_plan(
            PlanRequest(
                machine=machine,
                models=model_cards({args.model: folder}),
                software=software_of(machine),
                tasks=None,
                layers=(Layer("bench", {"strategy": "transduction"}),),
                budget_s=12 * 3600.0,
            )
        )
        self.plan: Plan = made

        self._language = Language.of(folder)
        self._codec = self._language.codec
        precision = made.precision
        self._scratch = Path(tempfile.mkdtemp())
        spec = EngineSpec(
            model_dir=folder,
            scratch_dir=self._scratch,
            dtype=precision.dtype.value,
            autocast_dtype=precision.autocast.value,
        )
        self._trainer = make_trainer("peft", spec, self._codec)

    def found(self, task: Task, rates: list[float]) -> Checked:
        """Of one task, from --out or measured now."""
        args = self._args
        facts = [args.model, args.steps, rates, args.most_tokens]
        path = args.out / f"{Path(args.model).name}-{as_file_name(task.task_id)}.json"
        return Checked(**kept(path, facts, lambda: self._measure(task, rates).model_dump()))

    def _measure(self, task: Task, rates: list[float]) -> Checked:
        args, train = self._args, self.plan.settings.train
        views = sampling_views(generator("rates", task.task_id), NUM_VIEWS, 0)
        job = Job(
            job_id=0,
            stage="check",
            tasks=[TaskMessage.of(task)],
            views=[view.name for view in views],
            deadline_s=math.inf,
            rates=rates,
            num_steps=args.steps,
        )

        def settings(shown: Task) -> TuneSettings | None:
            row_tokens = longest_lesson(shown, self._language, args.most_tokens)
            return tune_settings_of(train, row_tokens) if row_tokens else None

        return check_rates(
            job,
            self._trainer,
            self._language,
            settings=settings,
            lessons=lambda shown, row_tokens: lessons(
                shown,
                self._language,
                generator(task.task_id, "lessons"),
                max_tokens=row_tokens,
                plan=LessonPlan(),
            ),
            make_scorer=lambda model: make_scorer(
                "peft", model, pad_id=self._codec.pad_id, batch_tokens=BATCH_TOKENS
            ),
            adapter_dir=self._scratch / "adapter",
            deadline=Deadline(math.inf, SystemClock()),
        )


if __name__ == "__main__":
    main()
