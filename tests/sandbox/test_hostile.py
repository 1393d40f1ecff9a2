"""Every hostile program ends as it should, harms nobody and leaves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.arc.grid import to_lists
from tests.support.attacks import ATTACKS, Attack
from tests.support.cases import read_case_lines
from tests.support.sandbox_host import INPUTS, Host

GOT_THROUGH = [[7]]
# The corpus has a name of its own for a wall-clock timeout, and none for a refused call.
SAME = {"timeout": {"timeout_wall"}, "violation": {"error"}, "nondeterministic": {"ok"}}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_an_attack_of_our_own_fails(attack: Attack, host: Host) -> None:
    result = host.run(attack.source, may_time_out="timeout" in attack.ends)
    assert result.outcome in attack.ends, result
    assert GOT_THROUGH not in [g.tolist() for g in result.outputs if g is not None]
    host.assert_unharmed()


@pytest.mark.parametrize("case", read_case_lines("hostile.jsonl"), ids=lambda c: c["id"])
def test_a_program_of_the_corpus_ends_as_expected(case: dict[str, Any], host: Host) -> None:
    source, expect = case["source"], case["expect"]
    for placeholder, value in host.secrets().items():
        source = source.replace(placeholder, value)
    result = host.run(
        source, may_time_out=bool({"timeout", "timeout_wall"} & set(expect["status"]))
    )
    assert {result.outcome, *SAME.get(result.outcome, ())} & set(expect["status"]), result

    grids = [to_lists(g) for g in result.outputs if g is not None]
    assert expect.get("forbid_grid") not in grids

    if result.outcome == "ok" and expect.get("grid", "any") != "any":
        wanted = (
            [to_lists(g) for g in INPUTS]
            if expect["grid"] == "input"
            else [expect["grid"]] * len(INPUTS)
        )
        assert grids == wanted
    if result.outcome == "error":
        assert result.error and result.error.startswith(expect.get("error", ""))
    host.assert_unharmed()
