"""Where answers come from, and the table of it that closes a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.arc.grid import Grid, freeze
from appliance.arc.vote import Candidate
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder
from appliance.record.standing import SOURCES_FACT, source_of, standing_of
from appliance.run.rehearsal.fake_pool import ImaginedCosts
from appliance.run.rehearsal.faults import NO_FAULTS
from appliance.run.rehearsal.rehearsal import Crew, rehearse
from appliance.run.screen.closing import closing_lines, report_lines
from appliance.run.screen.worker_text import facts_text
from tests.support.run_world import costs, memory_journal, settings, tasks

ONE, TWO = (freeze(np.full((2, 2), colour)) for colour in (1, 2))


def searched(grid: Grid, weight: float, program: str = "p") -> Candidate:
    return Candidate("t", 0, grid, 0.0, 0, method="search", program=program, weight=weight)


def written(grid: Grid, adapter: str = "", *, demo_score: float | None = None) -> Candidate:
    return Candidate("t", 0, grid, -1.0, 4, view="v", adapter=adapter, demo_score=demo_score)


@pytest.mark.parametrize(
    ("answers", "source"),
    [
        ([written(ONE, "a"), searched(ONE, 0.6)], "search"),
        ([searched(ONE, 0.6, program="")], "cells"),
        ([written(ONE, "a"), written(ONE), searched(ONE, 0.001)], "trained"),
        ([written(ONE)], "plain"),
        ([searched(ONE, 0.001)], "search"),
        ([searched(ONE, 0.6), written(ONE, demo_score=1.0)], "program"),
        ([searched(TWO, 0.6), written(ONE)], "plain"),
    ],
)
def test_the_most_trusted_one_that_gives_a_grid_is_its_source(
    answers: list[Candidate], source: str
) -> None:
    assert source_of([(ONE, TWO)], answers) == source


def test_a_task_is_as_certain_as_its_least_certain_test_output() -> None:
    alone = standing_of("t", 1, {"search": [searched(ONE, 0.6)]}, "programs-first")
    assert alone.source == "search" and 0.5 < alone.chance < 1.0
    half = standing_of("t", 2, {"search": [searched(ONE, 0.6)]}, "programs-first")
    assert (half.source, half.chance, half.attempts[1]) == ("guess", 0.0, ())


def test_the_closing_table_counts_tasks_solved_ones_and_the_time_of_workers() -> None:
    task_set = tasks(4)
    first, second, third, _ = task_set.ids()
    journal = memory_journal(task_set)
    journal.put_fact(SOURCES_FACT, {first: "search", second: "trained", third: "trained"})
    for task_id, stage, seconds in (
        *((first, "search", 2.0), (second, "search", 3.0), (second, "quick", 1.0)),
        *((second, "train", 60.0), (second, "deep", 100.0), (third, "deep", 20.0)),
    ):
        journal.put_stage(StageRow(task_id, stage, "done", seconds))

    assert closing_lines(journal, [first, second]) == [
        "answers from   tasks  solved  workers' time",
        "search             1       1          2.0 s",
        "trained model      2       1     2 min 04 s",
        "guess              1       0          0.0 s",
        "all                4       2     2 min 06 s",
    ]
    assert closing_lines(journal, None)[-1] == "all                4     2 min 06 s"
    journal.close()


def test_without_the_sources_all_are_guesses() -> None:
    """A journal that was meddled with, or whose run was killed before its end."""
    journal = memory_journal(tasks(2))
    journal.put_fact(SOURCES_FACT, {"task0000": "nonsense"})
    assert closing_lines(journal, None)[1].split() == ["guess", "2", "0.0", "s"]
    journal.close()


def test_the_way_to_the_page_can_be_pasted() -> None:
    lines = report_lines(RunFolder(Path("out/my run")))
    assert lines[-1].endswith("appliance report 'out/my run' --out 'out/my run/run/report.html'")


def test_a_worker_says_what_it_loaded_in_words() -> None:
    facts = {
        "parameters": 494_032_768,
        "style": "grid-tokens-v1",
        "max_seq_tokens": 8192,
        "torch": "2.9.0+cpu",
        "engine": "transformers",
    }
    assert facts_text(facts) == (
        "494 M parameters, style grid-tokens-v1, up to 8,192 tokens, sampled by transformers, "
        "torch 2.9.0+cpu"
    )
    assert facts_text({}) == "nothing to say"


def test_a_run_leaves_the_source_of_every_answer_in_its_journal(tmp_path: Path) -> None:
    task_set, path = tasks(3), tmp_path / "journal.sqlite"
    chosen = settings(200)
    true = ImaginedCosts(costs(task_set, step_s=0.02, view_s=0.05), chosen, load_s=2.0)
    crew = Crew(chosen, true, num_workers=1)
    rehearse(task_set, crew, budget_s=200, faults=NO_FAULTS, journal_path=path)

    journal = Journal(path)
    assert journal.fact(SOURCES_FACT) == dict.fromkeys(
        task_set.ids(), "plain"
    )  # imagined: no adapter
    journal.close()
