"""What an attack found: chance that went unseen, memory that was shared, workers that hung."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from appliance.arc.grid import as_grid
from appliance.clock import Deadline, SystemClock
from appliance.errors import UsageError
from appliance.program.sandbox import Limits, Program, Result, Sandbox
from tests.support.cases import read_case_lines
from tests.support.sandbox_host import ATTACK_MODULES, spoken

# Outputs that mean no success of the attack although they are [[7]].
HARMLESS_SEVENS = {"np-load-pickle-bytesio", "forge-ok-then-violate"}
LOOP = "def transform(g):\n    while True: pass\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=2, preload=ATTACK_MODULES) as shared:
        yield shared


def cases(name: str, **marks: str) -> tuple[list[dict[str, Any]], list[Program]]:
    """The records of a file, and their programs, with words in the sources replaced."""
    records = read_case_lines(f"attack/{name}.jsonl")
    programs = []
    for record in records:
        source = record["source"]
        for mark, text in marks.items():
            source = source.replace("{" + mark + "}", text)
        programs.append(Program(source, tuple(as_grid(g) for g in record["inputs"])))
    return records, programs


def by_id(name: str, sandbox: Sandbox, **marks: str) -> dict[str, Result]:
    records, programs = cases(name, **marks)
    results = sandbox.run(programs)
    return {r["id"]: result for r, result in zip(records, results, strict=True)}


def test_chance_of_every_kind_is_seen(sandbox: Sandbox) -> None:
    ends = {name: r.outcome for name, r in by_id("chance", sandbox).items()}
    assert {n: end for n, end in ends.items() if end != "nondeterministic"} == {}


def test_what_only_looks_like_chance_is_left_alone(sandbox: Sandbox) -> None:
    results = {**by_id("harmless", sandbox), **by_id("control", sandbox)}
    assert {n: r.error for n, r in results.items() if r.outcome != "ok"} == {}


def test_the_control_program_answers_alike_in_every_sandbox(sandbox: Sandbox) -> None:
    with Sandbox(workers=1) as other:
        answers = {
            spoken(r)
            for s in (sandbox, other)
            for _ in range(3)
            for r in by_id("control", s).values()
        }
    assert len(answers) == 1


def test_a_program_sees_nothing_that_another_wrote() -> None:
    with Sandbox(workers=1) as alone:
        for _ in range(2):
            found = by_id("shared_buffer", alone)
            for name, result in found.items():
                if name.startswith("read"):
                    assert result.outputs[0] is not None and result.outputs[0].tolist() != [[7]]
            counts = [spoken(r) for name, r in found.items() if name.startswith("count")]
            assert len(set(counts)) == 1, "a program counts on what the one before it wrote"


def test_the_frames_below_a_program_hold_nothing_of_the_one_before() -> None:
    look = """
import sys
def transform(g):
    frame, names = sys._getframe(), []
    while frame:
        names += [n for n in ("length", "status", "usage", "head") if n in frame.f_locals]
        frame = frame.f_back
    return [[len(names)]]
"""
    with Sandbox(workers=1) as alone:
        grids = (as_grid([[5]]),)
        _, result = alone.run(
            [Program("def transform(g): return [[5] * 30] * 30", grids), Program(look, grids)]
        )
    assert result.outputs[0] is not None and result.outputs[0].tolist() == [[0]]


def test_the_battery_harms_nobody(sandbox: Sandbox, tmp_path: Path) -> None:
    records, programs = cases("battery", SCRATCH=str(tmp_path))
    list(sandbox.run(programs[:1]))  # so that the workers of both kinds stand
    before = len(psutil.Process().children(recursive=True))
    faults = {}
    for record, result in zip(records, sandbox.run(programs), strict=True):
        sevens = [g for g in result.outputs if g is not None and g.tolist() == [[7]]]
        if result.outcome not in record["ends"] or (sevens and record["id"] not in HARMLESS_SEVENS):
            faults[record["id"]] = spoken(result)

    assert faults == {}
    assert not list(tmp_path.iterdir())
    assert len(psutil.Process().children(recursive=True)) == before


def signalled(number: signal.Signals, wanted: Callable[[psutil.Process], bool]) -> threading.Thread:
    """A thread that sends the signal to the first process below this one that is as wanted."""
    deadline = Deadline(SystemClock().now() + 20, SystemClock())
    old = {p.pid for p in psutil.Process().children(recursive=True)}

    def send() -> None:
        while not deadline.is_past():
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.pid not in old and wanted(process):
                        process.send_signal(number)
                        return
                except psutil.Error:
                    continue

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGINT])
def test_a_worker_that_is_killed_or_stopped_at_its_start_is_started_anew(
    number: signal.Signals,
) -> None:
    # Not the copy of this process that is about to become it: stopped, it would stop this one too.
    thread = signalled(number, lambda p: any(word.endswith("start.py") for word in p.cmdline()))
    with Sandbox(workers=2) as sandbox:
        thread.join()
        assert [r.outcome for r in sandbox.run([Program("def transform(g): return g", ())])] == [
            "ok"
        ]


def newest_zygote() -> psutil.Process:
    """The zygote started last, behind the process that waits for it in front of its namespaces."""
    outer = max(psutil.Process().children(), key=lambda p: p.create_time())
    return [outer, *outer.children()][-1]


def test_a_stopped_worker_costs_a_wait_and_no_program() -> None:
    with Sandbox(workers=2) as sandbox:
        stopped = newest_zygote()
        stopped.suspend()
        results = list(
            sandbox.run(
                Program(f"def transform(g): return [[{i % 10}]]", (as_grid([[0]]),))
                for i in range(60)
            )
        )
    assert [int(r.outputs[0][0, 0]) for r in results if r.outputs[0] is not None] == [
        i % 10 for i in range(60)
    ]
    assert not stopped.is_running() or stopped.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(os.getuid() != 0, reason="only root may read the memory of a program")
def test_no_answer_is_left_in_the_memory_of_the_next_program() -> None:
    marks = [[(3 * r + 7 * c) % 10 for c in range(30)] for r in range(30)]
    answer = f"def transform(g): return {marks}"
    secret = b"".join(bytes(row) for row in marks)
    found: list[int] = []

    with Sandbox(Limits(cpu_s=1), workers=1) as sandbox:
        list(sandbox.run([Program(answer, (as_grid([[0]]),))] * 3))
        zygote = newest_zygote()
        run = threading.Thread(target=lambda: list(sandbox.run([Program(LOOP, (as_grid([[0]]),))])))
        run.start()
        while run.is_alive() and not found:
            found = [memory_of(p.pid).count(secret) for p in zygote.children()]
        run.join()

    assert found == [0]


def memory_of(pid: int) -> bytes:
    """All private memory of a process that can be read."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            start, end = (int(text, 16) for text in span.split("-"))
            assert rights[3] == "p" or "w" not in rights, f"shared and writable: {line}"
            if rights.startswith("rw"):
                try:
                    memory.seek(start)
                    parts.append(memory.read(end - start))
                except OSError:
                    continue
    return b"".join(parts)


@pytest.mark.parametrize("workers", [0, -1, 10**9])
@pytest.mark.parametrize("level", [None, "no-seccomp"])
def test_a_number_of_workers_that_is_none_is_refused(workers: int, level: str | None) -> None:
    with pytest.raises(UsageError, match="workers"):
        Sandbox(workers=workers, accept_level=level)
