"""The overfit check: a model learns a few tasks by heart, answers included, and must then solve
them.

The steps are those of a real run: train, save, load, sample, read, vote, submit. Nothing but a
fault keeps a model from repeating six tasks that it saw a hundred times. So a fault on the way
(shifted targets, an adapter that is not applied, a decoder that turns grids, a vote upside down)
shows as a stage below its floor.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.arc.encode import get_encoder
from appliance.arc.grid import Grid
from appliance.arc.prompt import get_style
from appliance.arc.source import challenges_json, solutions_json
from appliance.arc.task import Solutions, Task
from appliance.arc.vote import Candidate
from appliance.clock import Clock, SystemClock
from appliance.engine.folder.card import read_card
from appliance.engine.folder.identity import weights_sha
from appliance.engine.load_model import load_causal_lm, open_adapter
from appliance.engine.tokens import Codec
from appliance.errors import EXIT_COVERAGE, EXIT_DONE
from appliance.learn.examine import Examiner, score
from appliance.learn.recipe import Recipe
from appliance.learn.show import NoDisplay
from appliance.learn.synth.catalogue import families_of
from appliance.learn.synth.family import make_task
from appliance.learn.train import train_recipe
from appliance.learn.training_loop import StepReport
from appliance.models.vocabularies import VOCABULARIES
from appliance.solve.language import Language

NUM_VIEWS = 4
"""Views of each test input."""

MAX_LOSS = 0.1
"""Nats per answer token at the end of the training."""

MIN_SHARE = 0.95
"""Floor of what must be right in the stages after sampling; the rest is room for unlucky views."""

BUDGET = "3m"
"""Time of the submission, which needs some ten seconds of it."""

MAX_STEPS = {"ours": 150, "others": 300}
"""Training steps after which a model knows the tasks by heart. One in a vocabulary of ours has been
trained on tasks of their kind."""

PROGRESS_S = 4.0
"""Seconds between two words on how the training goes."""

Tell = Callable[[str, str], None]
"""Called with a stage and how far it is, so that a person sees that something goes on."""


@dataclass(frozen=True)
class Stage:
    """The outcome of one step of the pipeline."""

    name: str
    share: float  # done of what the stage has to do, 0 to 1
    floor: float  # below this share the stage failed
    words: str  # what the share means, for people

    @property
    def is_good(self) -> bool:
        return self.share >= self.floor


def recipe_for(model: Path, out: Path, *, method: str, max_steps: int | None = None) -> Recipe:
    """A short training on the tasks in `out`: all pairs of a task in each document, colours kept.

    max_steps: None for MAX_STEPS.
    """
    is_tiny = speaks_ours(model)
    if max_steps is None:
        max_steps = MAX_STEPS["ours" if is_tiny else "others"]
    pairs = {
        "source": str(out / "tasks_challenges.json"),
        "min_pairs": 4,
        "max_pairs": 4,
        "keep_colours": True,
    }

    return Recipe.model_validate(
        {
            "start_from": model,
            "adaptation": {"method": method, "rank": 64, "alpha": 64},
            "data": {
                "row_tokens": 1024 if is_tiny else 4096,
                "rows_per_step": 1 if is_tiny else 2,
                "datasets": {"tasks": pairs},
            },
            "optimization": {
                "learning_rate": 2e-3 if is_tiny else 4e-4,
                "weight_decay": 0.0,
                "warmup_steps": 10,
                "decay_fraction": 0.5,
                "max_steps": max_steps,
            },
            "save_every_steps": max_steps,
            "log_every_steps": 1,
        }
    )


def speaks_ours(model: Path) -> bool:
    """Whether it is a small model in one of our own vocabularies."""
    return read_card(model).style in VOCABULARIES


def all_stages(
    recipe: Recipe, out: Path, *, num_tasks: int, tell: Tell = lambda stage, words: None
) -> Iterator[Stage]:
    """Every stage in order, each as soon as it is known."""
    max_steps = recipe.optimization.max_steps
    tell("train", f"{num_tasks} tasks by heart, in {max_steps} steps")
    tasks, solutions = easy_tasks(num_tasks)
    write_tasks(tasks, solutions, out)

    display = Progress(max_steps, tell, SystemClock())
    with few_threads(recipe):
        folder = train_recipe(recipe, corpus_dir=None, out=out / "train", display=display)
    yield trained(out / "train")

    tell("sample", f"each task under {NUM_VIEWS} views")
    model, language = load(recipe, folder)
    yield from answered(model, language, tasks, solutions)

    tell("submit", f"the same tasks by `appliance submit`, in {BUDGET} at most")
    yield submitted(recipe, folder, out)


class Progress(NoDisplay):
    """Tells every few seconds how far the training is."""

    def __init__(self, max_steps: int, tell: Tell, clock: Clock) -> None:
        super().__init__(max_steps)
        self._tell, self._clock = tell, clock
        self._told_s = -math.inf

    def show(self, line: StepReport) -> None:
        now = self._clock.now()
        if now - self._told_s >= PROGRESS_S:
            self._told_s = now
            self._tell("train", f"step {line.step} of {self._max_steps}, loss {line.loss:.3f}")


@contextmanager
def few_threads(recipe: Recipe) -> Iterator[None]:
    """One thread for a model as small as ours, which is hardly faster with more. Threads wait for
    each other, so on cores that others use too, two take three times as long as one."""
    import torch

    before = torch.get_num_threads()
    assert recipe.start_from is not None
    if speaks_ours(recipe.start_from):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def easy_tasks(num_tasks: int) -> tuple[list[Task], Solutions]:
    """The smallest tasks of the training families, one a family, with their answers."""

    def size(made: tuple[Task, tuple[Grid, ...]]) -> tuple[int, str]:
        # Answers count: their pairs are learnt too, and one large pair would not fit a document.
        task, answers = made
        return task.num_cells() + sum(grid.size for grid in answers), task.task_id

    made = [make_task(family, 0, 3) for family in families_of("train")]
    chosen = sorted(made, key=size)[:num_tasks]
    return [task for task, _ in chosen], {task.task_id: answers for task, answers in chosen}


def write_tasks(tasks: Sequence[Task], solutions: Solutions, out: Path) -> None:
    """Challenges and solutions in Kaggle's layout, for the training and for the submission."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "tasks_challenges.json").write_text(challenges_json(tasks))
    (out / "tasks_solutions.json").write_text(solutions_json(solutions))


