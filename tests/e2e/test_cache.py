"""The growing cache holds what Transformers' own holds, whatever is done to it between steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

BETWEEN: list[Callable[[Any], None]] = [
    lambda layer: layer.batch_select_indices(torch.tensor([2, 0, 0])),
    lambda layer: layer.batch_repeat_interleave(2),
    lambda layer: layer.reorder_cache(torch.tensor([1, 0, 3, 2, 5, 4])),
    lambda layer: layer.crop(-3),
    lambda layer: layer.batch_select_indices(torch.tensor([5])),
]


def test_it_holds_what_the_one_of_transformers_holds() -> None:
    from transformers.cache_utils import DynamicLayer

    from appliance.engine.sampling.kv_cache import STRIDE, growing_layer

    torch.manual_seed(0)
    ours, theirs = growing_layer()(), DynamicLayer()
    num_rows = 3
    for change in [None, *BETWEEN]:
        if change is not None:
            change(ours)
            change(theirs)
            num_rows = theirs.keys.shape[0]
        for width in (5, *[1] * (STRIDE + 7), STRIDE, 1):
            keys, values = torch.randn(num_rows, 2, width, 4), torch.randn(num_rows, 2, width, 4)
            held, expected = ours.update(keys, values), theirs.update(keys, values)
            assert all(torch.equal(a, b) for a, b in zip(held, expected, strict=True))
            assert ours.get_seq_length() == theirs.get_seq_length()


def test_layers_that_hold_a_window_stay_as_they_are() -> None:
    from transformers import Qwen3Config
    from transformers.cache_utils import DynamicSlidingWindowLayer

    from appliance.engine.sampling.kv_cache import growing_cache, growing_layer

    config = Qwen3Config(
        num_hidden_layers=2,
        layer_types=["full_attention", "sliding_attention"],
        use_sliding_window=True,
        sliding_window=8,
    )
    kinds = [type(layer) for layer in growing_cache(config).layers]
    assert kinds == [growing_layer(), DynamicSlidingWindowLayer]
