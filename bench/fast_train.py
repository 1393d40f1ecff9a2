"""Speed of a training step on this device, and what a short training is worth, side by side.

    python -m bench.fast_train --recipe recipes/arc-mini-v4.yaml --corpus CORPUS \\
        --tasks CHALLENGES --seconds 8 --learn-steps 300 --out out/fast-train

First the step: the stock layers of Transformers under autocast; the fast decoder as it is,
compiled, with passes twice as large, and with each attention kernel of the device. Tokens are those
of documents, padding not counted; the share is of the device's rate for large bfloat16 products,
by 6 operations a weight and token, attention not counted. Then, with --learn-steps, short trainings
on the same number of tokens that differ in one setting each, judged by the answers of --tasks.

Writes OUT/fast-train.json and prints the tables last.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from appliance.clock import SystemClock
from appliance.learn.fast.batches import HostPass, Stream, passes_from
from appliance.learn.fast.datasets import open_samplers
from appliance.learn.fast.decoder import Decoder
from appliance.learn.fast.likelihood import Examination
from appliance.learn.fast.trainer import FastStepper, train_fast
from appliance.learn.recipe import Recipe, load_recipe
from appliance.learn.start import make_start
from appliance.learn.training_loop import Hooks
from appliance.machine.host import find_host
from bench.arguments import bench_parser, is_wanted
from bench.card_probe import MATRIX_SIDE, seconds_of, synchronize

TRAININGS: dict[str, dict[str, Any]] = {
    "as the recipe": {},
    "rate x 2": {"rate": 2.0},
    "grid-tokens-v1": {"tokens": "grid-tokens-v1"},
    "rate / 2": {"rate": 0.5},
    "twice the passes a step": {"passes": 2},
}
"""Short trainings: what each changes of the recipe (factors of rate and passes)."""


def main() -> None:
    parser = bench_parser("fast_train", __doc__)
    parser.add_argument("--recipe", type=Path, required=True, help="a recipe with loop: fast")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of packed corpora")
    parser.add_argument("--tasks", help="tasks with solutions, to judge the short trainings by")
    parser.add_argument(
        "--seconds",
        type=float,
        default=8,
        help="of each variant of a step; 0: none (default: %(default)s)",
    )
    parser.add_argument(
        "--learn-steps", type=int, default=0, help="of each short training; 0: none"
    )
    parser.add_argument("--only", default="", help="variants whose name holds one of A|B|...")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--out", type=Path, required=True, help="gets fast-train.json and logs")
    args = parser.parse_args()

    overrides = {k: json.loads(v) for k, _, v in (s.partition("=") for s in args.set)}
    recipe = load_recipe(args.recipe, overrides)
    args.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"device": device_name(), "steps": [], "trainings": []}

    rate = matrix_rate()
    report["matrix_tflops"] = rate / 1e12
    if args.seconds:
        for name, measure in step_variants(recipe, args.corpus, args.seconds, args.only).items():
            report["steps"].append(safely(name, measure))
            show_step(report["steps"][-1], rate)
            save(report, args.out)

    if args.learn_steps:
        for name, change in TRAININGS.items():
            if not is_wanted(name, args.only):
                continue
            run = partial(
                short_training,
                recipe,
                change,
                args.corpus,
                args.tasks,
                args.learn_steps,
                args.out / name.replace(" ", "-").replace("/", "by"),
            )
            report["trainings"].append(safely(name, run))
            print(report["trainings"][-1], flush=True)
            save(report, args.out)

    print(f"\n{report['device']}, bfloat16 products {rate / 1e12:.0f} TFLOP/s")
    for row in report["steps"]:
        show_step(row, rate)
    for row in report["trainings"]:
        print(row)


def safely(name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row of a variant; a variant that fails is a row too, and the others go on."""
    import torch

    began_s = time.perf_counter()
    try:
        row = measure()
    except Exception as fault:  # noqa: BLE001 - whatever a device may refuse
        row = {"failed": f"{type(fault).__name__}: {str(fault)[:300]}"}
    torch.compiler.reset()  # variants of a function count as recompilations, which are limited
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {"name": name, **row, "all_s": round(time.perf_counter() - began_s, 1)}


