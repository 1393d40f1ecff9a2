"""Programs on real tasks in the real sandbox.

Trials, agreement, hindsight relabelling, and the choice of programs to learn from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from appliance.arc.grid import as_grid, same_grid, to_lists
from appliance.arc.task import Pair, Task
from appliance.arc.view import IDENTITY, View
from appliance.clock import Deadline, VirtualClock
from appliance.program.relabel import pick, relabel
from appliance.program.sandbox import Sandbox
from appliance.program.source import runnable
from appliance.program.trial import Draft, Trial, agreed, run_drafts

FLIP = Task(
    "flip",
    (
        Pair(as_grid([[1, 2], [0, 0]]), as_grid([[2, 1], [0, 0]])),
        Pair(as_grid([[5, 5], [3, 5]]), as_grid([[5, 5], [5, 3]])),
    ),
    (as_grid([[7, 0], [0, 0]]),),
)
NEVER = Deadline(1.0, VirtualClock(0.0))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as sandbox:
        yield sandbox


def draft(body: str, view: View = IDENTITY, logprob: float = -1.0) -> Draft:
    return Draft(
        FLIP, view, body, runnable(body, "body") if body else "", logprob=logprob, num_tokens=1
    )


def trials(sandbox: Sandbox, *bodies: str, view: View = IDENTITY) -> list[Trial]:
    return list(run_drafts([draft(body, view) for body in bodies], sandbox, deadline=NEVER))


def test_a_program_runs_on_the_task_as_its_view_shows_it_and_is_turned_back(
    sandbox: Sandbox,
) -> None:
    view = View(turns=1, colours=(3, 4, 5, 6, 7, 8, 9, 0, 1, 2))
    (trial,) = trials(sandbox, "return flip_v(grid)", view=view)
    assert trial.fits and trial.demo_score == trial.similarity == 1.0
    (answer,) = trial.test
    assert answer is not None and to_lists(answer) == [[0, 7], [0, 0]]


def test_failures_are_results(sandbox: Sandbox) -> None:
    found = trials(sandbox, "return grid / 0", "", "while True: pass", "return grid")
    outcomes = {t.draft.answer: t.outcome for t in found}
    assert outcomes == {
        "": "no_code",
        "return grid / 0": "bad_output",
        "while True: pass": "timeout",
        "return grid": "ok",
    }
    assert [t.is_valid for t in found] == [False, False, False, True]
    assert [t.demo_score for t in found] == [0.0, 0.0, 0.0, 0.0]


def test_equal_drafts_run_once_and_each_has_its_trial(sandbox: Sandbox) -> None:
    found = trials(sandbox, "return flip_h(grid)", "return grid", "return flip_h(grid)")
    assert [t.fits for t in found] == [True, True, False]


def test_a_program_that_fits_by_its_seed_alone_does_not_count(sandbox: Sandbox) -> None:
    lucky = "import random\nreturn flip_h(grid) if random.Random().randrange(10) == 5 else grid"
    unsteady = [t for n in range(10) for t in trials(sandbox, lucky.replace("== 5", f"== {n}"))]
    assert "nondeterministic" in {t.outcome for t in unsteady}
    assert not any(t.fits and t.outcome != "ok" for t in unsteady)


def test_two_different_programs_must_agree(sandbox: Sandbox) -> None:
    one, same, other, rival = trials(
        sandbox,
        "return flip_h(grid)",
        "return flip_h( grid )",
        "return rot180(flip_v(grid))",
        "return flip_h(grid) if count(grid, 7) == 0 else grid",
    )

    assert not agreed([one]) and not agreed([one, same]) and not agreed([one, rival])
    assert agreed([one, rival, other])


def test_a_relabelled_program_is_right_for_its_own_outputs(sandbox: Sandbox) -> None:
    view = View(turns=2, order=(1, 0))
    (trial,) = trials(sandbox, "return rot90(grid)", view=view)
    assert trial.demo_score == 0.0

    solved = relabel(trial)
    assert solved.answer == "return rot90(grid)"
    for shown, pair in zip((1, 0), solved.task.train, strict=True):
        assert same_grid(pair.input, view.apply(FLIP.train[shown].input))
        assert np.array_equal(pair.output, np.rot90(pair.input, -1))


def test_the_best_different_programs_are_picked(sandbox: Sandbox) -> None:
    found = trials(
        sandbox,
        "return grid",
        "return flip_h(grid)",
        "return flip_h(grid)  ",
        "return grid / 0",
        "return rot90(grid)",
    )
    picked = pick(found, 2, is_diverse=False)

    assert picked[0].draft.answer.startswith("return flip_h(grid)") and len(picked) == 2
    assert len(pick(found, 9, is_diverse=False)) == 3


def test_diversity_prefers_outputs_that_are_new(sandbox: Sandbox) -> None:
    half = "return {} if count(grid, 1) else grid"
    found = trials(
        sandbox,
        half.format("flip_h(grid)"),
        half.format("rot180(flip_v(grid))"),
        "return recolour(rot90(grid), 5, 4)",
    )
    by_score = [t.draft.answer for t in pick(found, 2, is_diverse=False)]
    diverse = [t.draft.answer for t in pick(found, 2, is_diverse=True)]
    new = found[2].draft.answer

    assert new not in by_score and new in diverse


def test_of_equals_the_one_that_the_model_held_less_likely_teaches(sandbox: Sandbox) -> None:
    drafts = [
        draft("return flip_v(grid)", logprob=-1.0),
        draft("return rot180(grid)", logprob=-5.0),
    ]
    found = list(run_drafts(drafts, sandbox, deadline=NEVER))

    assert [t.demo_score for t in found] == [0.0, 0.0]
    for is_diverse in (False, True):
        assert [t.draft.logprob for t in pick(found, 2, is_diverse=is_diverse)] == [-5.0, -1.0]
