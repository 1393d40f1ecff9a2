"""What `bench.card_check` measures on a card in one process: a finding is a line of JSON.

    python -m bench.card_probe DEVICE

First the card's own rates, then our trainer and sampler with a random model of Qwen3's shape: time
and memory of a step of LoRA, and tokens written in a second. A process that is stopped has still
told what it found.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from appliance.clock import Deadline, SystemClock
from appliance.engine.environment import prepare_process
from bench.gpu_check.model import SHAPES

ARC_MINI = Path(__file__).parents[1] / "appliance" / "models" / "arc-mini"

SHAPE = {"cuda": "0.5B", "cpu": "small"}
"""Of the random model."""

MATRIX_SIDE = {"cuda": 8192, "cpu": 512}
COPY_BYTES = {"cuda": 4 << 30, "cpu": 64 << 20}
RATE_S = 1.0
"""Seconds over which a rate is taken."""

NUM_STEPS = {"cuda": 20, "cpu": 3}
ROW_TOKENS = {"cuda": 1536, "cpu": 512}
"""Length of a row of a training step; a lesson nearly fills it."""
NUM_WRITTEN = {"cuda": 64, "cpu": 8}
"""Tokens that each of the 16 rows of a batch writes."""

RANK = 32


def main(device: str) -> None:
    prepare_process()
    for finding in itertools.chain(card(device), rates(device), steps(device)):
        print(json.dumps(finding), flush=True)


def card(device: str) -> Iterator[dict[str, Any]]:
    """What torch says of the device."""
    import torch

    yield {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        yield {
            "card": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "tf32_allowed": torch.backends.cuda.matmul.allow_tf32,
        }


def rates(device: str) -> Iterator[dict[str, Any]]:
    """The ceilings: bytes read and written by a copy, operations of a bfloat16 product."""
    import torch

    source = torch.zeros(COPY_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = seconds_of(partial(target.copy_, source), device)
    yield {"copy_tb_s": round(2 * source.numel() / seconds / 1e12, 3)}

    side = MATRIX_SIDE[device]
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    seconds = seconds_of(partial(torch.matmul, left, right), device)
    yield {"bf16_tflop_s": round(2 * side**3 / seconds / 1e12, 1)}


def seconds_of(call: Any, device: str) -> float:
    """The mean time of the call, after three to warm up."""
    clock = SystemClock()
    for _ in range(3):
        call()
    synchronize(device)

    began_s, calls = clock.now(), 0
    while clock.now() - began_s < RATE_S:
        for _ in range(10):
            call()
        synchronize(device)
        calls += 10
    return (clock.now() - began_s) / calls


def synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def steps(device: str) -> Iterator[dict[str, Any]]:
    """Steps of LoRA by our trainer, then a batch by our sampler, in bfloat16."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from appliance.engine.base import Request, TuneSettings
    from appliance.engine.load_model import check_logits
    from appliance.engine.sampling.transformers_sampler import TransformersSampler
    from appliance.engine.tokens import Codec
    from appliance.engine.training.packing import TokenSequence
    from appliance.engine.training.peft_trainer import PeftTrainer

    clock, codec = SystemClock(), Codec.load(ARC_MINI)
    began_s = clock.now()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = Qwen3ForCausalLM(Qwen3Config(**SHAPES[SHAPE[device]], pad_token_id=codec.pad_id))
    torch.set_default_dtype(torch.float32)
    check_logits(model.eval(), "the random model")
    yield {"shape": SHAPE[device], "model_s": round(clock.now() - began_s, 1)}

    trainer = PeftTrainer(model, pad_id=codec.pad_id, base_sha="", autocast_dtype=None)
    settings = TuneSettings(rank=RANK, row_tokens=ROW_TOKENS[device], rows_per_step=1)
    rng = np.random.default_rng(0)

    def lessons() -> Iterator[TokenSequence]:
        while True:
            ids = rng.integers(3, 16, settings.row_tokens - 12).astype(np.int32)
            yield TokenSequence(ids, np.arange(len(ids)) >= 3 * len(ids) // 4)

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    taken_s = trainer.time_steps(lessons(), settings, num_steps=NUM_STEPS[device], clock=clock)
    finding = {
        "lora_rank": RANK,
        "row_tokens": settings.row_tokens,
        "first_step_s": round(taken_s[0], 4),
        "step_s": round(statistics.median(taken_s[1:]), 4),
    }
    if device == "cuda":
        finding["training_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    yield finding

    sampler = TransformersSampler(
        lambda: trainer.model, pad_id=codec.pad_id, stop_ids=codec.stop_ids, batch_tokens=1 << 20
    )
    prompt = tuple(int(i) for i in rng.integers(3, 16, settings.row_tokens))
    request = Request(
        prompt, max_new_tokens=NUM_WRITTEN[device], num_samples=16, temperature=1.0, seed=1
    )
    began_s = clock.now()
    written = [
        c.num_tokens
        for batch in sampler.sample([request], deadline=Deadline(clock.now() + 120, clock))
        for c in batch
    ]
    seconds = clock.now() - began_s
    yield {"rows": len(written), "written_tokens_s": round(sum(written) / seconds, 1)}


if __name__ == "__main__":
    main(sys.argv[1])
