"""Sampling with Transformers: our sampler against `generate` with its own cache, same questions.

    python -m bench.sample [--model DIR] [--rounds 2]

views: a task under 16 views, greedy, as a deep pass asks. samples: 8 random answers to each of 16
prompts, as programs are asked for. Both sides take turns; speed is tokens written per CPU second of
the process. The tasks come from our own families: the longest one of at most --max-tokens tokens
for views, those of middle length for samples.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

from appliance.arc.task import Task
from appliance.arc.view import sampling_views
from appliance.clock import Deadline, SystemClock
from appliance.engine.base import Request
from appliance.engine.environment import prepare_process
from appliance.engine.folder.card import model_dir
from appliance.engine.load_model import load_causal_lm
from appliance.engine.sampling.transformers_sampler import TransformersSampler
from appliance.learn.synth.catalogue import families_of
from appliance.learn.synth.family import make_task
from appliance.seeds import generator
from appliance.solve.language import Language
from appliance.solve.transduce import questions
from bench.arguments import bench_parser

BATCH_TOKENS = 1 << 15
"""Tokens that a sampler may hold at once."""


def main() -> None:
    parser = bench_parser("sample", __doc__)
    parser.add_argument("--model", default="arc-mini", help="name or folder (default: %(default)s)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        help="how often each side takes its turn (default: %(default)s)",
    )
    parser.add_argument("--max-tokens", type=int, default=2048, help="of the longest prompt")
    args = parser.parse_args()
    prepare_process()

    folder = model_dir(args.model)
    language = Language.of(folder)
    codec = language.codec
    model = load_causal_lm(folder, dtype="float32", device="cpu", quantization="none").eval()

    tasks = [make_task(family, 0, 5)[0] for family in families_of("train")]
    tasks = [task for task in tasks if len(language.prompt_ids(task, 0)) <= args.max_tokens]
    tasks.sort(key=lambda task: len(language.prompt_ids(task, 0)))
    sets = {
        "views": asked(tasks[-1:], 16, 1, language),
        "samples": asked(tasks[len(tasks) // 2 :][:16], 1, 8, language),
    }

    for name, requests in sets.items():
        found: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(args.rounds):
            for takes_cache, speeds in found.items():
                sampler = TransformersSampler(
                    lambda: model,
                    pad_id=codec.pad_id,
                    stop_ids=codec.stop_ids,
                    batch_tokens=BATCH_TOKENS,
                    takes_cache=takes_cache,
                )
                speeds.append(tokens_per_s(sampler, requests))
        report(name, requests, found)


def asked(
    tasks: Sequence[Task], num_views: int, num_samples: int, language: Language
) -> list[Request]:
    found = []
    for task in tasks:
        views = sampling_views(generator(0, task.task_id, "views"), num_views, len(task.train))
        temperature = 1.0 if num_samples > 1 else 0.0
        found += questions(
            task,
            views,
            language,
            temperature=temperature,
            top_p=1.0,
            num_samples=num_samples,
            seed=0,
        )
    return [request for _, request in found]


def tokens_per_s(sampler: TransformersSampler, requests: Sequence[Request]) -> float:
    """Tokens written per CPU second of this process."""
    began_s = time.process_time()
    batches = sampler.sample(requests, deadline=Deadline(math.inf, SystemClock()))
    num_tokens = sum(completion.num_tokens for batch in batches for completion in batch)
    return num_tokens / (time.process_time() - began_s)


def report(name: str, requests: Sequence[Request], found: dict[bool, list[float]]) -> None:
    rows = sum(request.num_samples for request in requests)
    lengths = [len(request.prompt_ids) for request in requests]
    print(
        f"\n{name}: {rows} answers to prompts of {min(lengths)} to {max(lengths)} tokens, "
        "tokens per CPU second (range)"
    )
    medians = {side: statistics.median(speeds) for side, speeds in found.items()}
    for side, title in ((True, "ours"), (False, "generate alone")):
        speeds = found[side]
        print(f"  {title:16} {medians[side]:8,.1f} ({min(speeds):,.1f}-{max(speeds):,.1f})")
    print(f"  {medians[True] / medians[False]:.2f} x")


if __name__ == "__main__":
    main()
