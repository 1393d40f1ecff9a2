"""Tokens a second of `appliance train`, by the fast loop with the shape of the model inside.

On documents that are made here, so no file is needed: random rules about grids.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from appliance.clock import Deadline
from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine
from bench.gpu_check.cases import BFLOAT16_FROM
from bench.process import ROOT, Ended, run

NAME = "train from scratch"
RECIPE = ROOT / "recipes" / "arc-mini-v4.yaml"
NUM_RULES = 300
"""Each gives some pairs; every view of them is another document."""

H200_TOKENS_S = 2_810_000
"""Median of the training of arc-mini v4 on an H200 (docs/results/gpu.md)."""

USUAL_S = {"cuda": 45.0, "cpu": 120.0}
TRAINED_S = {"cuda": 25, "cpu": 2}
"""Of these the first 12 on CUDA compile."""

WARM_UP = 0.5
"""Share of the lines of the log that is left out: they tell of compiling, and of kernels met for
the first time."""

WHOLE_PASS_GIB = 20
"""On smaller cards a pass has half of the recipe's 122,880 tokens, which take 10 GiB."""

ON_CPU = {
    "data.row_tokens": 6144,  # the least for documents of the recipe's length
    "architecture.num_layers": 1,
    "architecture.hidden_size": 64,
    "architecture.intermediate_size": 128,
}


def why_skipped(machine: Machine) -> str:
    """Why the fast loop does not train here, "" where it should."""
    if not machine.gpus:
        return ""
    gpu = machine.gpus[0]
    capability = gpu.capability or gpu.spec.capability
    if capability >= BFLOAT16_FROM:
        return ""
    has = ".".join(map(str, capability))
    return f"loop: fast is for bfloat16, compute capability 8.0, and {gpu.name} has {has}"


def settings(machine: Machine) -> dict[str, Any]:
    """What is overridden of the recipe. Without a card, a tiny model."""
    device = "cuda" if machine.gpus else "cpu"
    values: dict[str, Any] = {
        "data.datasets": {"rules": {"min_pairs": 3, "max_pairs": 5}},
        "optimization.max_seconds": TRAINED_S[device],
        "log_every_steps": 10 if machine.gpus else 1,
    }
    if not machine.gpus:
        return values | ON_CPU
    if machine.gpus[0].total_bytes < WHOLE_PASS_GIB * GIB:
        values["data.row_tokens"] = 61440
    return values


def run_training(
    machine: Machine, scratch: Path, variables: dict[str, str], deadline: Deadline
) -> dict[str, Any]:
    """Pack the documents, train, and read the log. Killed at the deadline."""
    corpus, out = scratch / "corpus", scratch / "training"
    train = [sys.executable, "-m", "appliance", "train"]
    pack = [*train, "--pack", str(corpus / "rules"), "--rules", str(NUM_RULES)]
    given = [f"{key}={json.dumps(value)}" for key, value in settings(machine).items()]
    train += ["--recipe", str(RECIPE), "--corpus", str(corpus), "--out", str(out)]
    train += ["--display", "plain", *(word for text in given for word in ("--set", text))]

    row: dict[str, Any] = {"name": NAME, "seconds": 0.0}
    for command in (pack, train):
        ended = run(command, deadline.remaining_s(), deadline.clock, variables)
        row["seconds"] += ended.seconds
        if ended.outcome() != "ok":
            return row | _failed(ended)

    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return row | {"outcome": "ok", "tokens_s": tokens_s([x["tokens_per_s"] for x in lines])}


def _failed(ended: Ended) -> dict[str, Any]:
    return {"outcome": ended.outcome(), "told": ended.last_line(), "log": ended.text[-4000:]}


def tokens_s(rates: list[float]) -> float:
    """The median of a log's rates, without those of the beginning."""
    return statistics.median(rates[int(WARM_UP * len(rates)) :])
