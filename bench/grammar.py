"""What a grammar of legal grids does to answers and to speed.

The same adapters, prompts and engine are used without a grammar and with each one.

    python -m bench.grammar --tasks CHALLENGES --solutions SOLUTIONS [--num-tasks 16]

arc-mini is trained on each of the shortest tasks for --steps steps and merged into vLLM; the same
views are then sampled greedily under one grammar after the other. Rates are tokens per CPU second
of this process with one thread, median over tasks. Intervals: 95 %, bootstrap over tasks of the
difference from no grammar.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from appliance.arc.metrics import task_figures, vote_k
from appliance.arc.source import load_solutions, load_tasks
from appliance.arc.task import Task
from appliance.arc.view import sampling_views
from appliance.arc.vote import Candidate, by_votes_then_logprob, group_by_output
from appliance.clock import Deadline, SystemClock
from appliance.engine.environment import VLLM_CPU, prepare_process
from appliance.record.experiments.estimates import bootstrap
from appliance.seeds import generator
from appliance.solve.grammar import Grammar
from bench.arguments import bench_parser

GRAMMARS: tuple[Grammar, ...] = ("none", "rectangular", "shape")
COLUMNS = ("answered", "accuracy", "correct_pixels", "correct_size", "pass_n", "vote_2")


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser("grammar", __doc__)
    parser.add_argument("--tasks", required=True, help="challenges file or source")
    parser.add_argument("--solutions", required=True, help="file with their answers")
    parser.add_argument("--num-tasks", type=int, default=16, help="how many of the shortest tasks")
    parser.add_argument(
        "--steps", type=int, default=40, help="of training on each task (default: %(default)s)"
    )
    parser.add_argument(
        "--views", type=int, default=8, help="sampled under each grammar (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    prepare_process()
    os.environ |= VLLM_CPU | {"OMP_NUM_THREADS": "1"}

    everything = load_tasks(args.tasks)
    solutions = load_solutions(args.solutions, everything)
    tasks = sorted(everything, key=lambda t: (t.num_cells(), t.task_id))[: args.num_tasks]

    figures: dict[str, list[dict[str, float]]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        sampled = _sampled(tasks, args.steps, args.views, Path(scratch))
        for task, grammar, candidates, rate in sampled:
            figures[grammar].append(_figures(task, candidates, solutions[task.task_id]))
            rates[grammar].append(rate)

    print(f"{len(tasks)} tasks of {args.tasks}, {args.steps} steps, {args.views} views")
    print(
        f"{'grammar':12}" + "".join(f"{column:>26}" for column in COLUMNS) + f"{'tokens/CPU s':>16}"
    )
    for grammar in GRAMMARS:
        cells = [_cell(figures[grammar], figures["none"], column) for column in COLUMNS]
        print(
            f"{grammar:12}"
            + "".join(f"{cell:>26}" for cell in cells)
            + f"{np.median(rates[grammar]):16.0f}"
        )
    return 0


def _sampled(
    tasks: Sequence[Task], num_steps: int, num_views: int, scratch: Path
) -> Iterator[tuple[Task, str, list[Candidate], float]]:
    """For each task and grammar: the candidates, and the tokens written per CPU second."""
    import torch

    from appliance.engine.base import EngineSpec, TuneSettings
    from appliance.engine.folder.card import model_dir
    from appliance.engine.registry import make_server, make_trainer
    from appliance.solve.language import Language
    from appliance.solve.transduce import (
        LessonPlan,
        candidate,
        lessons,
        longest_lesson,
        questions,
    )

    torch.set_num_threads(1)
    folder = model_dir("arc-mini")
    language = Language.of(folder)
    codec, max_tokens = language.codec, language.max_seq_tokens
    spec = EngineSpec(folder, scratch, max_seq_tokens=max_tokens, kv_cache_bytes=512 << 20)
    trainer = make_trainer("peft", spec, codec)
    server = make_server("vllm", spec, codec, trainer)

    clock = SystemClock()
    for task in tasks:
        row_tokens = longest_lesson(task, language, max_tokens)
        rng = generator(0, task.task_id)
        views = sampling_views(rng, num_views, len(task.train), keep_colours=False)
        trainer.tune(
            lessons(task, language, rng, max_tokens=row_tokens, plan=LessonPlan()),
            TuneSettings(
                rank=32,
                alpha=32,
                max_steps=num_steps,
                row_tokens=row_tokens,
                rows_per_step=max(1, 1024 // row_tokens),
            ),
            adapter_dir=scratch / "adapter",
            deadline=Deadline(clock.now() + 600, clock),
            seed=0,
        )

        with server.serve(
            trainer, adapter_dir=scratch / "adapter", batch_tokens=spec.batch_tokens
        ) as served:
            for grammar in GRAMMARS:
                asked = questions(
                    task,
                    views,
                    language,
                    temperature=0.0,
                    top_p=1.0,
                    num_samples=1,
                    seed=0,
                    grammar=grammar,
                )
                began_s = time.process_time()
                batches = served.sampler.sample(
                    [r for _, r in asked], deadline=Deadline(clock.now() + 600, clock)
                )
                found = [(asked[c.request_index][0], c) for batch in batches for c in batch]
                seconds = time.process_time() - began_s
                candidates = [candidate(question, c, language, adapter="") for question, c in found]
                yield task, grammar, candidates, sum(c.num_tokens for _, c in found) / seconds


def _figures(
    task: Task, candidates: list[Candidate], answers: tuple[np.ndarray, ...]
) -> dict[str, float]:
    """The figures of one task under one grammar, by column."""
    groups = group_by_output(candidates)
    outputs = [groups.get((task.task_id, i), []) for i in range(len(answers))]
    found = task_figures([[c.grid for c in output] for output in outputs], answers)
    voted = {
        task.task_id: [
            [entry.grid for entry in by_votes_then_logprob(output)] for output in outputs
        ]
    }

    answered = sum(c.grid is not None for c in candidates) / max(1, len(candidates))
    return {**found, "answered": answered, "vote_2": vote_k(voted, {task.task_id: answers}, 2)}


def _cell(rows: list[dict[str, float]], plain: list[dict[str, float]], column: str) -> str:
    """The column's mean, and the interval of its difference from no grammar where there is one."""
    values = np.array([row[column] for row in rows])
    gains = values - np.array([row[column] for row in plain])
    low, high = bootstrap(gains)
    return f"{values.mean():.3f}" + (f" ({low:+.3f} to {high:+.3f})" if gains.any() else "")


if __name__ == "__main__":
    sys.exit(main())
