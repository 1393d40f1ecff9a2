"""Training throughput: `appliance train` against Hugging Face Trainer with peft.

    python -m bench.train [--model DIR] [--steps 6] [--rounds 2] [--rows 8] [--padded 8]
                          [--methods lora,full]

Both train the same model on documents of the same sampler. Tokens are those of documents, padding
not counted. The baseline is what the notebooks run: LoRA by peft, Trainer with gradient
accumulation and labels on answers only. It runs once with one document a pass (their default), and
once with padded batches of eight (--padded) in random order, as a GPU with room would take them.

Each side takes its turn in every round, in one process, so that both meet the same machine. Speed
is given per CPU second of the process, because that is steady on a machine that others use too, and
per second of wall time. Start-up and the first step are left out on both sides.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.encode import get_encoder
from appliance.arc.prompt import get_style
from appliance.clock import SystemClock
from appliance.engine.environment import prepare_process
from appliance.engine.folder.card import model_dir
from appliance.engine.folder.examine import examine
from appliance.engine.tokens import Codec
from appliance.engine.training.packing import TokenSequence
from appliance.learn.data.corpus import assemble
from appliance.learn.data.documents import DocumentSampler, Mixture
from appliance.learn.data.generated import family_tasks
from appliance.learn.data.styles import make_writer
from appliance.learn.recipe import Recipe
from appliance.learn.start import make_start
from appliance.learn.training_loop import Hooks, StepReport, train
from bench.arguments import bench_parser

AIM_RATIO = 1.5
"""How many times as fast as the best baseline `appliance train` should be."""

ROW_TOKENS = 512
ROWS_PER_STEP = 8
LORA_RANK = 32


@dataclass
class Speed:
    """Speed of training, from notes taken at the end of every step."""

    # CPU seconds, wall seconds, and the tokens learnt from since the start.
    marks: list[tuple[float, float, int]] = field(default_factory=list)

    def mark(self, num_tokens: int) -> None:
        """Note the end of a step. num_tokens: learnt from since the start."""
        self.marks.append((time.process_time(), time.perf_counter(), num_tokens))

    def per_second(self) -> tuple[float, float]:
        """Tokens per CPU second and per second of wall time, the first step left out."""
        (cpu0, wall0, first), (cpu1, wall1, last) = self.marks[0], self.marks[-1]
        return (last - first) / (cpu1 - cpu0), (last - first) / (wall1 - wall0)


def main() -> None:
    parser = bench_parser("train", __doc__)
    parser.add_argument("--model", default="arc-mini", help="name or folder (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=6, help="optimizer steps of each side (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        help="how often each side takes its turn (default: %(default)s)",
    )
    parser.add_argument(
        "--rows", type=int, default=ROWS_PER_STEP, help=f"rows of {ROW_TOKENS} tokens a step"
    )
    parser.add_argument("--padded", type=int, default=8, help="documents of a padded batch")
    parser.add_argument(
        "--methods", default="lora,full", help="what is trained: lora, full (default: %(default)s)"
    )
    args = parser.parse_args()

    prepare_process()
    folder = model_dir(args.model)
    sampler = documents_of(folder)
    for method in args.methods.split(","):
        recipe = recipe_of(folder, method, args.steps, args.rows)
        sides: dict[str, Callable[[], Speed]] = {
            "appliance train": partial(ours, recipe, sampler),
            "Trainer, 1 document a pass": partial(theirs, recipe, sampler, batch_size=1),
            f"Trainer, {args.padded} padded documents": partial(
                theirs, recipe, sampler, batch_size=args.padded
            ),
        }

        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, run in sides.items():
                found[name].append(run().per_second())
        report(method, found)


def report(method: str, found: dict[str, list[tuple[float, float]]]) -> None:
    title = f"lora rank {LORA_RANK}" if method == "lora" else method
    print(f"\n{title}: tokens per CPU second (range), per second")
    medians = {name: statistics.median(cpu for cpu, _ in values) for name, values in found.items()}
    for name, values in found.items():
        cpu, wall = zip(*values, strict=True)
        print(
            f"  {name:28} {medians[name]:8,.0f} ({min(cpu):,.0f}-{max(cpu):,.0f})  "
            f"{statistics.median(wall):8,.0f}"
        )
    best = max(value for name, value in medians.items() if name.startswith("Trainer"))
    print(f"  {medians['appliance train'] / best:.2f} x the faster baseline (aim {AIM_RATIO})")


def documents_of(folder: Path) -> DocumentSampler:
    """Documents of our own families in the model's own style, as its training reads them."""
    card = examine(folder).card
    writer = make_writer(get_style(card.style), get_encoder(card.encoder), Codec.load(folder))
    return DocumentSampler(
        assemble(family_tasks(1)), writer, max_tokens=ROW_TOKENS, min_pairs=3, max_pairs=6
    )


