"""A prompt of many samples is read once, into our cache; `generate` would write the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.clock import Deadline, VirtualClock
from appliance.engine.base import Completion, Request
from appliance.engine.sampling.transformers_sampler import STRETCH, TransformersSampler
from appliance.solve.language import Language

pytestmark = pytest.mark.engine
pytest.importorskip("torch")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_samples_are_those_of_generate(
    temperature: float, tiny_model: Path, language: Language, challenges: Path
) -> None:
    from appliance.engine.load_model import load_causal_lm

    model = load_causal_lm(tiny_model, dtype="float32", device="cpu", quantization="none").eval()
    prompts = [language.prompt_ids(task, 0) for task in load_tasks(str(challenges))][:3]
    prompts[0] = prompts[0][:-5]  # of different lengths
    # Rows that are done leave the batch, after which other random numbers are drawn: sampled
    # answers can only be compared where all of them have the same length.
    lengths = (8, 8, 8) if temperature else (8, STRETCH + 1, 3 * STRETCH)
    requests = [
        Request(p, max_new_tokens=length, num_samples=n, temperature=temperature)
        for n, (p, length) in enumerate(zip(prompts, lengths, strict=True), 2)
    ]
    requests.append(replace(requests[0], num_samples=1, prompt_ids=prompts[0][:-3]))

    def written(*, takes_cache: bool) -> list[Completion]:
        sampler = TransformersSampler(
            lambda: model,
            pad_id=language.codec.pad_id,
            stop_ids=language.codec.stop_ids,
            batch_tokens=1 << 14,
            takes_cache=takes_cache,
        )
        batches = sampler.sample(requests, deadline=Deadline(1.0, VirtualClock(0.0)))
        return [completion for batch in batches for completion in batch]

    once, each = written(takes_cache=True), written(takes_cache=False)
    assert len(once) == 2 + 3 + 4 + 1
    assert [(c.request_index, c.ids) for c in once] == [(c.request_index, c.ids) for c in each]
    assert [c.logprob for c in once] == pytest.approx([c.logprob for c in each], abs=1e-3)


def test_a_model_that_names_its_own_kind_of_cache_gets_that(
    tiny_model: Path, language: Language, challenges: Path
) -> None:
    from appliance.engine.load_model import load_causal_lm

    model = load_causal_lm(tiny_model, dtype="float32", device="cpu", quantization="none").eval()
    codec = language.codec
    prompt = language.prompt_ids(load_tasks(str(challenges)).tasks[0], 0)
    request = Request(prompt, max_new_tokens=8, num_samples=1)

    def written() -> list[tuple[int, ...]]:
        sampler = TransformersSampler(
            lambda: model, pad_id=codec.pad_id, stop_ids=codec.stop_ids, batch_tokens=1 << 14
        )
        batches = sampler.sample([request], deadline=Deadline(1.0, VirtualClock(0.0)))
        return [completion.ids for batch in batches for completion in batch]

    expected = written()
    model.generation_config.cache_implementation = "static"
    assert written() == expected
