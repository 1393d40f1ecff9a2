"""What the next worker gets of a lost worker's job: the prompts that remain, and the adapter."""

from __future__ import annotations

from appliance.arc.vote import Candidate
from appliance.run.resend import LOST_TWICE, MAX_RESENDS, remaining_job
from appliance.run.schedule.task_state import Assignment, Stage
from appliance.run.worker_state import Running
from appliance.solve.messages import Job, TaskMessage, Trained, Wrote
from tests.support.run_world import program, tasks

VIEWS = ["v0", "v1", "v2"]


def running(*, num_tasks: int = 1, stage: Stage = "deep", stall_s: float | None = 60.0) -> Running:
    chosen = tasks(num_tasks).tasks
    job = Job(
        job_id=7,
        stage=stage,
        tasks=[TaskMessage.of(t) for t in chosen],
        views=VIEWS,
        deadline_s=100.0,
        train_until_s=50.0,
    )
    assignment = Assignment(stage, chosen, 3, until_s=100.0, expected_until_s=100.0)
    return Running(assignment, job, 0.0, stall_s=stall_s, heard_s=10.0)


def answer(found: Running, view: str, task: int = 0) -> None:
    for test_index in range(len(found.job.tasks[task].test)):
        found.candidates.append(
            Candidate(found.job.tasks[task].task_id, test_index, None, -1.0, 3, view)
        )


def test_answered_views_are_not_asked_again_and_keep_their_answers() -> None:
    lost = running()
    answer(lost, "v1")
    kept = list(lost.candidates)
    job = remaining_job(lost, samples_per_view=1, quick_programs=0)

    assert job is not None
    assert job.views == ["v0", "v2"]
    assert lost.candidates == kept
    assert job.job_id == 7


def test_a_view_answered_in_part_is_asked_again_and_its_answers_forgotten() -> None:
    lost = running()
    answer(lost, "v0")
    job = remaining_job(lost, samples_per_view=2, quick_programs=0)
    assert job is not None
    assert job.views == VIEWS
    assert lost.candidates == []


def test_the_adapter_that_was_trained_is_put_on_again() -> None:
    lost = running()
    task_id = lost.job.tasks[0].task_id
    lost.trained[task_id] = Trained(job_id=7, task_id=task_id, seconds=1.0, adapter_sha="abc")
    job = remaining_job(lost, samples_per_view=1, quick_programs=0)
    assert job is not None
    assert job.adapter_sha == "abc"


def test_a_task_that_is_complete_leaves_the_job_and_stays_complete() -> None:
    lost = running(num_tasks=2, stage="quick")
    for view in VIEWS:
        answer(lost, view, task=0)
    answer(lost, "v0", task=1)
    job = remaining_job(lost, samples_per_view=1, quick_programs=0)

    assert job is not None
    assert [t.task_id for t in job.tasks] == [lost.job.tasks[1].task_id]
    assert lost.answered == [lost.job.tasks[0].task_id]
    assert job.views == ["v1", "v2"]


def test_the_last_time_transformers_samples_and_then_the_job_has_failed() -> None:
    lost = running()
    plain = []
    for _ in range(MAX_RESENDS):
        job = remaining_job(lost, samples_per_view=1, quick_programs=0)
        assert job is not None
        plain.append(job.plain_because)
        lost.job, lost.stall_s = job, 60.0

    assert plain == ["", LOST_TWICE]
    assert remaining_job(lost, samples_per_view=1, quick_programs=0) is None


def test_a_worker_lost_in_training_is_another_matter() -> None:
    assert remaining_job(running(stall_s=None), samples_per_view=1, quick_programs=0) is None


def test_silence_is_counted_from_the_last_answers() -> None:
    lost = running(stall_s=60.0)
    assert not lost.is_stuck(69.0)
    assert lost.is_stuck(70.0)
    assert not running(stall_s=None).is_stuck(1e9)


def write(found: Running, *answers: str, task: int = 0) -> None:
    task_id = found.job.tasks[task].task_id
    programs = [program(answer, task_id=task_id) for answer in answers]
    found.programs += programs
    found.candidates += [c for p in programs for c in p.candidates()]


def searching() -> Running:
    lost = running()
    lost.job = lost.job.model_copy(update={"program_until_s": 40.0})
    return lost


def test_a_search_for_programs_goes_on_from_those_that_were_written() -> None:
    lost = searching()
    write(lost, "a", "b", "a")
    lost.programs.append(program("c", task_id=lost.job.tasks[0].task_id, outcome="error"))
    written = list(lost.programs)
    job = remaining_job(lost, samples_per_view=1, quick_programs=2)

    assert job is not None
    assert [k.answer for k in job.known] == ["a", "b"]
    assert (job.program_until_s, job.views) == (40.0, VIEWS)
    assert lost.programs == written  # they stand, and are not written again


def test_after_the_search_only_grids_remain() -> None:
    lost = searching()
    task_id = lost.job.tasks[0].task_id
    write(lost, "a")
    lost.wrote[task_id] = Wrote(job_id=7, task_id=task_id, seconds=1.0, is_agreed=False, epochs=[])
    answer(lost, "v1")
    kept = list(lost.candidates)
    job = remaining_job(lost, samples_per_view=1, quick_programs=2)

    assert job is not None
    assert (job.program_until_s, job.views) == (0.0, ["v0", "v2"])
    assert lost.candidates == kept


def test_a_task_of_the_quick_pass_that_lacks_programs_is_asked_anew() -> None:
    lost = running(num_tasks=2, stage="quick")
    for task in (0, 1):
        for view in VIEWS:
            answer(lost, view, task)
    write(lost, "a", "b")
    write(lost, "c", task=1)
    job = remaining_job(lost, samples_per_view=1, quick_programs=2)
    assert job is not None

    first, second = (t.task_id for t in lost.job.tasks)
    assert [t.task_id for t in job.tasks] == [second] and lost.answered == [first]
    assert job.views == VIEWS
    assert {p.task_id for p in lost.programs} == {c.task_id for c in lost.candidates} == {first}


def test_where_no_grids_are_asked_programs_alone_count() -> None:
    lost = running(num_tasks=2, stage="quick")
    write(lost, "a", "b")
    job = remaining_job(lost, samples_per_view=0, quick_programs=2)
    assert job is not None
    assert [t.task_id for t in job.tasks] == [lost.job.tasks[1].task_id]
