"""`bench.selectors`: stored answers of two runs, voted on by every selector."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.arc.grid import Grid, as_grid
from appliance.arc.source import challenges_json, solutions_json
from appliance.arc.submission import build, write_submission
from appliance.arc.task import Pair, Task, TaskSet
from appliance.arc.vote import SELECTORS, Candidate
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder
from bench import selectors

RIGHT, WRONG, OTHER = as_grid([[1]]), as_grid([[2]]), as_grid([[3]])
PAIR = Pair(as_grid([[4]]), as_grid([[5]]))
TASKS = TaskSet("two", tuple(Task(name, (PAIR,), (as_grid([[6]]),)) for name in ("a", "b")))


def answer(task_id: str, grid: Grid, score: float) -> Candidate:
    return Candidate(task_id, 0, grid, -1.0, 1, view_scores=(score, score))


def run_with(out: Path, candidates: list[Candidate]) -> Path:
    folder = RunFolder(out)
    folder.run.mkdir(parents=True)
    journal = Journal(folder.journal)
    journal.put_tasks(TASKS)
    for task in TASKS:
        mine = [c for c in candidates if c.task_id == task.task_id]
        journal.put_stage(StageRow(task.task_id, "deep", "done", 1.0, {}), mine)
    journal.close()
    write_submission(folder.submission, build(TASKS, {}))
    folder.report.write_text('{"coverage": {}}')
    return out


@pytest.fixture
def challenges(tmp_path: Path) -> str:
    path = tmp_path / "two_challenges.json"
    path.write_text(challenges_json(TASKS))
    solutions = solutions_json({task.task_id: (RIGHT,) for task in TASKS})
    (tmp_path / "two_solutions.json").write_text(solutions)
    return str(path)


def test_every_selector_votes_on_the_answers_of_each_run(
    tmp_path: Path, challenges: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Task a: the right grid is the least voted for, and the likeliest. Task b: the first run does
    # not have it.
    voted = [answer("a", WRONG, -5.0)] * 3 + [answer("a", OTHER, -6.0)] * 2
    one = run_with(tmp_path / "one", [*voted, answer("a", RIGHT, -1.0), answer("b", WRONG, -1.0)])
    two = run_with(tmp_path / "two", [answer("a", RIGHT, -1.0), answer("b", RIGHT, -1.0)])

    assert selectors.main([str(one), str(two), "--tasks", challenges]) == 0
    text = capsys.readouterr().out
    titles = [line for line in text.splitlines() if "2 tasks" in line]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [title.split("answers for ")[1].split(" ")[0] for title in titles] == [
        *("50.0%", "100.0%", "100.0%")
    ]
    assert len(rows) == 3 * len(SELECTORS)

    def cells(name: str, number: int) -> list[str]:
        found = [row for row in rows if row.startswith(f"| `{name}`")][number]
        return [cell.split(" [")[0].strip() for cell in found.split("|")[2:-1]]

    assert cells("programs-first", 0) == ["50.0%", "", "50.0%", ""]
    assert cells("votes-only", 0) == ["0.0%", "-50.0%", "0.0%", "-50.0%"]
    assert cells("votes-only", 1) == ["100.0%", "+0.0%", "100.0%", "+0.0%"]
    assert "0 more 1 less |" in next(row for row in rows if row.startswith("| `votes-only`"))
    # The right answer to a stands in both runs, and votes once.
    assert cells("votes-only", 2) == ["50.0%", "-50.0%", "50.0%", "-50.0%"]


def test_tasks_without_solutions_are_refused(tmp_path: Path, challenges: str) -> None:
    (tmp_path / "two_solutions.json").unlink()
    with pytest.raises(SystemExit, match="no solutions"):
        selectors.main([str(tmp_path), "--tasks", challenges])
