"""Scores of answers reach the candidates that say them, and stay with them in the journal."""

from __future__ import annotations

from pathlib import Path

from appliance.arc.grid import as_grid, to_lists
from appliance.arc.vote import Candidate
from appliance.record.journal import Journal, StageRow
from appliance.solve.messages import Scored, parse_event

A, B = as_grid([[1, 2]]), as_grid([[1], [2]])


def said(grid: object, *, task_id: str = "t", test_index: int = 0) -> Candidate:
    return Candidate(task_id, test_index, grid, -1.0, 3, view="identity")  # type: ignore[arg-type]


def test_only_candidates_with_that_answer_to_that_output_get_the_scores() -> None:
    event = Scored(job_id=1, task_id="t", test_index=0, grid=to_lists(A), logprobs=[-1.5, -2.5])
    others = [said(B), said(None), said(A, test_index=1), said(A, task_id="u")]
    marked = event.on([said(A), *others])
    assert [c.view_scores for c in marked] == [(-1.5, -2.5), (), (), (), ()]
    assert marked[1:] == others


def test_the_event_is_read_back_from_its_line() -> None:
    event = Scored(job_id=1, task_id="t", test_index=0, grid=[[1]], logprobs=[-0.5])
    assert parse_event(event.model_dump_json()) == event


def test_the_journal_keeps_the_scores(tmp_path: Path) -> None:
    given = Scored(job_id=1, task_id="t", test_index=0, grid=to_lists(A), logprobs=[-1.5]).on(
        [said(A), said(B)]
    )
    journal = Journal(tmp_path / "journal.sqlite")
    journal.put_stage(StageRow("t", "deep", "done", 1.0, {}), given)
    assert journal.candidates() == {"deep": given}
    journal.close()
