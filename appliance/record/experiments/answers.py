"""The answers that experiments are scored against, and whether they belong to what was run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.arc.source import IDS_TOLD, load_solutions, load_tasks, read_answers
from appliance.arc.task import Solutions, TaskSet
from appliance.errors import InputError
from appliance.names import a_few
from appliance.record.rows import TaskRow


@dataclass(frozen=True)
class Answers:
    """What --solutions and --tasks name."""

    source: str  # of the answers, for messages
    solutions: Solutions
    tasks: TaskSet | None  # where they are known
    is_chosen: bool = False  # whether --tasks says which tasks count; each of them then does

    @staticmethod
    def of(source: str, tasks: str | None) -> Answers:
        """The answers to the tasks of --tasks, else all that --solutions holds.

        Raises InputError where they cannot be read or do not belong together.
        """
        if tasks is not None:
            loaded = load_tasks(tasks)
            return Answers(source, load_solutions(source, loaded), loaded, True)

        solutions, found = read_answers(source)
        return Answers(source, solutions, found)

    def check_known(self, task_ids: Iterable[str]) -> None:
        """Raises InputError where none of these tasks has an answer."""
        ids = list(task_ids)
        if not any(task_id in self.solutions for task_id in ids):
            raise InputError(
                f"{self.source}: no answers for "
                f"{', '.join(ids[:5]) or 'any task: the submission is empty'}",
                expected="the answers to the tasks of the submission",
                remedy="pass the solutions file of the same challenges",
            )

    def check_versions(self, rows: Iterable[TaskRow]) -> None:
        """Answers to another version of a task say nothing about a run. rows: its tasks.

        Raises InputError naming the task.
        """
        digests = {task.task_id: task.digest() for task in self.tasks or ()}
        for row in rows:
            answers = self.solutions.get(row.task_id)
            if answers is None:
                continue
            differs = ""
            if len(answers) != row.num_tests:
                differs = f"{len(answers)} answers, and {row.num_tests} test inputs in the run"
            elif row.digest and digests.get(row.task_id, row.digest) != row.digest:
                differs = "other grids than in the run"
            if differs:
                raise InputError(
                    f"{self.source}, task {row.task_id}: {differs}",
                    expected="the version of the task that the run was started with",
                    remedy="pass the answers, and with --tasks the tasks, of that version",
                )

    def differences(self, place: str, submission: Mapping[str, Any]) -> list[str]:
        """Tasks that only one of the two has, as sentences. place: of the submission."""
        solutions = self.solutions
        absent = [i for i in solutions if i not in submission]
        extra = [i for i in submission if i not in solutions]
        notes = []
        if absent:
            notes.append(
                f"{len(absent)} of {len(solutions)} tasks of the solutions are not in the "
                f"submission, and count as not solved: {a_few(absent, IDS_TOLD)}"
            )
        if extra:
            notes.append(
                f"{len(extra)} of {len(submission)} tasks of {place} have no answer in the "
                f"solutions, and do not count: {a_few(extra, IDS_TOLD)}"
            )
        return notes
