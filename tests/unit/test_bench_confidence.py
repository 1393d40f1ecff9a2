"""`bench.confidence`: curves are found again, and a check sees no task that it learnt from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from appliance.arc.source import challenges_json, solutions_json
from appliance.record.confidence import Claim, Curve
from bench import confidence
from bench.confidence import Case
from tests.support.small_runs import make_run, world


def test_one_claim_an_output_is_a_logistic_curve() -> None:
    """300 of 400 right at odds of 1, 360 of 400 at odds of e: 3 to 1, and 9 to 1."""
    cases = [
        Case(
            ("t", number + 1000 * log_odds), (Claim("votes", float(log_odds)),), number < num_right
        )
        for log_odds, num_right in ((0, 300), (1, 360))
        for number in range(400)
    ]
    curve = confidence.learn(cases, ("votes",), {})["votes"]
    assert curve.bias == pytest.approx(math.log(3), abs=0.05)
    assert curve.slope == pytest.approx(math.log(9) - math.log(3), abs=0.05)


def test_what_another_source_explains_is_not_learnt_twice() -> None:
    """Votes say nothing: they are spread evenly, and every right grid was found by the search."""
    rng, cases = np.random.default_rng(0), []
    for number in range(300):
        is_right = rng.random() < 0.5
        claims = (Claim("search", 2.0 if is_right else -2.0), Claim("votes", 0.0))
        cases += [Case(("t", number), claims, bool(is_right))]
        cases += [Case(("t", number), (Claim("votes", 0.0),), False)]
    alone = confidence.learn(cases, ("votes",), {})["votes"]
    beside = confidence.learn(cases, ("votes",), {"search": Curve(0.0, 3.0)})["votes"]
    assert beside.bias < alone.bias - 2


def test_no_right_answer_and_no_answer_at_all_leave_finite_curves() -> None:
    wrong = [Case(("t", n), (Claim("votes", 1.0),), False) for n in range(50)]
    assert -20 < confidence.learn(wrong, ("votes",), {})["votes"].bias < 0
    assert confidence.learn([], ("votes",), {}) == {"votes": Curve(0.0, 1.0)}


def test_each_task_is_judged_by_curves_without_it() -> None:
    """One task in ten is full of right votes; without it, votes are never right."""
    cases = [
        Case((f"t{task}", n), (Claim("votes", 0.0),), task == 0)
        for task in range(10)
        for n in range(2)
    ]
    curves = confidence.cross_fitted(cases, {})
    assert curves["t0"]["votes"].bias < curves["t1"]["votes"].bias - 0.5


def test_it_learns_checks_keeps_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, answers = world(12)
    challenges = tmp_path / "some_challenges.json"
    challenges.write_text(challenges_json(tasks))
    (tmp_path / "some_solutions.json").write_text(solutions_json(answers))
    runs = [str(make_run(tmp_path / f"run{n}", tasks, answers, seed=n)) for n in range(3)]
    kept, picture = tmp_path / "curves.json", tmp_path / "picture.svg"

    words = ["--search", runs[0], "--programs", runs[1], "--learn-tasks", str(challenges)]
    words += ["--grids", runs[1], "--beside", runs[2], "--check-tasks", str(challenges)]
    assert confidence.main([*words, "--to", str(kept), "--picture", str(picture)]) == 0

    text = capsys.readouterr().out
    assert "| all | " in text and "vote_2 by chances" in text
    made = json.loads(kept.read_text())
    assert set(made["curves"]) == {"search", "programs", "scores", "votes"}
    assert made["curves"]["search"]["claims"] > 0 and made["made"]["day"] > "2026"
    assert picture.read_text().count("<svg") == 1
