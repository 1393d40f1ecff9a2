"""Search above a threshold finds exactly what brute force finds, with the same probabilities."""

from __future__ import annotations

import importlib.util
import itertools
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.task import Task
from appliance.arc.view import IDENTITY, View
from appliance.clock import Deadline, SystemClock
from appliance.engine.base import Completion, Request
from appliance.solve.language import Language
from bench.job import submit_command
from tests.support.main_job import finish, journal_of, stage_rows, submission_faults
from tests.support.sampling_engines import ENGINES, EngineUnderTest, start_engines
from tests.support.tuning import SETTINGS, in_seconds

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

FOLDER_STOP = 2  # of the model that is trained here
PAD, STOP, NUM_TOKENS = 0, 1, 6
NEW_TOKENS = 4
Answers = dict[tuple[int, ...], float]
"""Log-probability of each answer, its stop token included."""


@cache
def model() -> Any:
    """A random model of six tokens, sure enough of some of them that few answers are likely."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=NUM_TOKENS,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        initializer_range=0.4,
    )
    return Qwen3ForCausalLM(config).eval()


@cache
def every_answer(prompt: tuple[int, ...]) -> Answers:
    """Of up to NEW_TOKENS tokens, each by a pass of its own without cache or padding."""
    others = [token for token in range(NUM_TOKENS) if token != STOP]
    found: Answers = {}
    for length in range(NEW_TOKENS):
        answers = [(*ids, STOP) for ids in itertools.product(others, repeat=length)]
        rows = torch.tensor([[*prompt, *answer] for answer in answers])
        with torch.inference_mode():
            logits = model()(input_ids=rows, use_cache=False).logits
        steps = logits[:, len(prompt) - 1 : -1].float().log_softmax(-1).double()
        written = steps.gather(2, rows[:, len(prompt) :, None])[..., 0].sum(1)
        found |= {a[:-1]: float(x) for a, x in zip(answers, written, strict=True)}
    return found


def searched(
    requests: Sequence[Request], *, batch_tokens: int = 4096, deadline: Deadline | None = None
) -> list[Completion]:
    from appliance.engine.sampling.transformers_sampler import TransformersSampler

    sampler = TransformersSampler(model, pad_id=PAD, stop_ids=(STOP,), batch_tokens=batch_tokens)
    batches = sampler.sample(requests, deadline=deadline or in_seconds(60))
    return [completion for batch in batches for completion in batch]


def request(prompt: tuple[int, ...], threshold: float, **more: Any) -> Request:
    return Request(prompt, NEW_TOKENS, threshold=threshold, **more)


PROMPTS = st.lists(
    st.lists(st.integers(2, NUM_TOKENS - 1), min_size=1, max_size=12).map(tuple),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(
    prompts=PROMPTS,
    threshold=st.sampled_from([0.3, 0.1, 0.03, 0.01, 0.001]),
    batch_tokens=st.sampled_from([1, 40, 4096]),
)
def test_nothing_above_is_missed_and_nothing_below_is_given(
    prompts: list[tuple[int, ...]], threshold: float, batch_tokens: int
) -> None:
    found = searched([request(p, threshold) for p in prompts], batch_tokens=batch_tokens)
    for i, prompt in enumerate(prompts):
        own = [c for c in found if c.request_index == i]
        answers = {c.ids: c.logprob for c in own if c.is_complete}
        expected = {a: x for a, x in every_answer(prompt).items() if x >= math.log(threshold)}

        # What lies on the threshold itself may fall to either side.
        edge = {a for a, x in every_answer(prompt).items() if abs(x - math.log(threshold)) < 1e-4}
        assert answers.keys() - edge == expected.keys() - edge
        for ids, logprob in answers.items():
            assert logprob == pytest.approx(every_answer(prompt)[ids], abs=1e-4)
        assert all(c.num_tokens == len(c.ids) + 1 for c in own if c.is_complete)
        assert [c.ends for c in own] == [False] * (len(own) - 1) + [True]


def test_a_search_that_finds_nothing_says_so() -> None:
    (only,) = searched([request((2, 3), 0.999)])
    assert only.ends and not only.is_complete and only.ids == ()
    assert only.logprob == pytest.approx(math.log(0.999))


def test_when_its_tokens_are_spent_the_likeliest_beginning_goes_on_alone() -> None:
    prompt = (2, 3, 4)
    whole = searched([request(prompt, 0.001)])
    few = searched([request(prompt, 0.001, most_tokens=2)])
    assert 0 < len(few) < len(whole)
    assert {c.ids for c in few} <= {c.ids for c in whole}


def test_a_request_without_threshold_is_answered_beside_those_with_one() -> None:
    greedy, *others = sorted(
        searched([Request((2, 3), NEW_TOKENS), request((2, 3), 0.01), request((4,), 0.01)]),
        key=lambda c: c.request_index,
    )
    assert greedy.request_index == 0
    assert {c.request_index for c in others} == {1, 2}


def test_at_the_deadline_comes_what_was_found() -> None:
    """The first batch is through when the time is over; the second one is cut off."""

    class Passing(SystemClock):
        def __init__(self, looks: int) -> None:
            self.looks = looks

        def now(self) -> float:
            self.looks -= 1
            return 0.0 if self.looks > 0 else 10.0

    requests = [request((2, 3, 4), 0.001), request((3, 4, 5), 0.001)]
    for looks in range(1, 12):
        clock = Passing(looks)
        found = searched(requests, batch_tokens=1, deadline=Deadline(5.0, clock))
        for i in (0, 1):
            own = [c for c in found if c.request_index == i]
            assert all(c.ids in every_answer(requests[i].prompt_ids) for c in own if c.is_complete)
            assert sum(c.ends for c in own) <= 1
    assert not any(c.ends for c in found if c.request_index == 1)


@pytest.fixture(scope="module")
def sure_engines(
    tiny_model: Path,
    language: Language,
    task: Task,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, EngineUnderTest]:
    """On a model all of whose weights learnt a task a little, so that several answers are likely:
    adapters cannot make so small a model sure of anything."""
    folder = tmp_path_factory.mktemp("sure")
    teacher = start_engines(tiny_model, folder / "teacher", has_vllm=False)["transformers"]
    all_weights = replace(SETTINGS, method="full", max_steps=100)
    teacher.tune(language, task, folder / "taught", all_weights)

    model = folder / "model"
    shutil.copytree(tiny_model, model)
    with teacher.trainer.merged() as taught:
        taught.save_pretrained(model)
    has_vllm = importlib.util.find_spec("vllm") is not None
    return start_engines(model, folder / "scratch", has_vllm=has_vllm)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch_tokens", [100, 4096])
def test_every_engine_gives_what_a_search_without_cache_and_batch_gives(
    name: str,
    batch_tokens: int,
    sure_engines: dict[str, EngineUnderTest],
    language: Language,
    task: Task,
) -> None:
    if name not in sure_engines:
        pytest.skip("vLLM is not installed")
    engine = sure_engines[name]
    views = (IDENTITY, View(turns=1), View(turns=2))
    prompts = [language.prompt_ids(view.apply_task(task), 0) for view in views]
    requests = [Request(prompt, 12, threshold=0.04) for prompt in prompts]

    with tempfile.TemporaryDirectory() as folder:
        few = replace(SETTINGS, max_steps=4)
        outcome = engine.tune(language, task, Path(folder) / "a", few)
        with engine.serving(outcome.adapter_dir, batch_tokens) as served:
            assert not served.refused
            batches = served.sampler.sample(requests, deadline=in_seconds(120))
            found = [completion for batch in batches for completion in batch]

        num_answers = 0
        for i, prompt in enumerate(prompts):
            above = above_by_hand(engine.trainer.model, prompt, 12, math.log(0.039))
            surely = {ids for ids, logprob in above.items() if logprob > math.log(0.041)}
            own = [c for c in found if c.request_index == i]
            answers = {c.ids: c.logprob for c in own if c.is_complete}
            assert surely <= answers.keys() <= above.keys()
            assert all(x == pytest.approx(above[ids], abs=1e-2) for ids, x in answers.items())
            assert [c.ends for c in own] == [False] * (len(own) - 1) + [True]
            num_answers += len(answers)
    assert num_answers > len(prompts)


def above_by_hand(
    model: Any, prompt: tuple[int, ...], max_new_tokens: int, floor: float
) -> Answers:
    """Every answer of the model in the folder whose log-probability is at least that."""
    found: Answers = {}
    begun: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    while begun:
        ids, so_far = begun.pop()
        with torch.inference_mode():
            rows = torch.tensor([[*prompt, *ids]], device=model.device)
            logits = model(input_ids=rows, use_cache=False).logits[0, -1]
        logprobs = logits.float().log_softmax(-1).double() + so_far
        for token in (logprobs >= floor).nonzero()[:, 0].tolist():
            if token == FOLDER_STOP:
                found[ids] = float(logprobs[token])
            elif len(ids) + 1 < max_new_tokens:
                begun.append(((*ids, token), float(logprobs[token])))
    return found


def test_a_run_gives_every_view_its_answers_above_the_threshold(
    challenges: Path, tmp_path: Path
) -> None:
    """With arc-mini, which is sure of what it learnt."""
    out, only = tmp_path / "out", ("copy0", "copy1")
    flags = ["--only", ",".join(only), "--budget", "90s"]
    chosen = ["sample.mode=dfs", "sample.threshold=0.05", "sample.views=4", "train.max_steps=2"]
    chosen += ["run.rounds=1", "run.workers=1", "sample.score_views=2"]
    finish(submit_command(challenges, out, *flags, settings=chosen))

    assert submission_faults(out, challenges, only) == []
    for task_id in only:
        with journal_of(out) as journal:
            answers = journal.candidates(task_id)["deep"]
        assert stage_rows(out, "deep")[task_id].status == "done"
        views = Counter(answer.view for answer in answers)
        assert len(views) == 4
        above = [a for a in answers if a.grid is not None and a.logprob >= math.log(0.05)]
        assert len(above) >= 4
        assert len({(a.view, a.grid.tobytes()) for a in above if a.grid is not None}) == len(above)
