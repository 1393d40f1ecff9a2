"""What the sandbox promises: order, nothing lost, the same answer twice, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

from appliance.arc.grid import as_grid
from appliance.clock import Deadline, SystemClock
from appliance.errors import PrerequisiteError, UsageError
from appliance.program.sandbox import Limits, Program, Result, Sandbox, sandbox_report
from appliance.program.sandbox.frames import encode_grids
from appliance.program.sandbox.result_cache import ResultCache
from tests.support.cases import REPOSITORY
from tests.support.sandbox_host import INPUTS, SECRET, num_processes, spoken

CELL = (as_grid([[0]]),)
LOOP = "def transform(g):\n    while True: pass\n"
# Burns CPU time by the process's own account, which the counted clocks of `time` would hide.
BURN = """
import resource
def used(): return sum(resource.getrusage(0)[:2])
def transform(g):
    end = used() + {seconds}
    while used() < end: pass
    return g
"""


def number(i: int, body: str = "") -> Program:
    return Program(
        f"{body}\ndef transform(g): return [[{i % 10}, {i // 10 % 10}, {i // 100 % 10}]]\n", CELL
    )


def numbers(results: Iterator[Result]) -> list[int]:
    return [
        int((r.outputs[0] @ [1, 10, 100])[0]) if r.outputs[0] is not None else -1 for r in results
    ]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(cpu_s=0.3), workers=2, preload=("resource",)) as shared:
        yield shared


def newest_child() -> psutil.Process:
    alive = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return max(alive, key=lambda p: p.create_time())


def until(condition: object, seconds: float = 20) -> bool:
    """Waits for what other processes do; only a sandbox that never does it fails."""
    deadline = Deadline(SystemClock().now() + seconds, SystemClock())
    while not condition():  # type: ignore[operator]
        if deadline.is_past():
            return False
        deadline.clock.sleep(0.02)
    return True


def test_results_come_in_the_order_of_the_programs(sandbox: Sandbox) -> None:
    slow = "from scipy.ndimage import label\nsum(range(10**6))"
    programs = [number(i, slow if i % 7 == 0 else "") for i in range(200)]
    assert numbers(sandbox.run(programs)) == list(range(200))


def test_programs_are_taken_only_as_there_is_room(sandbox: Sandbox) -> None:
    taken = 0

    def endless() -> Iterator[Program]:
        nonlocal taken
        while True:
            taken += 1
            yield number(taken)

    stream = sandbox.run(endless())
    assert [next(stream).outcome for _ in range(5)] == ["ok"] * 5
    stream.close()
    assert taken < 1000  # and not all there is
    assert numbers(sandbox.run([number(i) for i in range(5)])) == list(range(5)), (
        "stale answers of the batch before"
    )


@pytest.mark.parametrize("which", [0, -1], ids=["the waiting process", "the zygote itself"])
def test_a_killed_worker_loses_nothing(which: int) -> None:
    with Sandbox(workers=1) as sandbox:
        family = [newest_child().pid, *(p.pid for p in newest_child().children())]
        programs = [number(i, "sum(range(10**5))") for i in range(300)]
        timer = threading.Timer(0.2, os.kill, (family[which], signal.SIGKILL))
        timer.start()
        assert numbers(sandbox.run(programs)) == list(range(300))
        timer.join()


def test_a_program_near_its_limit_gets_a_second_chance(sandbox: Sandbox) -> None:
    (result,) = sandbox.run([Program(BURN.format(seconds=0.13), CELL * 3)])  # 0.39 s of 0.3 s
    assert result.outcome == "ok"


def test_an_endless_loop_gets_none(sandbox: Sandbox) -> None:
    (result,) = sandbox.run([Program(LOOP, CELL * 3)])
    assert result.outcome == "timeout" and result.cpu_s < 0.45


def test_a_busy_machine_costs_no_program_its_time() -> None:
    with Sandbox(
        Limits(cpu_s=0.25), workers=3 * (os.cpu_count() or 1), preload=("resource",)
    ) as crowded:
        results = list(crowded.run([Program(BURN.format(seconds=0.18), CELL)] * 12))
    assert [r.outcome for r in results] == ["ok"] * 12, "time waited is not time used"


def test_the_limit_is_cpu_time_neither_less_nor_much_more() -> None:
    with Sandbox(Limits(cpu_s=0.2), workers=3 * (os.cpu_count() or 1)) as crowded:
        used_s = [r.cpu_s for r in crowded.run([Program(LOOP, CELL)] * 12)]
    assert min(used_s) >= 0.19 and max(used_s) < 0.3, "the kernel looks at its tick, 1 to 10 ms"


def test_outputs_before_a_failure_are_kept(sandbox: Sandbox) -> None:
    source = "def transform(g):\n    if g.shape == (2, 2): raise KeyError('no')\n    return g\n"
    (result,) = sandbox.run([Program(source, (*INPUTS, *INPUTS))])
    assert result.outcome == "error" and result.error == "KeyError: 'no'"
    assert [g is not None for g in result.outputs] == [True, False, True, False]


def test_each_input_is_fresh(sandbox: Sandbox) -> None:
    source = "def transform(g):\n    out = g.copy()\n    g[:] = 9\n    return out\n"
    (result,) = sandbox.run([Program(source, INPUTS)])
    assert all(
        np.array_equal(a, b) for a, b in zip(result.outputs, INPUTS, strict=True) if a is not None
    )


def test_many_large_inputs_and_sources_get_through(sandbox: Sandbox) -> None:
    grid = as_grid(np.full((30, 30), 9).tolist())
    source = "#" * 200_000 + "\ndef transform(g): return g\n"
    for result in sandbox.run([Program(source, (grid,) * 300)] * 5):
        assert result.outcome == "ok" and len(result.outputs) == 300


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("", "NameError"),
        ("x = " + "1 + " * 300_000 + "1", "a source of 1200"),
        ("x = '\ud800'", "UnicodeEncodeError"),
        ("\0", "ValueError" if sys.version_info < (3, 11, 4) else "SyntaxError"),
        ("(" * 5000, "SyntaxError"),
        ("x = " + "-" * 100_000 + "1", "MemoryError"),
        ("x = " + "a." * 60_000 + "a", ""),
        ("transform = 3", "TypeError"),
        ("def transform(a, b): return a", "TypeError"),
        ("def transform(g)\n    return g", "SyntaxError"),
    ],
    ids=[
        "empty",
        "1 MB",
        "surrogate",
        "zero byte",
        "nested",
        "signs",
        "dots",
        "no function",
        "wrong arity",
        "syntax",
    ],
)
def test_a_source_that_is_no_program_is_an_error(source: str, error: str, sandbox: Sandbox) -> None:
    (result,) = sandbox.run([Program(source, CELL)])
    assert result.outcome == "error" and result.error and result.error.startswith(error), result


CHANCE = """
import random, time, uuid, os
class Plain: pass
def transform(g):
    draws = [random.random(), random.Random().random()]
    draws += [np.random.rand(), np.random.default_rng().random()]
    draws += [time.time() % 1, uuid.uuid4().int % 97 / 97, os.urandom(1)[0] / 256]
    draws += [id(g) % 10 / 10]
    return [[int(10 * d) for d in draws] + np.empty(7).astype(int).tolist()]
