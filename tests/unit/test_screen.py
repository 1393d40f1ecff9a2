"""The run on screen: what the view tells, that a journal read bit by bit gives the same, how it is
drawn."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.arc.task import TaskSet
from appliance.arc.vote import Candidate
from appliance.clock import VirtualClock
from appliance.machine.load import CardLoad, HostLoad, LoadMeter
from appliance.program.source import DSL_HEADER
from appliance.record.journal import Journal, StageRow
from appliance.record.pulse import Pulse, WorkerPulse, pulse_of, put_pulse
from appliance.record.standing import SOURCES
from appliance.run.console import NoDisplay, PlainDisplay, make_display
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.rehearsal.faults import NO_FAULTS
from appliance.run.schedule.task_state import Assignment
from appliance.run.screen.draw import frame
from appliance.run.screen.draw_tasks import LETTERS
from appliance.run.screen.follow import FEW, Follower
from appliance.run.screen.heart import Heart
from appliance.run.screen.view import SILENT_S, Facts, RunView, foretold_s
from appliance.run.screen.view_json import as_json
from appliance.run.screen.worker_text import doing, work
from appliance.run.worker_state import Running, WorkerState
from appliance.seeds import generator
from appliance.solve.messages import Job, TaskMessage, Trained
from tests.support.run_world import costs, grid, memory_journal, orchestrator, settings, tasks

RIGHT, WRONG = grid(generator("right", 0), 4), grid(generator("wrong", 0), 4)
ALL = ("search", "quick", "deep", "third")


def pulse(at_s: float, *workers: WorkerPulse, is_over: bool = False) -> Pulse:
    return Pulse(at_s, 0.0, 1000.0, workers, HostLoad(0.5, 2**30, 2**32), is_over)


def worker(name: str, work: str, doing: str, *task_ids: str, state: str = "busy") -> WorkerPulse:
    kind = "search" if name.startswith("search") else "device"
    card = None if kind == "search" else CardLoad(0.9, 2**34, 2**35)
    return WorkerPulse(name, kind, state, work, doing, task_ids, 10.0, 3, card)


def view_of(task_set: TaskSet, *, is_solved: bool = True, passes: tuple[str, ...] = ALL) -> RunView:
    answers = {t.task_id: (RIGHT,) for t in task_set}
    view = RunView(answers if is_solved else {})
    view.begin(Facts("out/x", "world", "arc-mini", passes), ((t.task_id, 1, 1.0) for t in task_set))
    return view


def ended(
    task_id: str, stage: str, at_s: float, *, number: int = 1, seconds: float = 10
) -> StageRow:
    return StageRow(task_id, stage, "done", seconds, {}, number, at_s)


ONE_EACH = TaskSet("world", tuple(t for t in tasks(30) if len(t.test) == 1)[:10])
IDS = ONE_EACH.ids()


def test_a_pass_tells_how_long_it_will_take_from_what_is_behind_it() -> None:
    view = view_of(ONE_EACH)
    view.take([ended(t, "search", 10.0 * n) for n, t in enumerate(IDS[:5], start=1)], {})
    view.pulse = pulse(60.0, worker("search 0", "search", "searching", IDS[5]))
    search, quick, deep, third = view.passes(60.0)
    assert (search.num_done, search.num_tasks, search.state) == (5, 10, "running")
    assert (search.took_s, search.left_s) == (60.0, 60.0)
    assert [p.state for p in (quick, deep, third)] == ["waiting"] * 3
    assert view.left_s(60.0) == (940.0, True)  # with a model it may use all its time


def test_a_search_alone_ends_when_it_is_through() -> None:
    view = view_of(ONE_EACH, passes=("search",))
    view.take([ended(t, "search", 10.0 * n) for n, t in enumerate(IDS[:5], start=1)], {})
    view.pulse = pulse(60.0, worker("search 0", "search", "searching", IDS[5]))
    assert view.left_s(60.0) == (60.0, False)
    assert view.left_s(960.0) == (40.0, False)  # but never after the deadline


def test_the_night_between_two_starts_does_not_count() -> None:
    view = view_of(ONE_EACH)
    view.take([ended(t, "search", 10.0 * n) for n, t in enumerate(IDS, start=1)], {})
    view.take([ended(t, "quick", 900.0) for t in IDS[:2]], {})
    view.take([ended(t, "quick", 50_000.0 + 10 * n) for n, t in enumerate(IDS[2:6], start=1)], {})
    at_work = worker("GPU 0", "quick", "quick pass", IDS[7])
    view.pulse = Pulse(50_040.0, 50_000.0, 60_000.0, (at_work,))
    search, quick, *_ = view.passes(50_040.0)
    assert (search.state, search.took_s) == ("over", 0.0)
    assert (quick.num_done, quick.took_s, quick.left_s) == (6, 40.0, 40.0)
    assert any(
        "done before this start" in line.plain for line in frame(view, 50_040.0, (80, 24), keys="")
    )


@pytest.mark.parametrize(
    ("done", "left", "took_s", "expected_s"),
    [
        ([(1, 10.0), (2, 20.0), (3, 30.0)], [4, 5], 60.0, 90.0),  # from small to large
        ([(5, 50.0), (4, 40.0), (3, 30.0)], [2, 1], 60.0, 15.0),  # from large to small, two at once
        ([(1, 20.0), (2, 10.0)], [9], 30.0, 15.0),  # larger ones are never faster
        ([(1, 0.0), (3, 40.0)], [1], 40.0, 10.0),  # and none takes less than no time
        ([(2, 10.0), (2, 10.0)], [2, 2], 20.0, 20.0),
        ([(0, 10.0), (0, 10.0)], [0], 20.0, 10.0),
        ([(1, 0.0)], [1], 0.0, None),
    ],
)
def test_what_is_left_follows_the_sizes_of_what_is_done(
    done: list[tuple[float, float]], left: list[float], took_s: float, expected_s: float | None
) -> None:
    assert foretold_s(done, left, took_s) == expected_s


def test_what_a_search_is_sure_of_is_not_waited_for_in_the_deep_pass() -> None:
    view = view_of(ONE_EACH)
    sure = Candidate(IDS[9], 0, RIGHT, 0.0, 0, method="search", program="p", weight=0.9)
    view.take([ended(IDS[9], "search", 5.0)], {(IDS[9], "search", 1): [sure]})
    view.take([ended(t, "deep", 10.0 * n) for n, t in enumerate(IDS[:5], start=1)], {})
    view.pulse = pulse(50.0, worker("GPU 0", "deep", "training", IDS[5]))
    assert view.passes(50.0)[2].left_s == 40.0  # four of the five that are left


def test_a_deep_pass_that_others_overtake_is_paused_and_all_is_over_at_the_end() -> None:
    view = view_of(ONE_EACH)
    rows = [ended(IDS[0], "deep", 20.0), ended(IDS[0], "deep", 40.0, number=2)]
    view.take(rows, {})
    view.pulse = pulse(50.0, worker("GPU 0", "third", "training", IDS[0]))
    *_, deep, third = view.passes(50.0)
    assert (deep.state, deep.num_done) == ("paused", 1)
    assert (third.state, third.num_done, third.num_tasks) == ("running", 1, 1)
    view.take([ended(IDS[0], "deep", 55.0, number=3)], {})
    view.pulse = pulse(60.0, is_over=True)
    assert {p.state for p in view.passes(60.0)} == {"over"}
    assert view.passes(60.0)[-1].took_s == 25.0  # to its last round
    assert view.tasks[IDS[0]].state == "round 3"


def test_what_stands_for_a_task_follows_its_candidates_and_the_answers() -> None:
    view = view_of(ONE_EACH)
    wrong = Candidate(IDS[0], 0, WRONG, -1.0, 9, view="v")
    right = [Candidate(IDS[0], 0, RIGHT, -1.0, 9, view=f"v{n}", adapter="a") for n in range(3)]
    view.take([ended(IDS[0], "quick", 5.0)], {(IDS[0], "quick", 1): [wrong]})
    task = view.tasks[IDS[0]]
    assert (task.standing.source, task.is_solved, view.num_solved) == ("plain", False, 0)
    view.take([ended(IDS[0], "deep", 9.0)], {(IDS[0], "deep", 1): right})
    assert (task.standing.source, task.is_solved, view.num_solved) == ("trained", True, 1)
    assert (view.num_answered, task.state, task.seconds) == (1, "deep pass", 20.0)
    assert 0 < view.expected < 1
    assert view_of(ONE_EACH, is_solved=False).num_solved is None


def test_a_run_that_is_not_heard_of_is_silent_and_one_that_is_over_is_not() -> None:
    view = view_of(ONE_EACH)
    assert not view.is_silent(1e9)
    view.pulse = pulse(100.0)
    assert not view.is_silent(100.0 + SILENT_S)
    assert view.is_silent(101.0 + SILENT_S)
    view.pulse = pulse(100.0, is_over=True)
    assert not view.is_silent(1e9)


def read(view: RunView, journal: Journal, *, most: int = FEW) -> Follower:
    follower = Follower(view, "x", most=most)
    follower.take(follower.look(journal))
    while not follower.is_complete:
        follower.take(follower.look(journal))
    return follower


def test_a_journal_read_bit_by_bit_gives_what_reading_it_whole_gives() -> None:
    """A whole run on a virtual clock, with crashes; it is looked at in its midst now and then."""
    task_set, clock = tasks(8), VirtualClock()
    journal = memory_journal(task_set)
    chosen = settings(120)
    true = ImaginedCosts(costs(task_set, step_s=0.02, view_s=0.05), chosen, load_s=2.0)
    pool = FakePool(true, clock, num_workers=2, num_searching=0, faults=NO_FAULTS, seed=0)
    bit_by_bit = RunView()
    follower = Follower(bit_by_bit, "x", most=3)

    def look() -> bool:
        follower.take(follower.look(journal))
        return False

    orchestrator(task_set, chosen, pool, clock, journal=journal, is_stopped=look).run()
    look()
    while not follower.is_complete:
        look()

    whole = RunView()
    read(whole, journal)
    assert as_json(bit_by_bit, 120.0) == as_json(whole, 120.0)
    assert list(bit_by_bit.events) == list(whole.events)
    assert whole.num_answered == len(task_set)
    journal.close()


def test_an_outcome_that_is_replaced_is_read_again() -> None:
    journal = memory_journal(ONE_EACH)
    view = RunView()
    journal.put_stage(ended(IDS[0], "deep", 5.0), [Candidate(IDS[0], 0, WRONG, -1.0, 9)])
    follower = read(view, journal)
    journal.put_stage(ended(IDS[0], "deep", 9.0), [Candidate(IDS[0], 0, RIGHT, -1.0, 9)])
    follower.take(follower.look(journal))
    assert view.tasks[IDS[0]].standing.attempts[0][0] is not None
    assert (view.tasks[IDS[0]].standing.attempts[0][0] == RIGHT).all()
    journal.close()


def test_what_was_read_and_not_taken_is_read_again() -> None:
    """It may have been torn by a write."""
    journal = memory_journal(ONE_EACH)
    view = RunView()
    follower = Follower(view, "x")
    journal.put_stage(ended(IDS[0], "deep", 5.0), [Candidate(IDS[0], 0, RIGHT, -1.0, 9)])
    follower.look(journal)
    follower.take(follower.look(journal))
    assert view.num_answered == 1
    journal.close()


def busy_view(num_tasks: int = 400, num_searching: int = 40) -> RunView:
    task_set = tasks(num_tasks)
    ids = task_set.ids()
    view = view_of(task_set)
    rows, found = [], {}
    for n, task_id in enumerate(ids[: num_tasks // 2]):
        rows.append(ended(task_id, "deep", 10.0 + n))
        grids = RIGHT if n % 2 else WRONG
        found[task_id, "deep", 1] = [Candidate(task_id, 0, grids, -1.0, 9, adapter="a")]
    view.take(rows, found)
    gpus = [worker(f"GPU {n}", "deep", "training", ids[-1 - n]) for n in range(4)]
    more = [worker(f"search {n}", "search", "searching", ids[n]) for n in range(num_searching)]
    view.pulse = pulse(300.0, *gpus, *more)
    view.events.extend((float(n), f"message {n} \x1b[31m of a run") for n in range(9))
    return view


@pytest.mark.parametrize("size", [(80, 24), (140, 40), (200, 60), (40, 10), (20, 5), (300, 12)])
@pytest.mark.parametrize("view", [busy_view(), RunView(), busy_view(10, 0)])
def test_a_picture_has_the_size_of_the_terminal(view: RunView, size: tuple[int, int]) -> None:
    lines = frame(view, 300.0, size, keys="q leaves")
    assert len(lines) == size[1]
    assert max(line.cell_len for line in lines) <= size[0]
    assert not any("\x1b" in line.plain for line in lines)


def drawn(view: RunView, size: tuple[int, int], **more: int) -> list[str]:
    return [line.plain.rstrip() for line in frame(view, 300.0, size, keys="q leaves", **more)]


def test_a_small_terminal_shows_passes_workers_tasks_and_what_was_told() -> None:
    lines = drawn(busy_view(), (80, 24))
    for form in (
        r"time .* 5 min 00 s  11 min 40 s left at most",
        r"deep pass .* 200/400  about \d+ min \d\d s left",
        r"solved 100 of 400 \(25.0%\), answered 200 of 400, about .*",
        r"GPU 0 +3 +4 min 50 s  training task0399 +90%  16.0 of 32.0 GiB",
        r"and 40 more: 40 searching",
        r"task0399 +training",
        r"task0199 +deep pass +trained model +\d+% \u2713 +10 s",
        r"message 8 .*",
        r"q leaves",
    ):
        assert any(re.fullmatch(form, line) for line in lines), form


def test_a_pass_that_the_time_does_not_hold_says_so() -> None:
    view = busy_view()
    assert any("200/400  about " in line for line in drawn(view, (80, 24)))
    view.pulse = Pulse(300.0, 0.0, 400.0)
    assert any("200/400  more than the time left" in line for line in drawn(view, (80, 24)))


def test_a_large_one_shows_every_task_as_a_letter_and_tasks_side_by_side() -> None:
    lines = drawn(busy_view(), (140, 40))
    letters = "".join(line for line in lines if re.fullmatch(r"[PSCTM.]+", line))
    assert letters == "T" * 200 + "." * 200
    assert any(re.match(r"task +state.* task +state", line) for line in lines)


def test_pages_show_every_task_and_after_the_last_comes_the_first() -> None:
    view = busy_view(60, 0)
    shown = [
        [line.split()[0] for line in drawn(view, (80, 24), page=page) if line.startswith("task0")]
        for page in range(-1, 60)
    ]
    first, last = shown[1], shown[0]
    num_pages = shown.index(first, 2) - 1
    pages = shown[1 : 1 + num_pages]
    assert sorted(t for page in pages for t in page) == sorted(view.tasks)
    assert pages[-1] == last


def test_a_wide_terminal_shows_the_latest_task_that_is_likely_right_in_colour() -> None:
    journal = memory_journal(ONE_EACH)
    program = DSL_HEADER + "\n\ndef transform(grid):\n    return grid\n"
    found = Candidate(
        IDS[3], 0, RIGHT, 0.0, 0, method="search", program=program, demo_score=1.0, weight=0.9
    )
    journal.put_stage(ended(IDS[3], "search", 5.0), [found])
    journal.put_stage(ended(IDS[4], "search", 6.0), [replace(found, task_id=IDS[4], weight=0.001)])
    view = RunView({IDS[3]: (RIGHT,)})
    read(view, journal)
    journal.close()

    lines = drawn(view, (140, 40))
    row = next(
        n for n, line in enumerate(lines) if re.search(rf"{IDS[3]}  search, \d+% sure", line)
    )
    assert lines[row].endswith("solved \u2713")
    assert "\u2580" * RIGHT.shape[1] in lines[row + 1]
    assert any(line.endswith("def transform(grid):") for line in lines)
    assert not any("\u2580" in line for line in drawn(view, (100, 40)))


def test_a_run_that_is_silent_stands_as_it_was() -> None:
    view = busy_view()
    lines = [line.plain for line in frame(view, 5000.0, (100, 30), keys="")]
    assert lines[0].endswith("silent for 1 h 18 min")
    assert lines[1:] == [line.plain for line in frame(view, 300.0, (100, 30), keys="")][1:]


def test_every_source_has_a_letter_of_its_own() -> None:
    assert list(LETTERS) == list(SOURCES)
    assert len(set(LETTERS.values())) == len(SOURCES)


def state_of(stage: str, *, number: int = 1, **job: float) -> WorkerState:
    task = ONE_EACH.tasks[0]
    assignment = Assignment(stage, (task,), 4, 9.0, 9.0, round=number)  # type: ignore[arg-type]
    message = Job(job_id=1, stage=stage, tasks=[TaskMessage.of(task)], deadline_s=9.0, **job)
    return WorkerState(state="busy", running=Running(assignment, message, 1.0))


def test_a_worker_says_what_it_does() -> None:
    state = state_of("deep", program_until_s=3.0, train_until_s=6.0)
    assert (doing(state), work(state)) == ("writing programs", "deep")
    state = state_of("deep", number=2, train_until_s=6.0)
    assert (doing(state), work(state)) == ("training", "third")
    assert state.running is not None
    state.running.take(Trained(job_id=1, task_id=IDS[0], seconds=1.0), now_s=2.0)
    assert doing(state) == "sampling"
    assert (doing(state_of("search")), work(state_of("probe"))) == ("searching", "")
    assert (doing(WorkerState(state="starting")), work(WorkerState())) == ("loading", "")


class Seen(NoDisplay):
    """How often it was told of the workers."""

    num = 0

    def beat(self, workers: Mapping[int, WorkerState]) -> None:
        self.num += 1


def test_a_heart_writes_a_pulse_every_few_seconds_and_says_when_it_is_over() -> None:
    journal, clock, display = memory_journal(ONE_EACH), VirtualClock(100.0), Seen()
    heart = Heart(display, journal, clock, start_s=90.0, deadline_s=500.0)
    states = {0: state_of("deep"), 1: WorkerState("search", "idle", num_done=4)}
    heart.beat(states)
    found = pulse_of(journal)
    assert found is not None and found.host is not None
    assert (found.at_s, found.deadline_s, found.is_over) == (100.0, 500.0, False)
    assert [w.name for w in found.workers] == ["model 0", "search 0"]
    assert (found.workers[0].task_ids, found.workers[0].doing) == ((IDS[0],), "sampling")
    assert (found.workers[1].num_done, found.workers[1].since_s) == (4, 0.0)

    clock.sleep(1.0)
    heart.beat(states)
    assert pulse_of(journal) == found and display.num == 2
    heart.stop()
    last = pulse_of(journal)
    assert last is not None and last.is_over and last.workers[0].state == "gone"
    journal.close()


def test_a_pulse_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    journal, display = Journal(tmp_path / "journal.sqlite"), Seen()
    heart = Heart(display, journal, VirtualClock(), start_s=0.0, deadline_s=9.0)
    with closing(sqlite3.connect(journal.path)) as other:
        other.execute("DROP TABLE facts")
    heart.beat({0: state_of("deep")})
    heart.stop()
    assert display.num == 1
    journal.close()


def test_a_pulse_of_another_form_is_none() -> None:
    journal = memory_journal(ONE_EACH)
    put_pulse(journal, pulse(5.0))
    assert pulse_of(journal) == pulse(5.0)
    journal.put_fact("pulse", {"at_s": "soon"})
    assert pulse_of(journal) is None
    journal.close()


def test_memory_is_that_of_the_control_group(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 6000 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("4096000\n")
    (group / "memory.current").write_text("1024000\n")
    load = LoadMeter(root=tmp_path).host()
    assert (load.total_bytes, load.used_bytes) == (4096000, 1024000)
    assert 0.0 <= load.cpu_share <= 1.0


def test_rich_without_a_terminal_is_plain_lines() -> None:
    display = make_display(
        "rich",
        journal=memory_journal(ONE_EACH),
        run="x",
        clock=VirtualClock(),
        num_tasks=10,
        solutions={},
    )
    assert isinstance(display, PlainDisplay)
