"""`appliance selftest` passes on a whole pipeline, and fails where a stage is broken on purpose.

Slow, because arc-mini is really trained, once; all tests look at what came of it. With fewer steps
or shorter rows than these it does not always learn the tasks by heart.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.arc.encode import ParseError, get_encoder
from appliance.arc.view import View
from appliance.arc.vote import vote
from appliance.clock import VirtualClock
from appliance.engine.folder.card import model_dir, read_card
from appliance.engine.sampling.transformers_sampler import TransformersSampler
from appliance.learn import selftest
from appliance.learn.recipe import Recipe
from appliance.learn.selftest import Stage
from appliance.learn.train import train_recipe
from appliance.learn.training_loop import StepReport

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

NUM_TASKS = 2
ENCODER = type(get_encoder(read_card(model_dir("arc-mini")).encoder))
"""What writes and reads the grids of arc-mini."""


@dataclass(frozen=True)
class Done:
    """A selftest that went well: its stages by name, its recipe and its folders."""

    stages: Mapping[str, Stage]
    recipe: Recipe
    out: Path
    told: list[tuple[str, str]]  # stage and words, as they were told

    @property
    def model(self) -> Path:
        return self.out / "train" / "model"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    out = tmp_path_factory.mktemp("selftest")
    recipe = selftest.recipe_for(model_dir("arc-mini"), out, method="full", max_steps=110)
    told: list[tuple[str, str]] = []

    def tell(stage: str, words: str) -> None:
        told.append((stage, words))

    stages = selftest.all_stages(recipe, out, num_tasks=NUM_TASKS, tell=tell)
    return Done({stage.name: stage for stage in stages}, recipe, out, told)


def answered(done: Done, folder: Path | None = None) -> dict[str, bool]:
    """Which of the stages after training are good with the model of the folder."""
    tasks, solutions = selftest.easy_tasks(NUM_TASKS)
    model, language = selftest.load(done.recipe, folder or done.model)
    stages = selftest.answered(model, language, tasks, solutions)
    return {stage.name: stage.is_good for stage in stages}


def test_a_whole_pipeline_passes(done: Done) -> None:
    assert list(done.stages) == ["train", "sample", "parse", "answer", "vote", "submit"]
    assert all(stage.is_good for stage in done.stages.values()), done.stages


def test_it_says_what_it_is_at(done: Done) -> None:
    assert done.told[0] == ("train", "2 tasks by heart, in 110 steps")
    assert done.told[1][1].startswith("step 1 of 110, loss ")
    assert [stage for stage, _ in done.told if stage != "train"] == ["sample", "submit"]


def test_progress_is_told_every_few_seconds() -> None:
    told: list[str] = []
    clock = VirtualClock()
    progress = selftest.Progress(9, lambda stage, words: told.append(words), clock)
    for step in range(1, 10):
        progress.show(StepReport(step, 0.5, 1.0, 1e-3, "tasks", 100, 50.0, step / 9))
        clock.sleep(1.5)
    assert told == [f"step {step} of 9, loss 0.500" for step in (1, 4, 7)]


def test_a_training_that_does_not_learn(done: Done, tmp_path: Path) -> None:
    unmoved = {"learning_rate": 1e-9, "max_steps": 3}
    optimization = done.recipe.optimization.model_copy(update=unmoved)
    still = done.recipe.model_copy(update={"optimization": optimization})
    train_recipe(still, corpus_dir=None, out=tmp_path, display="none")
    assert not selftest.trained(tmp_path).is_good


def test_a_sampler_that_loses_answers(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TransformersSampler.sample

    def every_second(*arguments: Any, **more: Any) -> Iterator[Any]:
        for batch in whole(*arguments, **more):
            yield batch[::2]

    monkeypatch.setattr(TransformersSampler, "sample", every_second)
    assert not answered(done)["sample"]


def test_a_decoder_that_refuses(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, text: str) -> Any:
        raise ParseError("broken")

    monkeypatch.setattr(ENCODER, "decode", refuse)
    assert answered(done) == {"sample": True, "parse": False, "answer": False, "vote": False}


def test_a_decoder_that_changes_grids_in_silence(
    done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ENCODER.decode
    monkeypatch.setattr(ENCODER, "decode", lambda self, text: (whole(self, text) + 1) % 10)
    assert answered(done) == {"sample": True, "parse": True, "answer": False, "vote": False}


def test_views_that_are_not_turned_back(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(View, "invert", lambda self, grid: grid)
    assert not answered(done)["answer"]


def test_a_vote_that_takes_another_grid(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    another = np.zeros((1, 1), dtype=np.int8)

    def other_first(candidates: Any) -> Any:
        return {output: (another, *grids) for output, grids in vote(candidates).items()}

    monkeypatch.setattr("appliance.learn.examine.vote", other_first)
    assert answered(done) == {"sample": True, "parse": True, "answer": True, "vote": False}


def test_a_result_that_was_not_saved(done: Done, tmp_path: Path) -> None:
    """The files are those of a model that never trained: answers and submission both show it."""
    from appliance.learn.start import make_start, save_result

    save_result(make_start(done.recipe, device="cpu"), tmp_path / "model", done.recipe)
    assert not answered(done, tmp_path / "model")["answer"]
    shutil.rmtree(done.out / "submit")
    assert not selftest.submitted(done.recipe, tmp_path / "model", done.out).is_good
