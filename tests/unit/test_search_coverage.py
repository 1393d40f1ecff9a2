"""What a run says of its search, and when its floors hold."""

from __future__ import annotations

import pytest

from appliance.arc.vote import FIRST, SECOND, Candidate
from appliance.config import RunSettings
from appliance.record.coverage import Coverage, coverage_of
from appliance.record.journal import StageRow
from tests.support.run_world import memory_journal, tasks

TASKS = tasks(4)
IDS = TASKS.ids()
FLOORS = RunSettings(min_sampled_share=0.9)

# Summed weights of answers that the search is sure of, and not so sure of.
SURE = 2 * FIRST
LIKELY = (FIRST + SECOND) / 2


def found(task_id: str, weight: float) -> list[Candidate]:
    """An answer to every test output."""
    task = TASKS[task_id]
    return [
        Candidate(task_id, index, grid, 0.0, 0, method="search", program="p", weight=weight)
        for index, grid in enumerate(task.test)
    ]


def covered(strategy: list[str], *, searched: int, sampled: int, lost: int = 0) -> Coverage:
    """The first tasks are searched: of the first one it is sure, of the second one not, and the
    others have no answer. The last tasks are sampled."""
    journal = memory_journal(TASKS)
    journal.put_fact("strategy", strategy)
    answers = [found(IDS[0], SURE), found(IDS[1], LIKELY), [], []]
    for task_id, candidates in list(zip(IDS, answers, strict=True))[:searched]:
        journal.put_stage(StageRow(task_id, "search", "done", 2.0, {}), candidates)
    for task_id in IDS[searched : searched + lost]:
        journal.put_stage(StageRow(task_id, "search", "failed", 2.0, {"reason": "it died"}))
    for task_id in IDS[len(IDS) - sampled :]:
        sample = [Candidate(task_id, 0, TASKS[task_id].test[0], -1.0, 1)]
        journal.put_stage(StageRow(task_id, "quick", "done", 1.0, {}), sample)

    coverage = coverage_of(journal)
    journal.close()
    return coverage


def test_a_search_is_told_in_one_line() -> None:
    told = covered(["search"], searched=3, sampled=0, lost=1).lines()
    assert told[0] == "searched 3/4, given up 1, found an answer for 2, sure of 1"
    assert not any(line.startswith(("sampled", "trained")) for line in told)

    both = covered(["transduction", "search"], searched=4, sampled=2).lines()
    assert both[0] == "searched 4/4, found an answer for 2, sure of 1"
    assert both[1].startswith("sampled 2/4")
    assert covered(["transduction"], searched=0, sampled=2).lines()[0].startswith("sampled 2/4")


@pytest.mark.parametrize(
    ("strategy", "searched", "sampled", "faults"),
    [
        (["search"], 4, 0, []),
        (["search"], 3, 0, ["searched 3/4, floor 90%"]),
        # What the search is sure of needs no sample; a search makes up for nothing else.
        (["transduction", "search"], 4, 3, []),
        (["transduction", "search"], 4, 2, ["sampled 2/4, floor 90%"]),
        (["transduction", "search"], 0, 3, ["sampled 3/4, floor 90%"]),
    ],
)
def test_the_floor_of_sampled_tasks(
    strategy: list[str], searched: int, sampled: int, faults: list[str]
) -> None:
    coverage = covered(strategy, searched=searched, sampled=sampled)
    assert coverage.shortfalls(FLOORS, train_enabled=False) == faults


def test_what_a_search_is_sure_of_counts_as_settled() -> None:
    coverage = covered(["transduction", "search"], searched=4, sampled=4)
    assert (coverage.search_sure, coverage.search_alone, coverage.settled) == (1, 0, 1)