def recipe_of(folder: Path, method: str, num_steps: int, num_rows: int) -> Recipe:
    return Recipe.model_validate(
        {
            "start_from": folder,
            "adaptation": {"method": method, "rank": LORA_RANK},
            "data": {"row_tokens": ROW_TOKENS, "rows_per_step": num_rows},
            "optimization": {"learning_rate": 1e-4, "max_steps": num_steps},
            "save_every_steps": num_steps,
            "log_every_steps": 1,
        }
    )


def ours(recipe: Recipe, sampler: DocumentSampler) -> Speed:
    speed = Speed()

    def report_step(line: StepReport) -> None:
        speed.mark(line.tokens)

    with tempfile.TemporaryDirectory() as out:
        start = make_start(recipe, device="cpu")
        mixture = Mixture([("families", sampler, 1.0)])
        train(
            recipe,
            start,
            mixture,
            {},
            out=Path(out),
            clock=SystemClock(),
            hooks=Hooks(report=report_step),
        )
    return speed


def theirs(recipe: Recipe, sampler: DocumentSampler, *, batch_size: int) -> Speed:
    """Train by Trainer. A step has as many documents as one of ours, in passes of batch_size."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    num_steps = recipe.optimization.max_steps
    step_tokens = recipe.data.row_tokens * recipe.data.rows_per_step
    start = make_start(recipe, device="cpu")

    # As many documents in a step as fill its rows on average, in whole passes.
    rng = np.random.default_rng(0)
    mean_tokens = statistics.mean(len(sampler.document(rng)) for _ in range(50))
    per_step = max(batch_size, round(step_tokens / mean_tokens) // batch_size * batch_size)
    documents = [sampler.document(rng) for _ in range(num_steps * per_step)]
    speed = Speed()

    class Mark(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            speed.mark(sum(map(len, documents[: state.global_step * per_step])))

    with tempfile.TemporaryDirectory() as out:
        plan = TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=per_step // batch_size,
            max_steps=num_steps,
            learning_rate=1e-4,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            bf16=start.autocast_dtype == "bfloat16",
            logging_strategy="no",
        )
        trainer = Trainer(
            model=start.model,
            args=plan,
            train_dataset=documents,
            data_collator=lambda batch: padded(batch, start.codec.pad_id, torch),
            callbacks=[Mark()],
        )
        trainer.train()
    return speed


def padded(batch: list[TokenSequence], pad_id: int, torch: Any) -> dict[str, Any]:
    """A batch padded on the right to its longest document, with labels on answers only.

    That is what completion-only collators give.
    """
    width = max(map(len, batch))
    ids = torch.full((len(batch), width), pad_id)
    labels = torch.full((len(batch), width), -100)
    mask = torch.zeros((len(batch), width), dtype=torch.long)

    for row, document in enumerate(batch):
        size = len(document)
        ids[row, :size] = torch.from_numpy(document.ids.astype(np.int64))
        labels[row, :size] = torch.from_numpy(
            np.where(document.is_target, document.ids, -100).astype(np.int64)
        )
        mask[row, :size] = 1

    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


if __name__ == "__main__":
    main()
