"""The main job with real worker processes: finished, stopped, killed, resumed.

One tiny real model, six small tasks.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.errors import EXIT_CHECKPOINTED, EXIT_COVERAGE, EXIT_INTERRUPTED
from appliance.record.coverage import SOLVED
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from bench.job import submit_command
from tests.support.main_job import journal_of, stage_rows, submission_faults

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

FEW = (
    "train.max_steps=6",
    "train.tokens_per_step=256",
    "train.rank=4",
    "run.rounds=1",
    "sample.views=4",
)


def command(challenges: Path, model: Path, out: Path, *more: str) -> list[str]:
    return submit_command(challenges, out, "--model", str(model), *more, settings=FEW)


def run(challenges: Path, model: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(challenges, model, out, *more), capture_output=True, text=True, timeout=300
    )


def stages_of(out: Path) -> dict[tuple[str, str], str]:
    """Status by task and stage."""
    with journal_of(out) as journal:
        return {(r.task_id, r.stage): r.status for r in journal.stages()}


def counted_candidates(out: Path) -> tuple[int, int]:
    """How many there are, and the number of the last."""
    with closing(sqlite3.connect(RunFolder(out).journal)) as journal:
        num, last = journal.execute("SELECT COUNT(*), MAX(id) FROM candidates").fetchone()
        return num, last


def worker_processes(out: Path) -> list[int]:
    """Live processes that write to this run's worker log."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                target = (folder / "fd" / "2").readlink()
            except OSError:
                continue
            if str(target).startswith(str(out.resolve() / "run")):
                found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, challenges: Path, tiny_model: Path) -> Path:
    """A run that went to its end, in a folder whose path has a space in it."""
    out = tmp_path_factory.mktemp("a folder") / "out"
    done = run(challenges, tiny_model, out, "--budget", "5m")
    assert done.returncode == 0, done.stderr
    assert "solved" in done.stdout
    return out


def test_every_task_is_trained_sampled_and_in_a_valid_submission(
    finished: Path, challenges: Path
) -> None:
    assert submission_faults(finished, challenges) == []
    stages = stages_of(finished)
    for task in load_tasks(str(challenges)):
        assert stages[task.task_id, "quick"] == "done"
        assert stages[task.task_id, "deep"] == "done"
        assert (task.task_id, "train") in stages


def test_the_out_folder_holds_the_submission_and_run_alone(finished: Path) -> None:
    assert sorted(p.name for p in finished.iterdir()) == ["run", "submission.json"]
    held = {p.name for p in (finished / "run").iterdir()}
    assert {"journal.sqlite", "config.json", "plan.json", "report.json", "adapters"} <= held


def test_the_report_counts_what_was_reached(finished: Path) -> None:
    report = json.loads((finished / "run" / "report.json").read_text())
    assert report["coverage"]["num_tasks"] == 6
    assert report["coverage"]["sampled"] == 6
    assert report["faults"] == []
    assert 0.0 <= report["score"]["by_output"] <= 1.0
    with closing(Journal(RunFolder(finished).journal)) as journal:
        assert len(journal.fact(SOLVED, list[str])) == report["solved"]
        assert len(journal.contents()) == 6  # for a report where the file of tasks is not


def test_the_same_command_again_redoes_nothing(
    finished: Path, challenges: Path, tiny_model: Path
) -> None:
    before = counted_candidates(finished)
    again = run(challenges, tiny_model, finished, "--budget", "1m")
    assert again.returncode == 0, again.stderr
    assert "resumed: 6 of 6" in again.stdout
    assert counted_candidates(finished) == before


def test_another_configuration_on_the_same_folder_is_refused(
    finished: Path, challenges: Path, tiny_model: Path
) -> None:
    before = (finished / "submission.json").read_bytes()
    refused = run(challenges, tiny_model, finished, "--budget", "1m", "--seed", "9")
    assert refused.returncode == 2
    assert "--fresh" in refused.stderr
    assert (finished / "submission.json").read_bytes() == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, EXIT_CHECKPOINTED), (signal.SIGINT, EXIT_INTERRUPTED)]
)
def test_a_signal_ends_the_run_with_its_code_and_a_valid_file(
    number: signal.Signals, code: int, challenges: Path, tiny_model: Path, tmp_path: Path
) -> None:
    arguments = command(challenges, tiny_model, tmp_path, "--budget", "5m")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("quick"):
                break
        process.send_signal(number)
        process.stdout.read()

    assert process.returncode == code
    assert submission_faults(tmp_path, challenges) == []
    assert worker_processes(tmp_path) == []


def test_killed_at_ten_random_moments_it_stays_valid_resumes_and_ends(
    challenges: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A run takes 4 to 5 s on an idle machine, most of them for a worker to start."""
    rng = random.Random(7)
    finished_before: set[tuple[str, str]] = set()
    for _ in range(10):
        process = subprocess.Popen(
            command(challenges, tiny_model, tmp_path, "--budget", "5m"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.5, 5.0))
        process.kill()
        process.wait()

        if (tmp_path / "submission.json").exists():
            assert submission_faults(tmp_path, challenges) == []
        if (tmp_path / "run" / "journal.sqlite").exists():
            finished_now = {key for key, status in stages_of(tmp_path).items() if status == "done"}
            assert finished_before <= finished_now
            finished_before = finished_now
    done = run(challenges, tiny_model, tmp_path, "--budget", "5m")
    assert done.returncode == 0, done.stderr
    assert submission_faults(tmp_path, challenges) == []
    deep = {row.task_id: row.status for row in stage_rows(tmp_path, "deep").values()}
    assert deep == {f"copy{i}": "done" for i in range(6)}
    assert worker_processes(tmp_path) == []


def test_a_budget_too_short_for_anything_still_leaves_a_valid_file(
    challenges: Path, tiny_model: Path, tmp_path: Path
) -> None:
    done = run(challenges, tiny_model, tmp_path, "--budget", "4s")
    assert done.returncode == EXIT_COVERAGE
    assert "below its floor" in done.stderr
    assert submission_faults(tmp_path, challenges) == []


def test_two_runs_in_one_folder_are_refused(
    challenges: Path, tiny_model: Path, tmp_path: Path
) -> None:
    arguments = command(challenges, tiny_model, tmp_path, "--budget", "2m")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        first.stdout.readline()
        second = run(challenges, tiny_model, tmp_path, "--budget", "1m")
        first.kill()
        first.stdout.read()

    assert second.returncode == 3
    assert "in use" in second.stderr


def test_two_workers_share_the_tasks(challenges: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = run(challenges, tiny_model, tmp_path, "--budget", "5m", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert submission_faults(tmp_path, challenges) == []
    assert "worker 1 ready" in done.stdout
