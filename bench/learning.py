"""What a short training from scratch is worth: tokens, documents and sizes of arc-mini, compared.

    python -m bench.learning --recipe recipes/arc-mini-v4.yaml --corpus CORPUS \\
        --tasks dev80=CHALLENGES --variants v1,v2 --seeds 0,1,2 --tokens 20 --out out/learning

Each variant differs from the recipe in what its line below says. All of a seed see the same
documents in the same order. A training ends after --tokens (millions), or after --cpu-seconds of
this process, which compares sizes at equal cost. --set changes the recipe for all of them.

Judged are the right answers of --tasks, read and not sampled: nats a token, within the trained
length of a document and beyond it, and exact answers, which greedy sampling would write. Below the
table stands the difference of each variant from the first one, mean over its seeds, with a 95 %
interval over answers (bootstrap).

What was measured is kept in --out; the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from appliance.clock import cpu_seconds
from appliance.engine.training.packing import TokenSequence
from appliance.learn.data.corpus import RawPair
from appliance.learn.data.styles import TinyWriter
from appliance.learn.fast.batches import Stream, passes_from
from appliance.learn.fast.datasets import open_samplers
from appliance.learn.fast.likelihood import AnswerScore, Examination
from appliance.learn.fast.parts import Parts, parts_of
from appliance.learn.fast.trainer import FastStepper
from appliance.learn.optimize import learning_rate_at
from appliance.learn.recipe import load_recipe
from appliance.learn.start import make_start
from appliance.models import placed, tiny
from appliance.models.vocabularies import VOCABULARIES
from appliance.record.experiments.estimates import bootstrap
from bench.arguments import bench_parser
from bench.kept import kept

JUDGED_TOKENS = 6144
"""Longest document that is judged."""

Change = Callable[[TokenSequence, np.random.Generator], TokenSequence]
"""What a variant makes of a document."""


def same(document: TokenSequence, rng: np.random.Generator) -> TokenSequence:
    return document


def last_answer(document: TokenSequence, rng: np.random.Generator) -> TokenSequence:
    """Only the last answer is learnt."""
    before = np.flatnonzero(~document.is_target)
    is_last = np.arange(len(document)) > before[-1] if before.size else document.is_target
    return replace(document, is_target=is_last)


def inputs_too(document: TokenSequence, rng: np.random.Generator) -> TokenSequence:
    """All that follows the first pair is learnt, inputs included."""
    first_end = int(np.argmax(document.ids == tiny.EOS))
    return replace(document, is_target=np.arange(len(document)) > first_end)


def anywhere(document: TokenSequence, rng: np.random.Generator) -> TokenSequence:
    """Half of the documents begin each grid at another row and column than the first."""
    ids = document.ids
    is_cell = (ids >= placed.FIRST_CELL) & (ids < placed.FIRST_ROW_END)
    is_end = (ids >= placed.FIRST_ROW_END) & (ids < placed.FIRST_WORD)
    if rng.random() < 0.5 or not is_cell.any():
        return document

    place = (ids[is_cell] - placed.FIRST_CELL) // 10
    rows, columns = 29 - place // 30, 29 - place % 30  # space below and to the right
    down, right = rng.integers(0, rows.min() + 1), rng.integers(0, columns.min() + 1)
    return replace(document, ids=ids + is_cell * ((down * 30 + right) * 10) + is_end * down)


def colour_and_column(style: str) -> Parts:
    """Tokens of grid-tokens-v2 whose rows are not told, but for row ends."""
    parts = parts_of(style)
    colours, columns, _rows = parts.products[0]
    indices = parts.indices.copy()
    indices[placed.FIRST_CELL : placed.FIRST_ROW_END, 2] = parts.num_parts  # no part
    return replace(parts, indices=indices, products=((colours, columns), *parts.products[1:]))


@dataclass(frozen=True)
class Variant:
    """What is trained."""

    about: str
    settings: dict[str, Any] = field(default_factory=dict)  # of the recipe
    warmup: int = 1  # times the recipe's steps of warm-up
    change: Change = same
    parts: Callable[[str], Parts] = parts_of


def size(layers: int, width: int) -> Variant:
    """A model of other measures, the MLP 2.75 times as wide as the model."""
    inner = round(2.75 * width / 64) * 64
    measures = {"num_layers": layers, "hidden_size": width, "intermediate_size": inner}
    settings = {f"architecture.{name}": value for name, value in measures.items()}
    return Variant(f"{layers} layers of width {width}", settings)


V1 = {"architecture.tokens": "grid-tokens-v1"}

VARIANTS = {
    "v2": Variant("grid-tokens-v2: colour, column and row, the embedding a sum of three"),
    "v1": Variant("grid-tokens-v1: colour; a newline after a row", V1),
    "v1-warm": Variant("v1, ten times the warm-up", V1, warmup=10),
    "cf": Variant("colour and column, the embedding a sum of two", parts=colour_and_column),
    "v2-anywhere": Variant(
        "v2, half of the documents with grids at another place", change=anywhere
    ),
    "v2-last": Variant("v2, only the last answer is learnt", change=last_answer),
    "v2-inputs": Variant("v2, inputs are learnt too", change=inputs_too),
    **{f"{n}x{width}": size(n, width) for n, width in ((4, 384), (8, 256), (16, 192), (3, 256))},
}


class ChangedWriter(TinyWriter):
    """Writes as its vocabulary does, and then changes the document."""

    def __init__(self, style: str, change: Change) -> None:
        super().__init__(VOCABULARIES[style])
        self._change = change

    def write(
        self, pairs: Sequence[RawPair], program: str, *, max_tokens: int, rng: np.random.Generator
    ) -> TokenSequence | None:
        written = super().write(pairs, program, max_tokens=max_tokens, rng=rng)
        if written is None or program:
            return written
        return self._change(written, np.random.default_rng(int(written.ids.sum())))


def main() -> None:
    parser = bench_parser("learning", __doc__)
    parser.add_argument("--recipe", type=Path, required=True, help="a recipe with loop: fast")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of packed corpora")
    parser.add_argument(
        "--tasks", action="append", required=True, metavar="NAME=SOURCE", help="with solutions"
    )
    parser.add_argument("--variants", default="v2,v1", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", default="0", help="one training for each (default: %(default)s)")
    parser.add_argument("--tokens", type=float, default=20.0, help="millions of each training")
    parser.add_argument("--cpu-seconds", type=float, help="of each training, instead of tokens")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--out", type=Path, required=True, help="where figures are kept")
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    names, seeds = args.variants.split(","), [int(seed) for seed in args.seeds.split(",")]
    for name in names:
        print(f"{name:12} {VARIANTS[name].about}")
    for seed in seeds:
        for name in names:
            done = trained(args, name, seed)
            print(f"{name:12} seed {seed}  {row_of(done)}", flush=True)

    for tasks in args.tasks:
        source = tasks.partition("=")[0]
        print(f"\n{source}: nats a token, against {names[0]}")
        for name in names[1:]:
            print(f"  {name:12} {difference(args, source, name, names[0], seeds)}")


def trained(args: Any, name: str, seed: int) -> dict[str, Any]:
    """The figures of a training, from --out or measured now."""
    facts = [args.recipe.read_text(), args.set, args.tokens, args.cpu_seconds, args.tasks]
    path = args.out / f"{name}-seed{seed}.json"
    return kept(path, facts, lambda: training(args, VARIANTS[name], seed))


def training(args: Any, variant: Variant, seed: int) -> dict[str, Any]:
    """Train once, and judge."""
    overrides = {k: json.loads(v) for k, _, v in (s.partition("=") for s in args.set)}
    overrides |= variant.settings | {"seed": seed, "optimization.max_seconds": None}
    recipe = load_recipe(args.recipe, overrides)
    step_tokens = recipe.data.row_tokens * recipe.data.rows_per_step
    plan = recipe.optimization
    plan = plan.model_copy(
        update={
            "max_steps": 10**6
            if args.cpu_seconds
            else max(1, round(args.tokens * 1e6 / step_tokens)),
            "max_seconds": args.cpu_seconds,
            "warmup_steps": plan.warmup_steps * variant.warmup,
        }
    )

    start = make_start(recipe, device="cpu")
    stepper = FastStepper(recipe, start, parts=variant.parts(start.style))
    stream = Stream(
        partial(
            open_samplers,
            recipe,
            args.corpus,
            start.style,
            writer=ChangedWriter(start.style, variant.change),
        ),
        seed=seed,
        pass_tokens=recipe.data.row_tokens,
        max_tokens=recipe.data.document_tokens,
        pad_id=start.codec.pad_id,
    )

    state, losses = stepper.state, []
    began_s, began_cpu_s = time.perf_counter(), cpu_seconds()
    with passes_from(stream, 0, num_workers=0) as passes:
        while state.step < plan.max_steps and state.seconds < (plan.max_seconds or math.inf):
            batch = [next(passes) for _ in range(recipe.data.rows_per_step)]
            rate = learning_rate_at(state.step, plan, elapsed_s=state.seconds)
            loss, _ = stepper.step(batch, rate)
            state.seconds = cpu_seconds() - began_cpu_s
            losses.append(float(loss))

    figures: dict[str, Any] = {
        "tokens": state.tokens,
        "steps": state.step,
        "cpu_seconds": round(state.seconds, 1),
        "seconds": round(time.perf_counter() - began_s, 1),
        "parameters": sum(w.numel() for _, w in stepper.decoder.weights.named()),
        "loss": float(np.mean(losses[-50:])),
        "losses": [
            round(float(np.mean(part)), 4) for part in np.array_split(losses, min(20, len(losses)))
        ],
        "trained_tokens": recipe.data.document_tokens,
        "answers": {},
    }
    for tasks in args.tasks:
        name, _, source = tasks.partition("=")
        examination = Examination.of(
            source,
            start.style,
            max_tokens=JUDGED_TOKENS,
            pass_tokens=61440,
            pad_id=start.codec.pad_id,
        )
        scores = zip(examination.documents, examination.scores(stepper.decoder), strict=True)
        figures["answers"][name] = [
            [len(d), score.nats, score.num_tokens, score.is_exact] for d, score in scores
        ]
    return figures


def row_of(done: dict[str, Any]) -> str:
    """A training in one line."""
    text = f"{done['tokens'] / 1e6:5.1f} M tokens, {done['cpu_seconds']:6.0f} CPU s, "
    text += f"{done['parameters'] / 1e6:.2f} M parameters, loss {done['loss']:.3f}"
    for name, rows in done["answers"].items():
        scores = [AnswerScore(*row[1:]) for row in rows]
        is_within = [row[0] <= done["trained_tokens"] for row in rows]
        within = per_token([s for s, w in zip(scores, is_within, strict=True) if w])
        beyond = per_token([s for s, w in zip(scores, is_within, strict=True) if not w])
        exact = sum(s.is_exact for s in scores)
        text += f"; {name} {per_token(scores):.3f} (within {within:.3f}, beyond {beyond:.3f}), "
        text += f"{exact} of {len(scores)} exact"
    return text


def per_token(scores: Sequence[AnswerScore]) -> float:
    return sum(s.nats for s in scores) / max(1, sum(s.num_tokens for s in scores))


def difference(args: Any, tasks: str, name: str, other: str, seeds: Sequence[int]) -> str:
    """Mean over answers of the difference in nats a token, with its interval."""
    by_seed = []
    for seed in seeds:
        mine, theirs = (
            np.array([row[1] / row[2] for row in trained(args, n, seed)["answers"][tasks]])
            for n in (name, other)
        )
        by_seed.append(mine - theirs)
    values = np.mean(by_seed, axis=0)
    low, high = bootstrap(values)
    return f"{values.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
