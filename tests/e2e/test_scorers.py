"""What every Scorer must do, run on a real tiny model, plain and adapted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.arc.source import load_tasks
from appliance.arc.task import Task
from appliance.arc.view import IDENTITY, View
from appliance.arc.vote import Candidate
from appliance.clock import Deadline
from appliance.engine.base import ScoreRequest, Tuned
from appliance.engine.folder.identity import weights_sha
from appliance.engine.load_model import load_causal_lm
from appliance.engine.registry import TRAINERS, make_scorer
from appliance.engine.training.peft_trainer import PeftTrainer
from appliance.errors import OutOfMemory
from appliance.seeds import generator
from appliance.solve.language import Language
from appliance.solve.scoring import GridScore, score_candidates
from tests.support.tuning import in_seconds, tune

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

DEVICE = os.environ.get("CONFORMANCE_DEVICE", "cpu")


@pytest.fixture(scope="module")
def adapted(
    tiny_model: Path, language: Language, task: Task, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A model with a trained adapter on."""
    model = load_causal_lm(tiny_model, dtype="float32", device=DEVICE)
    trainer = PeftTrainer(model, pad_id=0, base_sha=weights_sha(tiny_model), autocast_dtype=None)
    folder = tmp_path_factory.mktemp("adapters") / "a"
    outcome = tune(trainer, task, language, folder)
    assert isinstance(outcome, Tuned), outcome
    return trainer.model


@pytest.fixture(scope="module")
def requests(language: Language, challenges: Path) -> list[ScoreRequest]:
    """Three prompts of different lengths with five answers each, of 1 to 13 tokens."""
    rng = generator(1)
    prompts = [
        language.prompt_ids(t, 0)[: 30 + 9 * i]
        for i, t in enumerate(load_tasks(str(challenges)).tasks[:3])
    ]
    answers = tuple((*(int(x) for x in rng.integers(3, 16, n)), 2) for n in (0, 3, 12, 1, 7))
    return [ScoreRequest(p, answers) for p in prompts]


def by_hand(model: Any, request: ScoreRequest) -> list[float]:
    """One forward of prompt and answer for each answer, without cache, padding or batch."""
    found = []
    for answer in request.answers:
        ids = torch.tensor([[*request.prompt_ids, *answer]], device=DEVICE)
        with torch.inference_mode():
            logs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        begin = len(request.prompt_ids)
        found.append(sum(float(logs[begin + t - 1, token]) for t, token in enumerate(answer)))
    return found


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_scores_equal_those_by_hand_whatever_the_batch(
    trainer: str, batch_tokens: int, adapted: Any, requests: list[ScoreRequest]
) -> None:
    scorer = make_scorer(trainer, adapted, pad_id=0, batch_tokens=batch_tokens)
    found = list(scorer.score(requests, deadline=in_seconds(60)))
    for request, logprobs in zip(requests, found, strict=True):
        assert logprobs == pytest.approx(by_hand(adapted, request), abs=1e-3)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_past_deadline_gives_nothing(
    trainer: str, adapted: Any, requests: list[ScoreRequest]
) -> None:
    scorer = make_scorer(trainer, adapted, pad_id=0, batch_tokens=1000)
    assert list(scorer.score(requests, deadline=in_seconds(-1))) == []


@pytest.mark.parametrize("trainer", TRAINERS)
def test_no_room_is_out_of_memory(
    trainer: str, adapted: Any, requests: list[ScoreRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(adapted.get_decoder(), "forward", full)
    scorer = make_scorer(trainer, adapted, pad_id=0, batch_tokens=1000)
    with pytest.raises(OutOfMemory, match="score"):
        list(scorer.score(requests, deadline=in_seconds(60)))


class LengthScorer:
    """Gives every answer the number of tokens of prompt and answer, as a negative score."""

    def score(self, requests: Any, *, deadline: Deadline) -> Iterator[tuple[float, ...]]:
        for request in requests:
            yield tuple(-float(len(request.prompt_ids) + len(a)) for a in request.answers)


def scores_of(
    task: Task, said: Sequence[Candidate], views: Sequence[View], language: Language
) -> list[GridScore]:
    scorer = LengthScorer()
    return list(score_candidates([task], said, views, language, scorer, deadline=in_seconds(60)))


def test_the_distinct_answers_of_an_output_are_scored_under_every_view(
    language: Language, task: Task
) -> None:
    first, second = np.zeros((2, 3), dtype=np.int8), np.ones((1, 1), dtype=np.int8)
    said = [Candidate(task.task_id, 0, grid, -1.0, 3) for grid in (first, second, first, None)]
    views = [IDENTITY, View(turns=1)]
    scores = scores_of(task, said, views, language)
    assert [s.grid.shape for s in scores] == [(2, 3), (1, 1)]  # most votes first

    def tokens(view: View, grid: Any) -> float:
        prompt = language.prompt_ids(view.apply_task(task), 0)
        return -float(len(prompt) + language.num_answer_tokens(view.apply(grid)))

    assert [s.logprobs for s in scores] == [
        tuple(tokens(v, g) for v in views) for g in (first, second)
    ]


def test_one_answer_alone_is_not_scored(language: Language, task: Task) -> None:
    said = [Candidate(task.task_id, 0, np.zeros((2, 3), dtype=np.int8), -1.0, 3)]
    assert scores_of(task, said, [IDENTITY], language) == []


def test_a_view_that_leaves_no_room_is_left_out(language: Language, task: Task) -> None:
    narrow = replace(language, max_seq_tokens=10)
    said = [Candidate(task.task_id, 0, np.full((1, 1), n, dtype=np.int8), -1.0, 3) for n in (0, 1)]
    assert scores_of(task, said, [IDENTITY], narrow) == []
