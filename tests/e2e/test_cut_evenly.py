"""The real sampler on a real tiny model, cut off at every possible moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from appliance.arc.grid import freeze
from appliance.arc.task import Pair, Task
from appliance.arc.view import IDENTITY, sampling_views
from appliance.arc.vote import Candidate
from appliance.clock import Deadline
from appliance.engine.base import Completion, ScoreRequest
from appliance.engine.load_model import load_causal_lm
from appliance.engine.sampling.transformers_sampler import TransformersSampler
from appliance.solve.language import Language
from appliance.solve.scoring import score_candidates
from appliance.solve.transduce import in_turns, questions

pytestmark = pytest.mark.engine

NUM_VIEWS = 8


@dataclass
class TickingClock:
    """Every look at it takes a second."""

    time_s: float = 0.0

    def now(self) -> float:
        self.time_s += 1.0
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds


def task_of(name: str, sides: list[int]) -> Task:
    rng = np.random.default_rng(len(name))
    pairs = tuple(Pair(*(freeze(rng.integers(0, 10, (2, 2))) for _ in range(2))) for _ in range(3))
    return Task(name, pairs, tuple(freeze(rng.integers(0, 10, (n, n))) for n in sides))


@pytest.fixture(scope="module")
def sampler(tiny_model: Path) -> TransformersSampler:
    model = load_causal_lm(tiny_model, dtype="float32", device="cpu")
    codec = Language.of(tiny_model).codec
    return TransformersSampler(
        lambda: model, pad_id=codec.pad_id, stop_ids=codec.stop_ids, batch_tokens=1024
    )


def batches_until(
    seconds: float, sampler: TransformersSampler, language: Language, tasks: list[Task]
) -> Iterator[list[tuple[str, int]]]:
    """The outputs that each batch answered before the deadline."""
    views = sampling_views(np.random.default_rng(0), NUM_VIEWS, 3)
    asked = in_turns(
        questions(task, views, language, temperature=0, top_p=1, num_samples=1, seed=0)
        for task in tasks
    )
    deadline = Deadline(seconds, TickingClock())
    found: list[Completion]
    for found in sampler.sample([r for _, r in asked], deadline=deadline):
        answered = [asked[c.request_index][0] for c in found]
        yield [(question.task.task_id, question.test_index) for question in answered]


def test_no_output_of_a_task_is_starved_whenever_it_is_cut_off(
    sampler: TransformersSampler, language: Language
) -> None:
    tasks = [task_of("even", [3, 3]), task_of("uneven", [2, 12])]
    outputs = [(task.task_id, i) for task in tasks for i in (0, 1)]
    whole = list(batches_until(1e9, sampler, language, tasks))
    assert Counter(o for batch in whole for o in batch) == dict.fromkeys(outputs, NUM_VIEWS)
    assert len(whole) > 3
    largest = max(map(len, whole))

    reached = set()
    for seconds in range(0, 200, 7):
        done = Counter(dict.fromkeys(outputs, 0))
        for batch in batches_until(seconds, sampler, language, tasks):
            done.update(batch)
        assert max(done.values()) - min(done.values()) <= largest
        reached.add(sum(done.values()))
    assert len(reached) > 2, "the deadlines cut at different moments"


def test_samples_of_one_prompt_differ_though_they_take_several_batches(
    sampler: TransformersSampler, language: Language
) -> None:
    ((_, request),) = questions(
        task_of("one", [3]), [IDENTITY], language, temperature=1, top_p=1, num_samples=40, seed=0
    )
    batches = list(sampler.sample([request], deadline=Deadline(1e9, TickingClock())))
    assert len(batches) > 1
    texts = [tuple(c.ids for c in batch) for batch in batches]
    assert len(set(texts)) == len(texts)


class OneAtATime:
    """A scorer that reads so many prompts and is then cut off."""

    def __init__(self, num: int) -> None:
        self.num = num

    def score(
        self, requests: Sequence[ScoreRequest], *, deadline: Deadline
    ) -> Iterator[tuple[float, ...]]:
        for request in requests[: self.num]:
            yield tuple(-1.0 for _ in request.answers)


@pytest.mark.parametrize("num", [0, 1, 3, 6, 16])
def test_scores_are_cut_off_evenly_too(num: int, language: Language) -> None:
    task = task_of("scored", [3, 5])
    answers = [freeze(np.full((1, 1), colour)) for colour in (1, 2)]
    said = [Candidate(task.task_id, i, grid, -1.0, 3) for i in (0, 1) for grid in answers]
    views = sampling_views(np.random.default_rng(0), NUM_VIEWS, 3)
    deadline = Deadline(1e9, TickingClock())
    found = list(
        score_candidates([task], said, views, language, OneAtATime(num), deadline=deadline)
    )
    read = [max((len(s.logprobs) for s in found if s.test_index == i), default=0) for i in (0, 1)]
    assert sum(read) == num
    assert abs(read[0] - read[1]) <= 1
