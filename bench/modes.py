"""What each way to sample gives for its CPU seconds, with the same trained models.

    python -m bench.modes RUN --tasks CHALLENGES --work out/modes

RUN is the --out folder of a finished run that trained tasks; every task that has an adapter there
is answered with it in each mode. So modes differ in sampling alone, and the figures of a task are
paired. One thread; every answer is kept in --work, and the same command continues where it was
stopped. --tasks must have solutions.

Columns, means over tasks with 95 % intervals (bootstrap over tasks):
  grids      different grids for a test output
  pass_any   share of test outputs whose right grid is among them
  vote_2     share solved by two attempts, by votes and then log-probability
  scored_2   the same by the product of the grid's probability under 8 views, as in a run
  CPU s      to sample, for a task; scoring takes the seconds in brackets more
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.grid import grid_key, same_grid
from appliance.arc.source import load_tasks
from appliance.arc.task import Solutions, Task
from appliance.arc.view import View, sampling_views
from appliance.arc.vote import Candidate, group_by_output, vote
from appliance.clock import Deadline
from appliance.config import TrainSettings
from appliance.engine.environment import prepare_process
from appliance.engine.folder.card import model_dir
from appliance.foreign_text import as_file_name
from appliance.machine.host import find_host
from appliance.record.experiments.estimates import bootstrap, paired_difference
from appliance.record.run_folder import RunFolder
from appliance.seeds import generator
from appliance.solve.ladder import tune_settings_made, tune_settings_of
from appliance.solve.language import Language
from appliance.solve.scoring import score_candidates
from appliance.solve.transduce import candidate, greedily, questions
from bench.arguments import bench_parser
from bench.kept import kept
from bench.tuning import CpuClock

SCORE_VIEWS = 8


@dataclass(frozen=True)
class Mode:
    """A way to sample."""

    views: int
    more: Mapping[str, Any] = field(default_factory=dict)  # arguments of `questions`


def mode(views: int, *, samples: int = 1, temperature: float = 0.0, **more: Any) -> Mode:
    return Mode(
        views, {"num_samples": samples, "temperature": temperature, "top_p": 1.0, "seed": 0} | more
    )


MODES = {
    "greedy, 16 views": mode(16),
    "greedy, 48 views": mode(48),
    "sample, 16 x 3": mode(16, samples=3, temperature=1.0),
    "dfs 0.2, 16 views": mode(16, threshold=0.2),
    "dfs 0.1, 16 views": mode(16, threshold=0.1),
    "dfs 0.05, 16 views": mode(16, threshold=0.05),
    # With half the views, so that ways can be compared at equal time.
    "greedy, 8 views": mode(8),
    "sample, 8 x 2": mode(8, samples=2, temperature=1.0),
    "dfs 0.2, 8 views": mode(8, threshold=0.2),
    "dfs 0.1, 8 views": mode(8, threshold=0.1),
    "dfs 0.05, 8 views": mode(8, threshold=0.05),
}


def main() -> int:
    parser = bench_parser("modes", __doc__)
    parser.add_argument("run", type=Path, help="folder of a run that trained tasks")
    parser.add_argument("--tasks", required=True, help="with solutions")
    parser.add_argument("--model", default="arc-mini", help="that of the run")
    parser.add_argument("--every", type=int, default=1, help="take each n-th task by size")
    parser.add_argument("--modes", default="|".join(MODES), help="names, divided by |")
    parser.add_argument(
        "--work", type=Path, default=Path("out/modes"), help="figures are kept here"
    )
    args = parser.parse_args()

    prepare_process()
    import torch

    torch.set_num_threads(1)
    folder, loaded = RunFolder(args.run), load_tasks(args.tasks)
    trained = [task for task in loaded if folder.has_adapter(task.task_id)]
    tasks = sorted(trained, key=lambda t: (t.num_cells(), t.task_id))[:: args.every]
    if not tasks:
        raise SystemExit(f"{args.run} has no adapter of a task of {args.tasks}")
    print(f"{len(tasks)} tasks with an adapter in {args.run}, {args.model}")

    bench = Bench(folder, args.model, loaded.solutions)
    first: list[dict[str, float]] = []
    for name in args.modes.split("|"):
        found = []
        for task in tasks:
            path = args.work / f"{as_file_name(task.task_id)}.{as_file_name(name)}.json"
            facts = [str(args.run), args.model, repr(MODES[name]), task.digest()]
            found.append(kept(path, facts, partial(bench.figures, task, MODES[name])))
        first = first or found
        print(row_of(name, found, first), flush=True)
    return 0


def row_of(
    name: str, found: Sequence[Mapping[str, float]], first: Sequence[Mapping[str, float]]
) -> str:
    cells = []
    for column in ("grids", "pass_any", "vote_2", "scored_2"):
        values = np.array([figures[column] for figures in found])
        low, high = bootstrap(values)
        cells.append(f"{column} {values.mean():.3f} [{low:.3f}, {high:.3f}]")
    for column in ("pass_any", "scored_2"):
        pairs = [[figures[column] for figures in rows] for rows in (found, first)]
        difference = paired_difference(*pairs)
        low, high = difference.interval
        cells.append(f"{column} {difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    seconds = [np.mean([figures[column] for figures in found]) for column in ("cpu_s", "score_s")]
    return f"{name:20}" + "  ".join([*cells, f"CPU s {seconds[0]:.1f} (+ {seconds[1]:.1f})"])


class Bench:
    """The model, loaded once, and what it answers with the adapters of a run."""

    def __init__(self, run: RunFolder, model: str, solutions: Solutions) -> None:
        from appliance.arc.read import read_json
        from appliance.engine.folder.identity import weights_sha
        from appliance.engine.load_model import load_causal_lm
        from appliance.engine.training.peft_trainer import PeftTrainer

        self._run, self._solutions, self._clock = run, solutions, CpuClock()
        folder = model_dir(model)
        self._language = Language.of(folder)
        train = TrainSettings.model_validate(read_json(run.config)["train"])
        self._settings = tune_settings_of(train, 1)
        self._trainer = PeftTrainer(
            load_causal_lm(folder, dtype="float32", device="cpu"),
            pad_id=self._language.codec.pad_id,
            base_sha=weights_sha(folder),
            autocast_dtype="bfloat16" if find_host().can_bf16 else None,
        )

    def figures(self, task: Task, chosen: Mode) -> dict[str, float]:
        self._trainer.reset()
        adapter = self._run.adapters / as_file_name(task.task_id)
        self._trainer.load(adapter, tune_settings_made(self._settings, adapter))
        views = sampling_views(generator("modes", task.task_id), chosen.views, len(task.train))

        with self._trainer.merged() as model:
            began_s = self._clock.now()
            answers = self._answers(task, views, chosen, model)
            sampled_s = self._clock.now()
            scored = self._scored(task, views, answers, model)
            ended_s = self._clock.now()

        return {
            **self._judged(task, answers, scored),
            "cpu_s": sampled_s - began_s,
            "score_s": ended_s - sampled_s,
        }

    def _answers(
        self, task: Task, views: Sequence[View], chosen: Mode, model: Any
    ) -> list[Candidate]:
        from appliance.engine.sampling.transformers_sampler import TransformersSampler

        codec = self._language.codec
        sampler = TransformersSampler(
            lambda: model, pad_id=codec.pad_id, stop_ids=codec.stop_ids, batch_tokens=1 << 14
        )
        answers: list[Candidate] = []
        asked = questions(task, views, self._language, **chosen.more)
        for _ in range(2):
            requests = [request for _, request in asked]
            never = Deadline(math.inf, self._clock)
            for batch in sampler.sample(requests, deadline=never):
                answers += [
                    candidate(asked[c.request_index][0], c, self._language, adapter="a")
                    for c in batch
                ]
            asked = greedily(asked, answers)
        return answers

    def _scored(
        self, task: Task, views: Sequence[View], answers: Sequence[Candidate], model: Any
    ) -> list[Candidate]:
        from appliance.engine.sampling.scorer import ModelScorer, read_prefix_once

        scorer = ModelScorer(model, read_prefix_once, self._language.codec.pad_id, 1 << 14)
        never = Deadline(math.inf, self._clock)
        by_views = views[:SCORE_VIEWS]
        found = score_candidates([task], answers, by_views, self._language, scorer, deadline=never)
        scores = {(s.test_index, grid_key(s.grid)): s.logprobs for s in found}
        return [
            c
            if c.grid is None
            else replace(c, view_scores=scores.get((c.test_index, grid_key(c.grid)), ()))
            for c in answers
        ]

    def _judged(
        self, task: Task, answers: Sequence[Candidate], scored: Sequence[Candidate]
    ) -> dict[str, float]:
        """Means over the test outputs."""
        groups = group_by_output(answers)
        by_votes = vote(answers, selector="votes-then-logprob")
        by_scores = vote(scored, selector="product-of-views")
        rows = []
        for index, right in enumerate(self._solutions[task.task_id]):
            output = (task.task_id, index)
            grids = [c.grid for c in groups.get(output, []) if c.grid is not None]
            rows.append(
                (
                    float(len({grid_key(grid) for grid in grids})),
                    float(any(same_grid(grid, right) for grid in grids)),
                    float(any(same_grid(g, right) for g in by_votes.get(output, ()))),
                    float(any(same_grid(g, right) for g in by_scores.get(output, ()))),
                )
            )
        means = np.array(rows).mean(axis=0).tolist()
        return dict(zip(("grids", "pass_any", "vote_2", "scored_2"), means, strict=True))


if __name__ == "__main__":
    sys.exit(main())
