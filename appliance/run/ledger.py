"""What is known so far: outcomes go into the journal, candidates into the vote, and what the vote
chose into the submission."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from appliance.arc.grid import Grid
from appliance.arc.task import Task, TaskSet
from appliance.arc.vote import Candidate, Output
from appliance.clock import Clock
from appliance.engine.base import Cause
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal, StageRow
from appliance.record.rows import as_kept
from appliance.record.standing import source_of
from appliance.run.schedule.certainty import Certainty, TaskVotes, is_found
from appliance.run.schedule.task_state import Assignment
from appliance.solve.messages import KnownProgram, ProgramMessage, Searched, Trained, Wrote

WRITE_EVERY_S = 1.0
"""Seconds between two writes of the submission, at least."""

WRITE_SHARE = 0.03
"""Share of the time that writing may take: a slow disk gets fewer writes, not a slower run."""

Attempts = Mapping[Output, tuple[Grid, ...]]
"""Up to two grids for every test output that has any."""


@dataclass(frozen=True)
class Outcome:
    """What a job gave for one of its tasks."""

    status: str  # done, partial or failed
    candidates: Sequence[Candidate] = ()
    programs: Sequence[ProgramMessage] = ()
    trained: Trained | None = None
    wrote: Wrote | None = None
    searched: Searched | None = None
    seconds: float = 0.0
    worker: int | None = None  # who worked on it
    reason: str | None = None  # why there is nothing, or not everything; this and the next
    cause: Cause | None = None
    how: str = ""  # the way in which the grids were sampled, such as "vllm merged"
    refused: Sequence[str] = ()  # other ways that were tried before, each with its fault


class Ledger:
    """Bookkeeping from outcomes to the submission."""

    def __init__(
        self,
        tasks: TaskSet,
        journal: Journal,
        *,
        selector: str,
        clock: Clock,
        write: Callable[[Callable[[], Attempts]], None],
    ) -> None:
        """write: puts a submission in place, whole or not at all, with the attempts that it is
        given a function for: whoever needs them not at each write, need not pay for the vote.
        """
        self._tasks = tasks
        self._journal = journal
        self._selector = selector
        self._clock = clock
        self._write = write
        self._attempts: dict[Output, tuple[Grid, ...]] = {}
        self._sources: dict[str, str] = {}  # of the attempts, by task
        # Of the vote over all deep rounds, by task; without tasks that have no candidate of these.
        self.certainties: dict[str, Certainty] = {}
        self.found: set[str] = set()  # tasks whose answer a search without a model is sure of
        self._written_s = float("-inf")
        self.slowest_write_s = 0.0

        # The journal's candidates by task, stage and round: to read all of a task anew after each
        # of its rounds would cost more than the rest of this process.
        by_id = {task.task_id: task for task in tasks}
        self._num_tests = {task.task_id: len(task.test) for task in tasks}
        self._found: dict[str, dict[tuple[str, int], list[Candidate]]] = {t: {} for t in by_id}
        self._votes: dict[str, TaskVotes] = {}  # of the deep rounds, by task
        self._unvoted: set[str] = set()  # tasks with new candidates since the last vote

        known: dict[tuple[str, str, int], list[Candidate]] = {}
        for stage, number, candidate in journal.candidate_rows():
            known.setdefault((candidate.task_id, stage, number), []).append(candidate)
        for (task_id, stage, number), candidates in known.items():
            if task_id in by_id:
                self._take(by_id[task_id], stage, number, candidates)
        self._is_dirty = True  # written once in any case

    def put(self, assignment: Assignment, task: Task, outcome: Outcome) -> None:
        """Note the outcome. Candidates of an earlier try at the same stage and round are replaced
        if there are new ones."""
        rung, number, now_s = {"rung": assignment.rung}, assignment.round, self._clock.now()
        if outcome.trained is not None:
            trained = outcome.trained
            detail = trained.model_dump(exclude={"event", "job_id", "task_id", "seconds"}) | rung
            status = "done" if trained.reason is None else "failed"
            self._journal.put_stage(
                StageRow(task.task_id, "train", status, trained.seconds, detail, number, now_s)
            )

        if outcome.wrote is not None:
            wrote = outcome.wrote
            detail = wrote.model_dump(include={"is_agreed", "epochs"})
            self._journal.put_stage(
                StageRow(task.task_id, "programs", "done", wrote.seconds, detail, number, now_s)
            )

        told = {
            "worker": outcome.worker,
            "reason": outcome.reason,
            "cause": outcome.cause,
            "how": outcome.how,
            "refused": list(outcome.refused),
        }
        detail = {name: value for name, value in told.items() if value not in (None, "", [])}
        if outcome.searched is not None:
            detail |= outcome.searched.model_dump(exclude={"event", "job_id", "task_id", "seconds"})
        elif assignment.stage != "search":
            detail |= rung
        row = StageRow(
            task.task_id, assignment.stage, outcome.status, outcome.seconds, detail, number, now_s
        )
        self._journal.put_stage(row, outcome.candidates, outcome.programs)

        if outcome.candidates:
            kept = [as_kept(candidate, len(task.test)) for candidate in outcome.candidates]
            found = [candidate for candidate in kept if candidate is not None]
            self._take(task, assignment.stage, number, found)
            self._is_dirty = True

    def known_programs(self, task_id: str, limit: int) -> list[KnownProgram]:
        """The task's best valid programs so far, each text once.

        Best are those that get most demonstrations right.
        """
        valid = [
            p
            for found in self._journal.programs(task_id).values()
            for p in found
            if p.outcome == "ok"
        ]
        unique = {(p.view, p.answer): p for p in sorted(valid, key=lambda p: p.demo_score)}
        best = list(unique.values())[::-1][:limit]
        return [KnownProgram.of(p) for p in best]

    def _take(self, task: Task, stage: str, number: int, candidates: list[Candidate]) -> None:
        """Count these candidates instead of those that the stage gave before in that round."""
        rounds = self._found[task.task_id]
        is_anew = rounds.pop((stage, number), None) is not None
        rounds[stage, number] = candidates  # the latest are last, as in the journal
        self._unvoted.add(task.task_id)

        if stage == "search" and is_found(task, candidates):
            self.found.add(task.task_id)
        if stage == "deep":
            if is_anew:
                self._votes[task.task_id] = TaskVotes(task, self._by_stage(task.task_id)["deep"])
            else:
                self._votes.setdefault(task.task_id, TaskVotes(task)).add(candidates)
            self.certainties[task.task_id] = self._votes[task.task_id].certainty()

    def _by_stage(self, task_id: str) -> dict[str, list[Candidate]]:
        """The candidates of a task, all rounds of a stage together."""
        found: dict[str, list[Candidate]] = {}
        for (stage, _), candidates in self._found[task_id].items():
            found.setdefault(stage, []).extend(candidates)
        return found

    def attempts(self) -> Attempts:
        """What the vote chooses now."""
        for task_id in sorted(self._unvoted):
            by_stage = self._by_stage(task_id)
            voted = attempts_of(by_stage, self._selector)
            self._attempts |= voted
            grids = [voted.get((task_id, index), ()) for index in range(self._num_tests[task_id])]
            answers = [c for found in by_stage.values() for c in found]
            self._sources[task_id] = source_of(grids, answers)
        self._unvoted.clear()
        return self._attempts

    def sources(self) -> Mapping[str, str]:
        """Where the first attempt of each task comes from, see `record.standing`; without tasks
        that have nothing but a guess."""
        self.attempts()
        return self._sources

    def write(self) -> None:
        """Write the whole submission as it stands, if anything is new.

        Outputs without a vote get a fallback.
        """
        if not self._is_dirty:
            return

        began_s = self._clock.now()
        self._write(self.attempts)
        self._written_s = self._clock.now()
        self.slowest_write_s = max(self.slowest_write_s, self._written_s - began_s)
        self._is_dirty = False

    def write_if_due(self) -> None:
        if not (self._attempts or self._unvoted):
            return  # there are only guesses, so that the first answer is written at once

        wait_s = max(WRITE_EVERY_S, self.slowest_write_s / WRITE_SHARE)
        if self._clock.now() - self._written_s >= wait_s:
            self.write()