def step_variants(
    recipe: Recipe, corpus: Path, seconds: float, only: str
) -> dict[str, Callable[[], dict[str, Any]]]:
    """The variants by name."""
    larger = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"row_tokens": 2 * recipe.data.row_tokens})}
    )
    run = partial(fast_steps, corpus=corpus, seconds=seconds)
    variants: dict[str, Callable[[], dict[str, Any]]] = {
        "stock layers, autocast": partial(stock_steps, recipe, corpus=corpus, seconds=seconds),
        "fast, not compiled": partial(run, recipe, compiles=False),
        "fast, compiled": partial(run, recipe),
        "fast, compiled, larger passes": partial(run, larger),
    }
    if device() == "cuda":
        for kernel in ("FLASH_ATTENTION", "CUDNN_ATTENTION"):
            variants[f"fast, compiled, {kernel.lower()}"] = partial(run, recipe, kernel=kernel)
    return {name: run for name, run in variants.items() if is_wanted(name, only)}


def fast_steps(
    recipe: Recipe,
    *,
    corpus: Path,
    seconds: float,
    compiles: bool | None = None,
    kernel: str | None = None,
) -> dict[str, Any]:
    """Steps of the fast loop; kernel: an attention kernel that is forced."""
    from torch.nn.attention import SDPBackend

    start = make_start(recipe, device=device())
    stepper = FastStepper(recipe, start)
    if compiles is not None:
        old = stepper.decoder
        stepper.decoder = Decoder(
            old.weights, old.shape, old.parts, dtype=old.dtype, compiles=compiles
        )

    if kernel:
        stepper.decoder.kernels = [getattr(SDPBackend, kernel)]

    def step(batch: list[HostPass]) -> None:
        stepper.step(batch, 1e-4)

    return timed(recipe, corpus, start.style, seconds, step)


def stock_steps(recipe: Recipe, *, corpus: Path, seconds: float) -> dict[str, Any]:
    """Forward and backward of the layers of Transformers on the same passes, as the stock loop
    runs them: autocast, one document a row, logits of the targets alone."""
    import torch

    from appliance.engine.training.loss import answer_loss
    from appliance.engine.training.packing import IGNORED, Rows

    start = make_start(recipe, device=device())
    start.model.train()
    optimizer = torch.optim.AdamW(start.model.parameters(), lr=1e-4, fused=True)
    dtype = getattr(torch, start.autocast_dtype or "float32")
    on = next(start.model.parameters()).device

    def step(batch: list[HostPass]) -> None:
        import numpy as np

        for host_pass in batch:
            ids = host_pass.ids.astype(np.int64).reshape(-1, host_pass.row_tokens)
            is_target = host_pass.is_target.reshape(ids.shape)
            labels = np.full(ids.shape, IGNORED)
            labels[:, :-1] = np.where(is_target[:, 1:], ids[:, 1:], IGNORED)
            rows = Rows(ids, np.tile(np.arange(ids.shape[1]), (len(ids), 1)), labels)
            with torch.autocast(on.type, dtype, enabled=start.autocast_dtype is not None):
                loss = answer_loss(start.model, rows, device=on)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return timed(recipe, corpus, start.style, seconds, step)


def timed(
    recipe: Recipe, corpus: Path, style: str, seconds: float, step: Callable[[list[HostPass]], None]
) -> dict[str, Any]:
    """Steps on the same few batches over and over, so that only the device is measured."""
    import torch

    def wait() -> None:
        synchronize(device())

    batches = same_batches(recipe, corpus, style)
    began_s = time.perf_counter()
    step(batches[0])
    wait()
    first_s = time.perf_counter() - began_s
    for batch in batches[1:]:
        step(batch)  # kernels that choose themselves by the shape have met every shape now
    wait()

    if device() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began_s, num_tokens, num_steps = time.perf_counter(), 0, 0
    while time.perf_counter() - began_s < seconds:
        for batch in batches:
            step(batch)
            num_tokens += sum(p.num_tokens for p in batch)
            num_steps += 1
        wait()
    lasted_s = time.perf_counter() - began_s

    memory = torch.cuda.max_memory_allocated() / 2**30 if device() == "cuda" else 0.0
    return {
        "tokens_per_s": num_tokens / lasted_s,
        "step_ms": 1000 * lasted_s / num_steps,
        "first_step_s": round(first_s, 2),
        "memory_gib": round(memory, 2),
        "parameters": num_parameters(recipe),
    }