def trained(train_out: Path) -> Stage:
    """Whether the loss came down, by the mean of the last ten steps."""
    lines = (train_out / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    loss = sum(losses[-10:]) / len(losses[-10:])

    words = (
        f"loss from {losses[0]:.3f} to {loss:.3f} nats per answer token in {len(losses)} steps, "
        f"at most {MAX_LOSS}"
    )
    return Stage("train", min(1.0, MAX_LOSS / max(loss, 1e-9)), 1.0, words)


def load(recipe: Recipe, folder: Path) -> tuple[Any, Language]:
    """The result as a submission loads it: the model's folder, or the base with the adapter."""
    assert recipe.start_from is not None
    is_lora = recipe.adaptation.method == "lora"
    base = recipe.start_from if is_lora else folder

    model = load_causal_lm(base, dtype="float32", device="cpu")
    if is_lora:
        model = open_adapter(
            model, folder, base_sha=weights_sha(base), remedy="report this: it was just trained"
        ).eval()

    card = read_card(base)
    return model, Language(
        get_style(card.style), get_encoder(card.encoder), Codec.load(folder), card.max_positions
    )


def answered(
    model: Any, language: Language, tasks: Sequence[Task], solutions: Solutions
) -> Iterator[Stage]:
    """Sampling, reading and voting, each measured on what the stage before it gave."""
    examiner = Examiner(tasks, solutions, NUM_VIEWS, 0.0, 0, keep_colours=True)
    found: list[Candidate] = list(examiner.candidates(model, language, tasks, clock=SystemClock()))
    wanted = NUM_VIEWS * sum(len(task.test) for task in tasks)
    tokens = sum(c.num_tokens for c in found)
    words = f"{len(found)} of {wanted} answers, {tokens} tokens, {NUM_VIEWS} views"
    yield Stage("sample", len(found) / wanted, 1.0, words)

    read = sum(c.grid is not None for c in found)
    words = f"{read} of {len(found)} answers are grids"
    yield Stage("parse", read / max(1, len(found)), MIN_SHARE, words)

    figures = score(found, solutions)
    words = (
        f"accuracy {figures['accuracy']:.2f}, "
        f"correct_pixels {figures['correct_pixels']:.2f} over all answers"
    )
    yield Stage("answer", figures["accuracy"], MIN_SHARE, words)

    words = f"vote_1 {figures['vote_1']:.2f}, vote_2 {figures['vote_2']:.2f}"
    yield Stage("vote", figures["vote_1"], MIN_SHARE, words)


def submitted(recipe: Recipe, folder: Path, out: Path) -> Stage:
    """The real verbs on the trained model, without training at test time: submit, then evaluate."""
    challenges, solutions = str(out / "tasks_challenges.json"), str(out / "tasks_solutions.json")
    model = ["--model", str(folder)]
    if recipe.adaptation.method == "lora":
        model = ["--model", str(recipe.start_from), "--adapter", str(folder)]

    # The model alone answers: a search would solve these tasks without it.
    settings = ["--strategy", "transduction"]
    settings += ["--set", "train.enabled=false", "--set", "sample.keep_colours=true"]
    where = ["--budget", BUDGET, "--out", str(out / "submit"), "--display", "none", "--fresh"]
    submit = _verb("submit", "--tasks", challenges, *model, *settings, *where)
    if submit.returncode not in (EXIT_DONE, EXIT_COVERAGE):
        words = f"exit code {submit.returncode}: {submit.stderr.strip()[-300:]}"
        return Stage("submit", 0.0, MIN_SHARE, words)

    evaluated = _verb("evaluate", str(out / "submit"), "--solutions", solutions, "--json")
    if evaluated.returncode != EXIT_DONE:
        return Stage("submit", 0.0, MIN_SHARE, f"evaluate: {evaluated.stderr.strip()[-300:]}")

    solved = float(json.loads(evaluated.stdout)["votes"]["vote_1"])
    words = f"vote_1 {solved:.2f} by `appliance submit` with this model"
    return Stage("submit", solved, MIN_SHARE, words)


def _verb(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance", *arguments], capture_output=True, text=True
    )
