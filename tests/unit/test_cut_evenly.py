"""What is asked first is answered first, so that a deadline leaves no test output behind."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.base import Request
from appliance.engine.sampling.batches import MAX_PADDING_RATIO
from appliance.engine.sampling.transformers_sampler import TransformersSampler
from appliance.solve.transduce import in_turns

BATCH_TOKENS = 2000


def batches_of(requests: list[Request]) -> list[list[int]]:
    no_model: Any = None
    sampler = TransformersSampler(
        lambda: no_model, pad_id=0, stop_ids=(1,), batch_tokens=BATCH_TOKENS
    )
    return list(sampler._batches(requests, range(len(requests))))


def request(num_tokens: int, *, num_samples: int = 1) -> Request:
    return Request((2,) * num_tokens, 20, num_samples=num_samples, temperature=1.0)


@given(st.lists(st.integers(10, 900), min_size=2, max_size=4), st.integers(1, 24))
def test_after_any_batch_two_outputs_differ_by_one_batch_at_most(
    lengths: list[int], num_views: int
) -> None:
    asked = in_turns([[(output, n)] * num_views for output, n in enumerate(lengths)])
    batches = batches_of([request(n) for _, n in asked])
    done = Counter(dict.fromkeys(range(len(lengths)), 0))
    largest = 0
    for batch in batches:
        done.update(asked[i][0] for i in batch)
        largest = max(largest, len(batch))
        assert max(done.values()) - min(done.values()) <= largest
    assert set(done.values()) == {num_views}


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 9)), min_size=1, max_size=30))
def test_every_row_is_in_one_batch_within_the_bounds(asked: list[tuple[int, int]]) -> None:
    requests = [request(n, num_samples=num) for n, num in asked]
    batches = batches_of(requests)
    assert Counter(i for batch in batches for i in batch) == {
        i: r.num_samples for i, r in enumerate(requests)
    }
    for batch in batches:
        lengths = [len(requests[i].prompt_ids) for i in batch]
        assert max(lengths) <= MAX_PADDING_RATIO * min(lengths) + 32
        assert len(batch) == 1 or (max(lengths) + 20) * len(batch) <= BATCH_TOKENS


def test_rows_that_are_sampled_in_another_way_are_written_apart() -> None:
    greedy, warm = Request((2,) * 9, 20), request(9, num_samples=2)
    assert batches_of([greedy, warm, greedy]) == [[0, 2], [1, 1]]
