"""Shards: every task in one of them, none empty, loads as even as the costs allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import UsageError
from appliance.sizing.balance import balance

COSTS = st.dictionaries(
    st.text("abcdef0123456789", min_size=1, max_size=8), st.floats(0, 1e6), min_size=1, max_size=60
)


@given(costs=COSTS, data=st.data())
def test_every_task_is_in_exactly_one_shard_and_no_shard_is_empty(
    costs: dict[str, float], data: st.DataObject
) -> None:
    num_shards = data.draw(st.integers(1, len(costs)))
    shards = balance(costs, num_shards)
    assert len(shards) == num_shards
    assert all(shards)
    assert sorted(t for ids in shards for t in ids) == sorted(costs)


@given(costs=COSTS, data=st.data())
def test_the_heaviest_shard_keeps_grahams_bound(
    costs: dict[str, float], data: st.DataObject
) -> None:
    num_shards = data.draw(st.integers(1, len(costs)))
    heaviest = max(sum(costs[t] for t in ids) for ids in balance(costs, num_shards))
    least = max(sum(costs.values()) / num_shards, max(costs.values()))
    assert heaviest <= sum(costs.values()) / num_shards + max(costs.values()) + 1e-6
    assert heaviest >= least - 1e-6 * max(1.0, least)


def test_dear_tasks_are_spread_where_equal_counts_would_pile_them_up() -> None:
    costs = {"a": 10.0, "b": 10.0, "c": 1.0, "d": 1.0, "e": 1.0, "f": 1.0}
    assert balance(costs, 2) == (("a", "c", "e"), ("b", "d", "f"))


@given(costs=COSTS)
def test_the_order_of_the_tasks_does_not_change_their_shard_mates(costs: dict[str, float]) -> None:
    reversed_costs = dict(reversed(costs.items()))
    num_shards = min(3, len(costs))
    assert list(map(set, balance(costs, num_shards))) == list(
        map(set, balance(reversed_costs, num_shards))
    )


@pytest.mark.parametrize("num_shards", [0, -1, 3])
def test_more_shards_than_tasks_are_refused(num_shards: int) -> None:
    with pytest.raises(UsageError, match="shards for 2 tasks"):
        balance({"a": 1.0, "b": 2.0}, num_shards)
