"""The end of a DAG: one vote over what there is, and an exit code that tells what is not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from appliance import cli
from appliance.arc.source import challenges_json, load_tasks
from appliance.arc.submission import read_submission, validate
from appliance.config import Settings
from appliance.pack.merge import main
from appliance.record.journal import Journal, StageRow
from appliance.record.reached import reached_by
from appliance.record.run_folder import RunFolder
from tests.support.small_runs import make_run, world


@pytest.fixture
def dag(tmp_path: Path) -> Path:
    """The folder of a DAG with twelve tasks in three shards, all of which are back and whole."""
    tasks, answers = world(12)
    folder = tmp_path / "dag"
    for number in range(3):
        part = tasks.select(tasks.ids()[4 * number : 4 * number + 4])
        make_run(folder / f"shard-{number}", part, answers, seed=number)
        end(folder / f"shard-{number}")
    (folder / "tasks.json").write_text(challenges_json(tasks))
    return folder


def end(out: Path, *, is_stopped: bool = False, **settings: object) -> None:
    """Write what a run leaves at its end."""
    folder = RunFolder(out)
    folder.write_json(folder.report, {"coverage": {}, "stopped": is_stopped})
    folder.write_json(folder.config, Settings().model_dump(mode="json") | settings)


def empty(run: Path) -> None:
    """A run that wrote its placeholder and met nothing but faults."""
    folder = RunFolder(run)
    task_ids = reached_by(run).task_ids
    folder.journal.unlink()

    journal = Journal(folder.journal)
    journal.put_tasks(load_tasks(str(run.parent / "tasks.json")).select(task_ids))
    for task_id in task_ids:
        why = {"reason": "no", "cause": "fault"}
        journal.put_stage(StageRow(task_id, "quick", "failed", 1.0, why))
    journal.close()


def merged(dag: Path) -> dict[str, object]:
    submission = read_submission(dag / "submission.json")
    assert not validate(submission, load_tasks(str(dag / "tasks.json")))
    found: dict[str, object] = json.loads((dag / "coverage.json").read_text())
    return found


def test_whole_shards_are_voted_on_together(dag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(dag), "--out", str(dag)]) == 0
    told = capsys.readouterr()
    assert "shards: 3 of 3 are whole" in told.out and "sampled 12/12" in told.out
    assert told.err == ""
    assert merged(dag)["below_floor"] == []


def test_shards_that_sampled_nothing_are_told_and_end_with_code_5(
    dag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        empty(dag / f"shard-{number}")
    assert main([str(dag), "--out", str(dag)]) == 5

    told = capsys.readouterr()
    assert "shard-1: sampled 0/4, floor 90%" in told.out and "0 of 3 are whole" in told.out
    assert "below its floor: sampled 0/12, floor 90%" in told.err
    assert merged(dag)["coverage"]["sampled"] == 0  # type: ignore[index]


def test_a_shard_below_its_floor_does_not_matter_where_the_whole_is_above(dag: Path) -> None:
    for number in range(3):
        end(dag / f"shard-{number}", run={"min_sampled_share": 0.5})
    empty(dag / "shard-1")
    assert main([str(dag), "--out", str(dag)]) == 0


def test_a_shard_that_never_came_back_counts(dag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(dag / "shard-2")
    (dag / "shard-2").mkdir()
    assert main([str(dag), "--out", str(dag)]) == 5

    told = capsys.readouterr()
    assert "shard-2: nothing has come back" in told.out and "sampled 8/12" in told.out
    assert "1 of 3 shards are not at their end" in told.err
    assert len(read_submission(dag / "submission.json")) == 12
    assert merged(dag)


def test_a_shard_that_cannot_be_read_does_not_take_the_others_along(
    dag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dag / "shard-0/run/journal.sqlite").write_bytes(b"half a journal" * 1000)
    (dag / "shard-1/submission.json").unlink()
    assert main([str(dag), "--out", str(dag)]) == 5
    out = capsys.readouterr().out
    assert "shard-0: " in out and "shard-1: " in out and "1 of 3 are whole" in out
    assert merged(dag)


def test_a_shard_that_was_stopped_is_not_at_its_end(
    dag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end(dag / "shard-0", is_stopped=True)
    assert main([str(dag), "--out", str(dag)]) == 5
    assert "shard-0: it did not come to its end" in capsys.readouterr().out


def test_without_out_it_only_tells(dag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(dag / "shard-2")
    (dag / "shard-2").mkdir()
    assert main([str(dag)]) == 0
    assert "shard-2: nothing has come back" in capsys.readouterr().out
    assert not (dag / "submission.json").exists()


def test_a_folder_that_is_none_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) in (2, 4)
    assert "tasks.json" in capsys.readouterr().err


def test_a_plain_vote_tells_of_an_empty_run_too(
    dag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty(dag / "shard-0")
    runs = [str(dag / f"shard-{number}") for number in range(2)]
    assert cli.main(["vote", *runs, "--out", str(dag / "voted.json")]) == 0
    told = capsys.readouterr().err
    assert f"note: {runs[0]}: below its floor: sampled 0/4, floor 90%" in told
    assert runs[1] not in told


# Shards that still run.


@pytest.fixture
def spool(dag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool in which shard-2 has saved itself as job 20635.0, and the two commands of HTCondor
    that tell of it: what they print is what those of a pool do."""
    place = tmp_path / "spool"
    there = place / "635/0/cluster20635.proc0.subproc0"
    there.mkdir(parents=True)
    shutil.move(dag / "shard-2", there / "shard-2")
    (dag / "shard-2").mkdir()
    RunFolder(there / "shard-2").report.unlink()

    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    # DAGMan itself is no node.
    rows = r"undefined 20634 0\nshard-2 20635 0\n"
    commands = {
        "condor_config_val": f"[ $1 = SPOOL ] && echo {place}",
        "condor_q": f"""[ "$2" = 'Iwd == "{dag}"' ] && printf '{rows}'""",
    }
    for name, text in commands.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    return there


def test_what_a_running_shard_saved_is_voted_on(
    dag: Path, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (spool / "shard-2/run/journal.sqlite").read_bytes()
    assert main([str(dag), "--out", str(dag)]) == 5
    told = capsys.readouterr()
    assert "shard-2: in the queue; this is what it saved last" in told.out
    assert "sampled 12/12" in told.out
    assert (spool / "shard-2/run/journal.sqlite").read_bytes() == before


def test_a_shard_in_the_queue_that_saved_nothing_yet_is_told_apart(
    dag: Path, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(spool)
    assert main([str(dag)]) == 0
    told = capsys.readouterr()
    assert "shard-2: in the queue, and nothing saved yet" in told.out
    assert "floor" not in told.err, "it is under way"


def test_a_spool_that_cannot_be_read_is_told(
    dag: Path, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Root may read what is another user's, but nobody can copy a pipe.
    os.mkfifo(spool / "shard-2/run/pipe")
    main([str(dag)])
    told = capsys.readouterr()
    assert f"what shard-2 saved in {tmp_path / 'spool'} cannot be read from here" in told.err
    assert "shard-2: in the queue, and nothing saved yet" in told.out


def test_a_queue_that_does_not_answer_is_told(
    dag: Path, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin/condor_q").write_text("#!/bin/sh\nexit 1\n")
    main([str(dag)])
    assert "the queue does not answer" in capsys.readouterr().err
