"""What every sampling engine must do, run on the real ones with a real tiny model on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.arc.source import load_tasks
from appliance.arc.task import Task
from appliance.engine.base import Completion, Request, Served
from appliance.solve.language import Language
from tests.support.sampling_engines import ENGINES, EngineUnderTest
from tests.support.tuning import in_seconds

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: dict[str, EngineUnderTest]) -> EngineUnderTest:
    if request.param not in engines:
        pytest.skip("vLLM is not installed")
    return engines[request.param]


@pytest.fixture
def served(engine: EngineUnderTest) -> Iterator[Served]:
    """The untrained model behind each engine."""
    with engine.serving_untrained() as served:
        assert not served.refused
        yield served


def answers(served: Served, requests: Sequence[Request]) -> dict[int, Completion]:
    batches = served.sampler.sample(requests, deadline=in_seconds(120))
    return {c.request_index: c for batch in batches for c in batch}


def greedy_by_hand(
    model: Any, prompt: tuple[int, ...], max_new_tokens: int
) -> tuple[tuple[int, ...], float]:
    """Greedy decoding without cache, padding or batch: the slow truth."""
    ids, logprob = list(prompt), 0.0
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            rows = torch.tensor([ids], device=model.device)
            logits = model(input_ids=rows, use_cache=False).logits[0, -1]
        logs = logits.float().log_softmax(-1)
        token = int(logs.argmax())
        logprob += float(logs[token])
        ids.append(token)
        if token == 2:
            return tuple(ids[len(prompt) : -1]), logprob
    return tuple(ids[len(prompt) :]), logprob


def test_greedy_answers_and_logprobs_equal_decoding_by_hand(
    engine: EngineUnderTest, served: Served, language: Language, challenges: Path
) -> None:
    prompts = [language.prompt_ids(t, 0) for t in load_tasks(str(challenges))]
    prompts = [p[: 10 + 7 * i] for i, p in enumerate(prompts)]  # of different lengths
    found = answers(served, [Request(p, max_new_tokens=12) for p in prompts])

    assert sorted(found) == list(range(len(prompts)))
    for i, prompt in enumerate(prompts):
        ids, logprob = greedy_by_hand(engine.trainer.model, prompt, 12)
        assert found[i].ids == ids
        assert found[i].logprob == pytest.approx(logprob, abs=1e-3)


def test_an_answer_ends_with_the_stop_token_or_is_not_complete(
    engine: EngineUnderTest, language: Language, task: Task
) -> None:
    """A model trained on the task stops by itself; one token of room is not enough for it."""
    with engine.serving_tuned(language, task) as served:
        requests = [Request(language.prompt_ids(task, 0), max_new_tokens=n) for n in (40, 1)]
        found = answers(served, requests)
    assert found[0].is_complete
    assert 2 not in found[0].ids
    assert found[0].num_tokens == len(found[0].ids) + 1
    assert not found[1].is_complete
    assert found[1].ids == found[0].ids[:1]


def test_the_adapter_is_what_answers(
    engine: EngineUnderTest, language: Language, task: Task, challenges: Path
) -> None:
    """Train, serve, compare with decoding by hand; then the plain model answers again."""
    prompts = [language.prompt_ids(t, 0) for t in load_tasks(str(challenges))]
    requests = [Request(p, max_new_tokens=12) for p in prompts]
    with engine.serving_untrained() as plain:
        before = {i: c.ids for i, c in answers(plain, requests).items()}
    with engine.serving_tuned(language, task) as served:
        trained = {i: c.ids for i, c in answers(served, requests).items()}
    by_hand = {i: greedy_by_hand(engine.trainer.model, p, 12)[0] for i, p in enumerate(prompts)}

    assert trained == by_hand
    assert trained != before
    with engine.serving_untrained() as plain:
        assert {i: c.ids for i, c in answers(plain, requests).items()} == before


def test_answers_do_not_depend_on_the_batch(
    engine: EngineUnderTest, language: Language, challenges: Path
) -> None:
    requests = [
        Request(language.prompt_ids(t, 0), max_new_tokens=20) for t in load_tasks(str(challenges))
    ]

    def ids(batch_tokens: int) -> dict[int, tuple[int, ...]]:
        with engine.serving_untrained(batch_tokens) as served:
            return {i: c.ids for i, c in answers(served, requests).items()}

    assert ids(80) == ids(100_000)


def test_sampling_gives_n_answers_the_same_for_the_same_seed(
    served: Served, language: Language, task: Task
) -> None:
    def sampled(seed: int) -> list[tuple[int, ...]]:
        request = Request(
            language.prompt_ids(task, 0),
            max_new_tokens=16,
            num_samples=6,
            temperature=1.0,
            seed=seed,
        )
        batches = served.sampler.sample([request], deadline=in_seconds(120))
        return sorted(c.ids for batch in batches for c in batch)

    assert len(sampled(1)) == 6
    assert len(set(sampled(1))) > 1
    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_a_tight_nucleus_is_greedy(served: Served, language: Language, task: Task) -> None:
    prompt = language.prompt_ids(task, 0)
    tight = Request(prompt, max_new_tokens=16, temperature=1.0, top_p=1e-6, seed=3)
    found = answers(served, [tight, Request(prompt, max_new_tokens=16)])
    assert found[0].ids == found[1].ids


def test_sampling_leaves_the_global_generator_alone(
    served: Served, language: Language, task: Task
) -> None:
    request = Request(
        language.prompt_ids(task, 0), max_new_tokens=4, num_samples=2, temperature=1.0
    )
    state = torch.random.get_rng_state()
    answers(served, [request])
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_past_deadline_gives_nothing_and_the_engine_goes_on(
    served: Served, language: Language, task: Task
) -> None:
    request = Request(language.prompt_ids(task, 0), max_new_tokens=500)
    assert list(served.sampler.sample([request], deadline=in_seconds(-1))) == []
    assert len(answers(served, [Request(language.prompt_ids(task, 0), max_new_tokens=3)])) == 1


def test_a_deadline_in_the_middle_cuts_off_and_the_engine_goes_on(
    served: Served, language: Language, task: Task
) -> None:
    """What is given is whole: it ended by itself, or has all the tokens that it was to have."""
    prompt = language.prompt_ids(task, 0)
    requests = [Request(prompt, max_new_tokens=2), Request(prompt, max_new_tokens=1900)]
    found = [c for b in served.sampler.sample(requests, deadline=in_seconds(0.3)) for c in b]
    cut_off = [c for c in found if not c.is_complete]

    assert [c.num_tokens for c in cut_off] == [
        requests[c.request_index].max_new_tokens for c in cut_off
    ]
    assert len(answers(served, requests[:1])) == 1
