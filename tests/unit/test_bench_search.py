"""What the bench of the search counts, and the order that is learnt from it."""

from __future__ import annotations

from appliance.program.dsl.base import FORMS
from appliance.search.calls import catalogue, learnt_changes
from bench.search_costs import LEAST, MOST, count_uses, learn

VIEW = "original, grid = grid, swap(grid, background(grid), 0)\n    return swap({}, original, 0)"


def answer(program: str, weight: float, *, right: bool = True) -> dict[str, object]:
    return {"program": program, "weight": weight, "right": right, "kind": "exact"}


def test_right_programs_share_their_task_by_weight_and_lines_of_views_do_not_count() -> None:
    rows = [
        {"answers": [answer("return trim(grid)", 0.3), answer("return flip_h(trim(grid))", 0.1)]},
        {"answers": [answer("return flip_v(grid)", 0.5, right=False)]},
        {"answers": [answer(VIEW.format("trim(grid)"), 0.2), answer("", 0.4)]},
    ]
    uses, num_tasks = count_uses(rows, ["trim", "flip_h", "flip_v", "swap"])

    assert num_tasks == 2
    assert uses == {"trim": 2.0, "flip_h": 0.25}


def test_what_is_called_often_comes_earlier_and_nothing_leaves_its_bounds() -> None:
    marked = {"often": 1.0, "never": 1.0, "free": 0.0, "rare": 2.0}
    changes = learn({"often": 300.0}, marked)

    assert changes["often"] < 0 < changes["never"]
    assert "free" not in changes  # what costs next to nothing keeps its mark
    assert all(LEAST <= marked[name] + change <= MOST for name, change in changes.items())


def test_the_table_that_ships_names_functions_that_the_search_has() -> None:
    known = {function.__name__ for function in FORMS}
    assert set(learnt_changes()) <= known
    assert len(learnt_changes()) > 100


def test_learnt_costs_put_calls_in_order_and_leave_the_weight_to_the_marks() -> None:
    for calls in catalogue([1, 2]).values():
        assert [c.order for c in calls] == sorted(c.order for c in calls)
        for call in calls:
            assert abs(call.order - call.cost - learnt_changes().get(call.function, 0.0)) < 1e-9
