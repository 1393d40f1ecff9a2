"""The memory and time that are planned for arc-mini on this CPU, beside what they really are.

    python -m bench.cpu_plan              three lengths, a minute
    python -m bench.cpu_plan --steps 8    more steps, steadier figures

Every case of training and sampling runs in a child process of its own with one thread. Times are
CPU seconds of the child, so that other load on the machine does not count; memory is its peak
resident set. Aim: memory within 15 %, time within 30 %.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.engine.environment import CPU
from appliance.machine.machine import find_machine
from appliance.sizing.costs.device import device_of_cpu
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.speed import sample_speed, train_step_s
from appliance.sizing.costs.train_memory import train_memory
from appliance.sizing.pins import Pins, sample_setup, train_setup
from bench.arguments import bench_parser

TRAIN_TOKENS = (512, 1536, 4096)
"""Tokens of a row, one case of training each."""

SAMPLE_PROMPTS = (256, 1024, 3072)
"""Tokens of a prompt, one case of sampling each."""

ROWS = 8
"""Prompts that are sampled together."""

NEW_TOKENS = 128
"""Tokens written after each prompt."""


def arc_mini() -> Any:
    from appliance.engine.folder.card import model_dir
    from appliance.engine.load_model import load_causal_lm

    return load_causal_lm(model_dir("arc-mini"), dtype="float32", device="cpu")


def measure_training(tokens: int, rows: int, steps: int) -> dict[str, float]:
    """Seconds of a step on `rows` rows of `tokens` tokens, all weights trained, and memory."""
    import numpy as np
    import torch

    from appliance.engine.training.loss import answer_loss
    from appliance.engine.training.packing import TokenSequence, fill_rows

    torch.set_num_threads(1)

    model = arc_mini().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    rng = np.random.default_rng(0)
    lesson = TokenSequence(
        rng.integers(3, model.config.vocab_size, tokens, dtype=np.int32),
        np.arange(tokens) > tokens // 2,
    )
    batch = fill_rows([lesson] * rows, [[i] for i in range(rows)], row_tokens=tokens, pad_id=0)

    can_bf16 = find_machine().host.can_bf16

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=can_bf16):  # as run/workers.py chooses
            loss = answer_loss(model, batch, device=torch.device("cpu"))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # the first step also makes the optimizer's state
    began = time.process_time()
    for _ in range(steps):
        step()
    seconds = (time.process_time() - began) / steps

    return {
        "seconds": seconds,
        "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def measure_sampling(tokens: int, rows: int, steps: int) -> dict[str, float]:
    """Seconds to write NEW_TOKENS tokens after each of `rows` prompts."""
    import torch

    from appliance.clock import Deadline, SystemClock
    from appliance.engine.base import Request
    from appliance.engine.sampling.transformers_sampler import TransformersSampler

    torch.set_num_threads(1)
    model = arc_mini().to(torch.bfloat16 if find_machine().host.can_bf16 else torch.float32).eval()
    prompts = torch.randint(3, model.config.vocab_size, (rows, tokens)).tolist()
    sampler = TransformersSampler(
        lambda: model, pad_id=0, stop_ids=(-1,), batch_tokens=rows * (tokens + NEW_TOKENS)
    )

    def write(num_tokens: int) -> None:
        requests = [Request(tuple(prompt), num_tokens) for prompt in prompts]
        for _ in sampler.sample(requests, deadline=Deadline(math.inf, SystemClock())):
            pass

    write(4)
    began = time.process_time()
    write(NEW_TOKENS)
    return {"seconds": time.process_time() - began}


def in_child(kind: str, tokens: int, rows: int, steps: int) -> dict[str, float]:
    """The figures of one case, measured in a child process."""
    # A worker's environment, so that the child computes as a worker does.
    env = os.environ | CPU
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    words = [sys.executable, "-m", "bench.cpu_plan", "--child", kind, "--tokens", str(tokens)]
    words += ["--rows", str(rows), "--steps", str(steps)]

    done = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(steps: int) -> bool:
    """Print every case; True when all are within the aims."""
    card = load_card("arc-mini")
    device = device_of_cpu(find_machine().host, 1)
    print(f"{card.name}, {card.params / 1e6:.2f} M weights, {device.name}, one thread\n")
    print(f"{'case':28} {'figure':10} {'measured':>9} {'planned':>9} {'off':>7}")

    is_right = True
    for tokens in TRAIN_TOKENS:
        rows = max(1, 4096 // tokens)
        setup = replace(
            train_setup(card, device, Pins(max_seq_tokens=tokens, full_finetune=True)),
            micro_batch=rows,
        )
        found = in_child("train", tokens, rows, steps)
        name = f"train {rows} x {tokens} tokens"
        step_s = train_step_s(card, setup, device)
        is_right &= _line(name, "s a step", found["seconds"], step_s, 0.30)
        memory = train_memory(card, setup, device)
        is_right &= _line(name, "GiB", found["memory_gib"], memory.memory_gib, 0.15)

    for tokens in SAMPLE_PROMPTS:
        setup_s = replace(sample_setup(card, device, Pins()), engine="transformers", batch=ROWS)
        found = in_child("sample", tokens, ROWS, 1)
        planned = sample_speed(
            card, setup_s, device, kv_tokens=10**9, prompt_tokens=tokens, answer_tokens=NEW_TOKENS
        )
        rate = ROWS * NEW_TOKENS / found["seconds"]
        name = f"sample {ROWS} prompts of {tokens}"
        is_right &= _line(name, "tokens/s", rate, planned.tokens_per_second, 0.30)

    print(f"\nmemory within 15 %, time within 30 %: {'yes' if is_right else 'NO'}")
    return is_right


def _line(case: str, figure: str, measured: float, planned: float, aim: float) -> bool:
    """Print one figure; True when the plan is off by at most `aim`."""
    off = planned / measured - 1
    verdict = "" if abs(off) <= aim else "  outside the aim"
    print(f"{case:28} {figure:10} {measured:9.4g} {planned:9.4g} {off:+7.1%}{verdict}")
    return abs(off) <= aim


def main() -> int:
    parser = bench_parser("cpu_plan", __doc__)
    parser.add_argument(
        "--steps", type=int, default=3, help="training steps that are timed (default: %(default)s)"
    )
    parser.add_argument("--child", choices=("train", "sample"), help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()

    if args.child:
        measure = measure_training if args.child == "train" else measure_sampling
        print(json.dumps(measure(args.tokens, args.rows, args.steps)))
        return 0
    return 0 if compare(args.steps) else 1


if __name__ == "__main__":
    sys.exit(main())
