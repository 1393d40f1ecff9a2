"""What the fast loop says of answers, against the samplers and scorers of a run.

A model learns to copy small grids. It is judged on tasks that copy and on tasks without a rule, so
that some answers are exact and some are not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.clock import SystemClock
from appliance.engine.base import ScoreRequest
from appliance.engine.registry import make_scorer
from appliance.engine.training.packing import TokenSequence
from appliance.errors import InputError
from appliance.learn.data.styles import TinyWriter
from appliance.learn.fast.datasets import open_samplers
from appliance.learn.fast.decoder import Decoder
from appliance.learn.fast.likelihood import AnswerScore, Examination, answers_of
from appliance.learn.fast.trainer import train_fast
from appliance.learn.recipe import Recipe
from appliance.learn.start import make_start
from appliance.learn.training_loop import Hooks
from appliance.models import placed, tiny
from appliance.models.vocabularies import VOCABULARIES
from tests.support.tuning import in_seconds

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

PASS_TOKENS, MAX_TOKENS = 1280, 256
NUM_COPIES, NUM_RANDOM = 12, 4


def write_tasks(folder: Path, name: str, tasks: dict[str, list[list[Any]]]) -> str:
    """Tasks as pairs of input and output, the last of each the test; the path of their file."""
    challenges = {
        task: {
            "train": [{"input": a, "output": b} for a, b in pairs[:-1]],
            "test": [{"input": pairs[-1][0]}],
        }
        for task, pairs in tasks.items()
    }
    solutions = {task: [pairs[-1][1]] for task, pairs in tasks.items()}
    (folder / f"{name}_challenges.json").write_text(json.dumps(challenges))
    (folder / f"{name}_solutions.json").write_text(json.dumps(solutions))
    return str(folder / f"{name}_challenges.json")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Tasks to learn from, and others to be judged by."""
    folder = tmp_path_factory.mktemp("tasks")
    rng = np.random.default_rng(0)

    def grid(*shape: int, num_colours: int = 10) -> Any:
        return rng.integers(0, num_colours, shape).tolist()

    def copies(num: int, *, num_colours: int) -> list[list[Any]]:
        return [[g, g] for g in (grid(2, 2, num_colours=num_colours) for _ in range(num))]

    # Of few colours, which are soon learnt; those that judge get more and more of them.
    learnt = {f"copy{i}": copies(20, num_colours=3) for i in range(20)}
    judged = {f"copy{i}": copies(4, num_colours=3 + i // 2) for i in range(NUM_COPIES)}
    judged |= {
        f"random{i}": [[grid(3, 2), grid(2, 3 + i)] for _ in range(3)] for i in range(NUM_RANDOM)
    }
    return write_tasks(folder, "learnt", learnt), write_tasks(folder, "judged", judged)


@pytest.fixture(scope="module", params=VOCABULARIES)
def judged(
    request: pytest.FixtureRequest,
    sources: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, Sequence[TokenSequence], list[AnswerScore], dict[str, float]]:
    """The stock model of a short training, the answers, and what the fast decoder says of them."""
    learnt, others = sources
    recipe = Recipe.model_validate(
        {
            "loop": "fast",
            "architecture": {
                "tokens": request.param,
                "hidden_size": 64,
                "num_layers": 2,
                "intermediate_size": 128,
                "max_positions": 512,
            },
            "precision": "float32",
            "data": {
                "row_tokens": PASS_TOKENS,
                "rows_per_step": 1,
                "max_seq_tokens": MAX_TOKENS,
                "datasets": {"copies": {"source": learnt, "min_pairs": 4, "max_pairs": 15}},
            },
            "optimization": {
                "optimizer": "muon",
                "learning_rate": 0.02,
                "warmup_steps": 10,
                "max_steps": 90,
            },
        }
    )
    start = make_start(recipe, device="cpu")
    examination = Examination.of(
        others, start.style, max_tokens=MAX_TOKENS, pass_tokens=PASS_TOKENS, pad_id=tiny.PAD
    )
    scores: list[AnswerScore] = []
    figures: dict[str, float] = {}

    def evaluate(decoder: Decoder) -> dict[str, float]:
        scores[:] = examination.scores(decoder)  # the last time counts, after training
        figures.update(examination.figures(decoder))
        return figures

    train_fast(
        recipe,
        start,
        partial(open_samplers, recipe, None, start.style),
        {},
        out=tmp_path_factory.mktemp("out"),
        clock=SystemClock(),
        hooks=Hooks(),
        evaluate=evaluate,
    )
    return start.model.eval(), examination.documents, scores, figures


Judged = tuple[Any, Sequence[TokenSequence], list[AnswerScore], dict[str, float]]


def prompt_and_answer(document: TokenSequence) -> tuple[list[int], list[int]]:
    first = int(np.flatnonzero(document.is_target)[0])
    ids = document.ids.tolist()
    return ids[:first], ids[first:]


def test_exact_answers_are_those_that_greedy_sampling_writes(judged: Judged) -> None:
    model, documents, scores, _ = judged
    written = []
    for document in documents:
        prompt, answer = prompt_and_answer(document)
        with torch.inference_mode():
            ids = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=len(answer),
                do_sample=False,
            )
        written.append(ids[0, len(prompt) :].tolist() == answer)

    assert [score.is_exact for score in scores] == written
    assert any(written[:NUM_COPIES])
    assert not any(written[NUM_COPIES:])


def test_nats_are_those_of_the_scorer(judged: Judged) -> None:
    model, documents, scores, _ = judged
    scorer = make_scorer("peft", model, pad_id=tiny.PAD, batch_tokens=4096)
    requests = []
    for document in documents:
        prompt, answer = prompt_and_answer(document)
        requests.append(ScoreRequest(tuple(prompt), (tuple(answer),)))

    logprobs = [said[0] for said in scorer.score(requests, deadline=in_seconds(60))]
    assert [score.nats for score in scores] == pytest.approx([-p for p in logprobs], abs=1e-3)
    assert [s.num_tokens for s in scores] == [len(r.answers[0]) for r in requests]


def test_figures_are_means_over_answers_and_tokens(judged: Judged) -> None:
    _, _, scores, figures = judged
    assert len(scores) == NUM_COPIES + NUM_RANDOM
    nats, num_tokens = sum(s.nats for s in scores), sum(s.num_tokens for s in scores)
    assert figures["nats_per_answer"] == pytest.approx(nats / len(scores))
    assert figures["nats_per_token"] == pytest.approx(nats / num_tokens)
    assert figures["exact"] == pytest.approx(sum(s.is_exact for s in scores) / len(scores))
    assert 0 < figures["exact"] < 1


WRITER = TinyWriter(VOCABULARIES["grid-tokens-v2"])


def test_the_answer_is_the_only_target(tmp_path: Path) -> None:
    source = write_tasks(tmp_path, "one", {"t": [[[[1, 2]], [[3]]], [[[4]], [[5, 6], [7, 8]]]]})
    (document,) = answers_of(source, WRITER, max_tokens=64)
    answer = [*placed.grid_ids(np.array([[5, 6], [7, 8]], dtype=np.int8)).tolist(), tiny.EOS]
    assert prompt_and_answer(document)[1] == answer
    assert document.is_target.sum() == len(answer)


def test_demonstrations_go_from_the_end_until_the_answer_fits(tmp_path: Path) -> None:
    """A pair of 2 x 2 grids takes 2 * 6 + 3 tokens."""
    pairs = [[[[i, 0], [0, 0]], [[i, 1], [1, 1]]] for i in range(4)]
    source = write_tasks(tmp_path, "one", {"t": pairs})

    def asked(max_tokens: int) -> list[TokenSequence]:
        return answers_of(source, WRITER, max_tokens=max_tokens)

    assert [len(d) for d in asked(61)] == [61]
    assert [len(d) for d in asked(60)] == [46]
    assert asked(60)[0].ids[:31].tolist() == asked(61)[0].ids[:31].tolist()
    assert asked(60)[0].ids[-15:].tolist() == asked(61)[0].ids[-15:].tolist()
    assert [len(d) for d in asked(31)] == [31]
    with pytest.raises(InputError, match="no answer fits 30 tokens"):
        asked(30)


def test_tasks_without_solutions_are_refused(tmp_path: Path) -> None:
    source = write_tasks(tmp_path, "one", {"t": [[[[1]], [[2]]], [[[3]], [[4]]]]})
    (tmp_path / "one_solutions.json").unlink()
    with pytest.raises(InputError, match="task t has no solution"):
        answers_of(source, WRITER, max_tokens=64)