_BATCHES: dict[int, list[list[HostPass]]] = {}


def same_batches(recipe: Recipe, corpus: Path, style: str) -> list[list[HostPass]]:
    """A few batches of the recipe's own stream, made once for a size of pass."""
    size = recipe.data.row_tokens
    if size not in _BATCHES:
        stream = Stream(
            partial(open_samplers, recipe, corpus, style),
            seed=recipe.seed,
            pass_tokens=size,
            max_tokens=recipe.data.document_tokens,
            pad_id=0,
            chunk_passes=12,
        )
        with passes_from(stream, 0, num_workers=0) as passes:
            num = recipe.data.rows_per_step
            _BATCHES[size] = [[next(passes) for _ in range(num)] for _ in range(12 // num)]
    return _BATCHES[size]


def short_training(
    recipe: Recipe, change: dict[str, Any], corpus: Path, tasks: str, num_steps: int, out: Path
) -> dict[str, Any]:
    """Train for some steps and judge the answers of the tasks."""
    plan = recipe.optimization
    changed = recipe.model_copy(
        update={
            "optimization": plan.model_copy(
                update={
                    "learning_rate": plan.learning_rate * change.get("rate", 1.0),
                    "max_seconds": None,
                    "max_steps": num_steps // change.get("passes", 1),
                    "warmup_steps": min(plan.warmup_steps, 50),
                }
            ),
            "data": recipe.data.model_copy(
                update={"rows_per_step": recipe.data.rows_per_step * change.get("passes", 1)}
            ),
            "architecture": recipe.architecture.model_copy(
                update={"tokens": change.get("tokens", recipe.architecture.tokens)}
            ),
            "evaluation": None,
            "log_every_steps": 25,
        }
    )
    start = make_start(changed, device=device())
    examination = Examination.of(
        tasks,
        start.style,
        max_tokens=changed.data.document_tokens,
        pass_tokens=changed.data.row_tokens,
        pad_id=start.codec.pad_id,
    )
    figures: dict[str, float] = {}

    def evaluate(decoder: Decoder) -> dict[str, float]:
        figures.update(examination.figures(decoder))
        return figures

    train_fast(
        changed,
        start,
        partial(open_samplers, changed, corpus, start.style),
        {},
        out=out,
        clock=SystemClock(),
        hooks=Hooks(),
        evaluate=evaluate,
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = lines[-1]
    late = [line["loss"] for line in lines[-4:]]
    return {
        "loss": round(sum(late) / len(late), 4),
        **{name: round(value, 4) for name, value in figures.items()},
        "tokens": last["tokens"],
        "steps": last["step"],
        "tokens_per_s": round(last["tokens_per_s"]),
    }


def num_parameters(recipe: Recipe) -> int:
    """Weights that a token meets: of the layers, without the table."""
    shape = recipe.architecture
    layer = 4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size
    return layer * shape.num_layers


def matrix_rate() -> float:
    """Operations a second of a large product of bfloat16 matrices of random numbers."""
    import torch

    side = MATRIX_SIDE[device()]
    left, right = (torch.randn(side, side, device=device()).bfloat16() for _ in range(2))
    return 2 * side**3 / seconds_of(partial(torch.matmul, left, right), device())


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if device() == "cuda" else find_host().cpu_model


def show_step(row: dict[str, Any], rate: float) -> None:
    if "failed" in row:
        print(f"{row['name']:36} {row['failed']}", flush=True)
        return
    share = 6 * row["parameters"] * row["tokens_per_s"] / rate
    print(
        f"{row['name']:36} {row['tokens_per_s']:12,.0f} tokens/s  {row['step_ms']:8.1f} ms a step  "
        f"{share:5.1%} of the matrix rate  {row['memory_gib']:6.1f} GiB  "
        f"first step {row['first_step_s']:.1f} s",
        flush=True,
    )


def save(report: dict[str, Any], out: Path) -> None:
    (out / "fast-train.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