"""


def test_what_looks_like_chance_is_the_same_in_every_sandbox(sandbox: Sandbox) -> None:
    with Sandbox(workers=1) as other:
        answers = {spoken(r) for s in (sandbox, other) for r in s.run([Program(CHANCE, CELL)] * 4)}
    assert len(answers) == 1 and '"ok"' in answers.pop()


def test_what_depends_on_the_real_clock_is_called_nondeterministic(sandbox: Sandbox) -> None:
    source = (
        "from datetime import datetime\n"
        "def transform(g): return [[int(c) for c in str(datetime.now().microsecond)]]\n"
    )
    results = list(sandbox.run([Program(source, CELL)] * 3))
    assert {r.outcome for r in results} == {"nondeterministic"}


def test_a_lucky_program_is_found_out_before_it_counts(sandbox: Sandbox) -> None:
    lucky = Program(
        "import random\ndef transform(g): return [[random.randrange(10) for _ in range(9)]]\n",
        INPUTS,
    )
    honest = Program("def transform(g): return g.T\n", INPUTS)
    carries_over = Program(
        "seen = []\ndef transform(g):\n    seen.append(0)\n    return [[len(seen)]]\n", INPUTS
    )
    programs = [lucky, honest, carries_over]
    results = list(sandbox.run(programs))
    assert [r.outcome for r in results] == ["ok"] * 3

    outcomes = [sandbox.confirm(p, r).outcome for p, r in zip(programs, results, strict=True)]
    assert outcomes == ["nondeterministic", "ok", "nondeterministic"]


def test_the_cache_answers_under_the_same_conditions_only(tmp_path: Path) -> None:
    programs = [number(i) for i in range(5)] + [Program("def transform(g): return 1 / 0", INPUTS)]

    def times(limits: Limits) -> list[tuple[str, float]]:
        with Sandbox(limits, workers=1, cache=tmp_path) as sandbox:
            return [(spoken(r), r.cpu_s) for r in sandbox.run(programs)]

    first = times(Limits(cpu_s=1))
    assert times(Limits(cpu_s=1)) == first, "the very same results, times included"
    other = times(Limits(cpu_s=1.5))
    assert [text for text, _ in other] == [text for text, _ in first]
    assert other != first, "other limits, so they ran again"


def damaged_text(path: Path) -> None:
    path.write_text("no database, but long enough to look like a file of its own" * 20)


def damaged_pages(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes([0xAA]) * (len(data) - 100))


def damaged_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damaged_schema(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE answers (other TEXT)")


@pytest.mark.parametrize("damage", [damaged_text, damaged_pages, damaged_folder, damaged_schema])
def test_a_damaged_cache_is_put_aside_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    path, cached = tmp_path / "programs.sqlite", Result("ok", INPUTS, None, len(INPUTS))
    cache = ResultCache(tmp_path, b"c")
    cache.put(b"source", b"inputs", cached)
    cache.close()
    damage(path)

    again = ResultCache(tmp_path, b"c")
    assert again.get(b"source", b"inputs", len(INPUTS)) is None
    again.put(b"source", b"inputs", cached)
    again.close()

    assert (tmp_path / "programs.sqlite.damaged-1").exists()
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert ResultCache(tmp_path, b"c").get(b"source", b"inputs", len(INPUTS)) is not None


@pytest.mark.parametrize(
    "row",
    [
        b'["pwned", null, 0, 0.1, 0.1]\n',
        b'["ok", null, 1, 0.1, 0.1]\n' + encode_grids([]),
        b'["ok", null, 1, 0.1, 0.1]\n' + encode_grids([None]),
        b'["ok", null, 7, 0.1, 0.1]\n' + encode_grids(INPUTS[:1]),
        b'["ok", null, 1, NaN, 0.1]\n' + encode_grids(INPUTS[:1]),
        b'["ok", null, 1, 0.1, 0.1]\n' + b"\x01\x00\x01\x01\x0b",
        b"[" * 9000,
        None,
        7,
    ],
)
def test_an_answer_that_no_sandbox_gives_is_not_believed(tmp_path: Path, row: object) -> None:
    cache = ResultCache(tmp_path, b"c")
    cache.put(b"source", b"inputs", Result("ok", INPUTS[:1], None, 1))
    cache.close()
    with closing(sqlite3.connect(tmp_path / "programs.sqlite")) as other:
        other.execute("UPDATE answers SET answer = ?", (row,))
        other.commit()
    cache = ResultCache(tmp_path, b"c")
    assert cache.get(b"source", b"inputs", 1) is None
    cache.close()


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(PrerequisiteError, match="no_such_module"):
        Sandbox(workers=1, preload=("no_such_module",))


@pytest.mark.parametrize(("cpu_s", "memory_mb"), [(0, 256), (-1, 256), (1e9, 256), (1, 0)])
def test_limits_that_limit_nothing_are_refused(cpu_s: float, memory_mb: int) -> None:
    with pytest.raises(UsageError):
        Limits(cpu_s, memory_mb)


def test_a_closed_sandbox_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In /tmp itself other sandboxes may come and go at the same time.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def traces() -> tuple[int, int, list[Path]]:
        num_descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return num_processes(), num_descriptors, sorted(tmp_path.iterdir())

    before = traces()
    with Sandbox(workers=2) as sandbox:
        assert numbers(sandbox.run([number(i) for i in range(20)])) == list(range(20))
        assert traces() != before
    assert traces() == before


def test_the_sandbox_dies_with_its_host() -> None:
    script = (
        "from appliance.program.sandbox import *; import numpy as np\n"
        "s = Sandbox(Limits(cpu_s=60), workers=2)\n"
        "print('up', flush=True)\n"
        "cell = np.zeros((1, 1), np.int8)\n"
        "list(s.run([Program('def transform(g):\\n while 1: pass', (cell,))] * 4))\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), *sys.path))),
    }
    host = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
    assert host.stdout and host.stdout.readline() == b"up\n"

    started = psutil.Process(host.pid)
    assert until(lambda: len(started.children(recursive=True)) >= 4), "its programs run"

    family = started.children(recursive=True)
    host.send_signal(signal.SIGKILL)
    host.communicate()
    assert until(lambda: not any(p.is_running() and p.status() != "zombie" for p in family)), (
        "something lives on"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root may look at the descriptors of a program")
def test_a_program_inherits_no_descriptor_even_of_a_host_with_many() -> None:
    held = [os.dup(0) for _ in range(200)]
    seen: set[str] = set()
    with Sandbox(Limits(cpu_s=1), workers=1) as sandbox:
        zygote = [newest_child(), *newest_child().children(recursive=True)][-1]
        run = threading.Thread(target=lambda: list(sandbox.run([Program(LOOP, CELL)])))
        run.start()
        while run.is_alive() and seen != {"0", "1", "2", "3"}:
            for program in zygote.children():
                with contextlib.suppress(OSError):  # it may end while it is looked at
                    seen = {fd.name for fd in Path(f"/proc/{program.pid}/fd").iterdir()} or seen
        run.join()

    for fd in held:
        os.close(fd)

    assert seen == {"0", "1", "2", "3"}


def test_one_batch_at_a_time(sandbox: Sandbox) -> None:
    first = sandbox.run(number(i) for i in range(100))
    next(first)
    with pytest.raises(RuntimeError, match="one batch"):
        next(sandbox.run([number(0)]))
    assert numbers(first)[-1] == 99


def test_big_jobs_behind_a_running_program_do_not_lock_up(sandbox: Sandbox) -> None:
    grid = as_grid(np.full((30, 30), 9).tolist())
    big = Program("def transform(g): return g\n", (grid,) * 1000)
    slow = Program("x = sum(range(10**6))\ndef transform(g): return g\n", CELL)
    assert {r.outcome for r in sandbox.run([big, slow] * 6)} == {"ok"}


def test_the_zygote_knows_nothing_of_its_host(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", SECRET)
    with Sandbox(workers=1):
        zygote = newest_child()
        assert "SECRET" not in str(zygote.environ()) and not {"HOME", "USER"} & set(
            zygote.environ()
        )


def test_the_report_names_every_layer() -> None:
    rows = {name: (in_force, detail) for name, in_force, detail in sandbox_report()}
    with Sandbox(workers=1, accept_level="no-seccomp") as sandbox:
        assert rows["level"][1] == sandbox.level
    assert rows["program runs"][0] and rows["CPU limit"][0] and rows["memory limit"][0]
    assert all(isinstance(in_force, bool) for in_force, _ in rows.values())
