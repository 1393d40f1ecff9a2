"""vLLM on this machine.

    python -m bench.vllm                    throughput at 1, 32 and 256 prompts, against raw
                                            `LLM.generate` and against Transformers
    python -m bench.vllm --adapters 100     adapters of rank 8 to 64 in one engine: equality of
                                            tokens, time per swap, memory
    python -m bench.vllm --dtype bfloat16

Times are CPU seconds of this process with one thread, so that other load on the machine does not
count. Aims: 90 % of raw vLLM's throughput; 99 % of the prompts answered alike on the fly, merged
and by Transformers in float32.
"""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.engine.environment import VLLM_CPU, prepare_process
from bench.arguments import bench_parser

PROMPTS = (1, 32, 256)
"""How many prompts are sampled together, one case of throughput each."""

PROMPT_TOKENS = 128
NEW_TOKENS = 128
ROUNDS = 3

RANKS = (8, 16, 32, 64)
"""The ranks of the adapters, in turn."""

NUM_ASKED = 4
"""Prompts that are answered with each adapter."""

ASKED_TOKENS = 24
"""Tokens of an answer, at most, with an adapter."""


def main() -> int:
    parser = bench_parser("vllm", __doc__)
    parser.add_argument(
        "--adapters",
        type=int,
        default=0,
        metavar="N",
        help="measure so many adapters instead of throughput (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype", default="float32", help="of weights and cache (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        help="how often each side takes its turn (default: %(default)s)",
    )
    args = parser.parse_args()

    prepare_process()
    os.environ |= VLLM_CPU | {"OMP_NUM_THREADS": "1"}
    import importlib.util

    if importlib.util.find_spec("vllm") is None:
        print("vLLM is not installed: nothing to measure (make test installs it)")
        return 0

    with tempfile.TemporaryDirectory() as scratch:
        if args.adapters:
            return _adapters(args.adapters, args.dtype, Path(scratch))
        return _throughput(args.dtype, args.rounds, Path(scratch))


def _engines(dtype: str, scratch: Path, **changes: Any) -> tuple[Any, Any, Any, Any]:
    """Spec, codec, trainer and vLLM engine on arc-mini."""
    import torch

    from appliance.engine.base import EngineSpec
    from appliance.engine.folder.card import model_dir
    from appliance.engine.registry import make_trainer
    from appliance.engine.sampling.vllm_engine import VllmEngine
    from appliance.engine.tokens import Codec

    torch.set_num_threads(1)
    slots_rank, stops = changes.pop("slots_rank", None), changes.pop("stops", True)
    spec = replace(
        EngineSpec(
            model_dir("arc-mini"), scratch, dtype=dtype, max_seq_tokens=1024, max_num_seqs=256
        ),
        **changes,
    )
    codec = Codec.load(spec.model_dir)
    trainer = make_trainer("peft", spec, codec)

    began_s = time.perf_counter()
    engine = VllmEngine(spec, stop_ids=codec.stop_ids if stops else (), slots_rank=slots_rank)
    print(f"vLLM started in {time.perf_counter() - began_s:.1f} s wall ({dtype})")
    return spec, codec, trainer, engine


def _prompts(
    count: int, vocab_size: int, seed: int = 0, tokens: int = PROMPT_TOKENS
) -> list[tuple[int, ...]]:
    """Random prompts of equal length."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return [
        tuple(int(i) for i in rng.integers(3, min(16, vocab_size), tokens)) for _ in range(count)
    ]


def _throughput(dtype: str, rounds: int, scratch: Path) -> int:
    """Print the throughput of all three; 0 when ours reaches 90 % of raw vLLM's."""
    from vllm import SamplingParams

    from appliance.clock import Deadline, SystemClock
    from appliance.engine.base import Request
    from appliance.engine.sampling.transformers_sampler import TransformersSampler
    from appliance.engine.sampling.vllm_sampler import VllmSampler

    _, codec, trainer, engine = _engines(dtype, scratch, kv_cache_bytes=512 << 20, stops=False)
    clock = SystemClock()
    params = SamplingParams(
        temperature=1.0, seed=1, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False
    )
    params.logprobs = 0
    vllm_sampler = VllmSampler(engine, stop_ids=())
    generate = TransformersSampler(
        lambda: trainer.model, pad_id=codec.pad_id, stop_ids=(-1,), batch_tokens=1 << 17
    )

    def sampled(sampler: Any, prompts: list[tuple[int, ...]]) -> Callable[[], int]:
        requests = [Request(p, NEW_TOKENS, temperature=1.0, seed=1) for p in prompts]
        return lambda: sum(
            c.num_tokens
            for b in sampler.sample(requests, deadline=Deadline(clock.now() + 600, clock))
            for c in b
        )

    def raw(prompts: list[tuple[int, ...]]) -> Callable[[], int]:
        given = [{"prompt_token_ids": list(p)} for p in prompts]
        return lambda: sum(
            len(o.outputs[0].token_ids)
            for o in engine.raw().generate(given, params, use_tqdm=False)
        )

    print(
        f"{'prompts':>8} {'raw vLLM':>16} {'appliance vLLM':>16} {'of raw':>7} "
        f"{'transformers':>16} {'vLLM is':>8}"
    )
    is_right = True
    for count in PROMPTS:
        prompts = _prompts(count, trainer.model.config.vocab_size)
        jobs = {
            "raw": raw(prompts),
            "ours": sampled(vllm_sampler, prompts),
            "generate": sampled(generate, prompts),
        }

        rates: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(rounds):  # in turns, so that a drift of the machine meets all of them
            for name, job in jobs.items():
                engine.raw().reset_prefix_cache()
                began_s = time.process_time()
                num_tokens = job()
                rates[name].append(num_tokens / (time.process_time() - began_s))

        best = {name: max(found) for name, found in rates.items()}
        share = best["ours"] / best["raw"]
        is_right &= share >= 0.9
        cells = {name: f"{best[name]:.0f} ({min(found):.0f}-)" for name, found in rates.items()}
        print(
            f"{count:8} {cells['raw']:>16} {cells['ours']:>16} {share:7.0%} "
            f"{cells['generate']:>16} {best['ours'] / best['generate']:7.2f}x"
        )

    print(
        f"written tokens per CPU second, best of {rounds} (and worst); "
        f"90 % of raw vLLM: {'yes' if is_right else 'NO'}"
    )
    return 0 if is_right else 1


def _adapters(count: int, dtype: str, scratch: Path) -> int:
    """Train adapters for a few steps on noise, serve each in all ways, and compare the answers."""
    import numpy as np
    import psutil

    from appliance.clock import Deadline, SystemClock
    from appliance.engine.adapter.canary import Canary
    from appliance.engine.base import Request, Server, Serving, Tuned, TuneSettings
    from appliance.engine.registry import TransformersServer
    from appliance.engine.sampling.vllm_server import VllmServer
    from appliance.engine.training.packing import TokenSequence

    spec, codec, trainer, engine = _engines(
        dtype,
        scratch,
        kv_cache_bytes=64 << 20,
        max_num_seqs=16,
        slots_rank=max(RANKS),
        max_rank=max(RANKS),
    )
    plain = TransformersServer(codec)
    servers: dict[str, Server] = {"transformers": plain}
    ways: tuple[Serving, ...] = ("merged", "on-the-fly")
    for way in ways:
        servers[way] = VllmServer(
            replace(spec, serving=way),
            engine,
            canary=Canary(trainer.adapted(), dtype=dtype),
            base_sha=trainer.base_sha,
            stop_ids=codec.stop_ids,
            otherwise=plain,
        )

    clock = SystemClock()
    process = psutil.Process()
    alike = {"merged": 0, "on-the-fly": 0}
    swaps: dict[str, list[float]] = {"merged": [], "on-the-fly": []}
    memory: list[float] = []
    refused: list[str] = []

    for number in itertools.count():
        if len(memory) == count:
            break

        rank, is_rslora = RANKS[number % 4], (number // 4) % 2 == 0
        lessons = _noise(np.random.default_rng(number), TokenSequence)
        settings = TuneSettings(
            rank=rank,
            alpha=rank,
            rslora=is_rslora,
            max_steps=3,
            row_tokens=64,
            rows_per_step=4,
            learning_rate=2e-2,
        )
        outcome = trainer.tune(
            lessons,
            settings,
            adapter_dir=scratch / "trained",
            deadline=Deadline(clock.now() + 600, clock),
            seed=number,
        )
        if not isinstance(outcome, Tuned):
            continue  # diverged, so there is no adapter to serve

        prompts = _prompts(NUM_ASKED, trainer.model.config.vocab_size, seed=number, tokens=24)
        requests = [Request(p, ASKED_TOKENS) for p in prompts]
        answers: dict[str, dict[int, tuple[int, ...]]] = {}
        for name, server in servers.items():
            began_s = time.process_time()
            with server.serve(
                trainer, adapter_dir=outcome.adapter_dir, batch_tokens=spec.batch_tokens
            ) as served:
                if name in swaps:
                    swaps[name].append(time.process_time() - began_s)
                refused += served.refused
                batches = served.sampler.sample(
                    requests, deadline=Deadline(clock.now() + 600, clock)
                )
                answers[name] = {c.request_index: c.ids for b in batches for c in b}

        for name in ("merged", "on-the-fly"):
            alike[name] += sum(
                answers[name][i] == answers["transformers"][i] for i in range(NUM_ASKED)
            )

        gc.collect()
        memory.append(process.memory_info().rss / 2**20)
        if len(memory) % 10 == 0:
            print(f"{len(memory)} adapters: {memory[-1]:.0f} MiB, alike {alike}", flush=True)

    total = NUM_ASKED * count
    for name in ("merged", "on-the-fly"):
        found = sorted(swaps[name])
        print(
            f"{name}: {alike[name] / total:.2%} of {total} greedy answers are those of "
            f"Transformers; swap with canary {statistics.median(found):.3f} CPU s "
            f"(worst {found[-1]:.3f})"
        )

    quarter = max(1, count // 4)
    growth = statistics.mean(memory[-quarter:]) - statistics.mean(memory[quarter : 2 * quarter])
    print(
        f"memory from the second to the last quarter: {growth:+.0f} MiB; "
        f"adapters refused, by the canary or otherwise: {len(refused)}"
    )
    for line in refused[:5]:
        print("  " + line)
    return 0


def _noise(rng: Any, sequence: Any) -> Iterator[Any]:
    """Endless lessons, different for every adapter."""
    import numpy as np

    favourite = rng.integers(6, 16)
    while True:
        ids = rng.integers(3, 16, 40)
        ids[rng.random(40) < 0.5] = favourite
        yield sequence(np.concatenate([[1], ids, [2]]).astype(np.int32), np.arange(42) > 4)


if __name__ == "__main__":
    sys.exit(main())
