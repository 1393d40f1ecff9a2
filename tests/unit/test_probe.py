"""The probe: what it calls the time and the memory of training, and the time of sampling.

The trainer and the sampler are imagined, because the point is what else takes time and memory
beside them: kernels that are compiled first, an engine that remembers prompts, one that fills the
card. tests/e2e/test_probe_real.py has real ones.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from appliance.clock import Clock, Deadline, VirtualClock
from appliance.engine.base import Completion, Request, Served, TuneSettings
from appliance.engine.memory_meter import HostMeter, TrainingMemory
from appliance.engine.probe import (
    MOST_STEPS,
    probe_engines,
    probe_sampling,
    probe_training,
    steady_s,
)
from appliance.engine.training.packing import TokenSequence
from appliance.errors import OutOfMemory
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.task_costs import Probe
from appliance.sizing.costs.task_lengths import usual_lengths
from appliance.sizing.make_plan import size
from appliance.sizing.request import SizingRequest

HOST = Host("CPU", 8, "affinity", 64 * GIB, "physical", 60 * GIB, ("avx2",))
NO_MEMORY = "no memory here"


class FakeMemory:
    """A device's memory as an allocator counts it. Figures are GiB."""

    def __init__(self) -> None:
        self.held = self.peak = 0.0

    def take(self, gib: float) -> None:
        self.held += gib
        self.peak = max(self.peak, self.held)

    def held_bytes(self) -> int:
        return round(self.held * GIB)

    def restart_peak(self) -> None:
        self.peak = self.held

    def peak_bytes(self) -> int:
        return round(self.peak * GIB)


class FakeTrainer:
    """Steps that take the given seconds, and rise by so many GiB above what is held."""

    def __init__(self, seconds: Sequence[float], *, memory: FakeMemory, rise_gib: float) -> None:
        self.seconds, self.memory, self.rise_gib = seconds, memory, rise_gib
        self.num_done = 0

    def time_steps(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        num_steps: int,
        clock: Clock,
        is_enough: Callable[[Sequence[float]], bool],
    ) -> list[float]:
        done: list[float] = []
        while len(done) < num_steps and not is_enough(done):
            self.memory.take(self.rise_gib)
            self.memory.take(-self.rise_gib)
            clock.sleep(self.seconds[len(done)])
            done.append(self.seconds[len(done)])
        self.num_done = len(done)
        return done


def probed(
    seconds: Sequence[float], *, limit_s: float = 1e9, rise_gib: float = 0.0
) -> tuple[float | None, int]:
    """What the probe says of a step, and the steps that it took."""
    clock, memory = VirtualClock(), FakeMemory()
    trainer: Any = FakeTrainer(seconds, memory=memory, rise_gib=rise_gib)
    found = probe_training(
        trainer,
        iter(()),
        TuneSettings(),
        memory=TrainingMemory(memory),
        deadline=Deadline(limit_s, clock),
    )
    return found.step_s, trainer.num_done


# Time.


def test_a_slow_first_step_is_not_counted_and_two_that_agree_end_the_probe() -> None:
    """Whatever the short step before them has not warmed up, such as kernels for this length."""
    step_s, num_steps = probed([0.80, 0.15, 0.148, 0.15, 0.15])
    assert step_s == pytest.approx(0.149) and num_steps == 3


def test_on_a_device_that_is_warm_two_steps_are_enough() -> None:
    step_s, num_steps = probed([2.0, 2.1, 2.0])
    assert step_s == pytest.approx(2.05) and num_steps == 2


def test_steps_that_get_faster_are_timed_until_they_do_no_more() -> None:
    step_s, num_steps = probed([9.0, 2.0, 0.5, 0.2, 0.2, 0.2])
    assert step_s == pytest.approx(0.2) and num_steps == 5


def test_steps_that_never_agree_end_with_the_shortest() -> None:
    step_s, num_steps = probed([9.0, 5.0, 2.0, 4.0, 1.0, 3.0, 6.0, 2.0])
    assert step_s == 1.0 and num_steps == MOST_STEPS


def test_a_deadline_ends_the_probe_with_what_it_has() -> None:
    assert probed([5.0, 1.0, 1.0], limit_s=5.5) == (1.0, 2)
    assert probed([5.0, 1.0, 1.0], limit_s=4.0) == (5.0, 1), "the device was warm before it"
    assert probed([5.0, 1.0, 1.0], limit_s=0.0) == (None, 0), "it was over before a step"
    assert steady_s([]) is None


class FakeEngine:
    """Reads and writes in known times; may remember the prompts that it has read."""

    def __init__(
        self,
        clock: VirtualClock,
        *,
        read_token_s: float,
        write_token_s: float,
        start_s: float = 0.0,
        remembers: bool = False,
        writes: int = 10**9,
    ) -> None:
        self.clock, self.remembers, self.writes = clock, remembers, writes
        self.read_token_s, self.write_token_s, self.start_s = read_token_s, write_token_s, start_s
        self.was_read: list[tuple[int, ...]] = []

    def sample(
        self, requests: Sequence[Request], *, deadline: Deadline
    ) -> Iterator[list[Completion]]:
        (request,) = requests
        known = max((_common(request.prompt_ids, p) for p in self.was_read), default=0)
        num_read = len(request.prompt_ids) - (known if self.remembers else 0)
        num_written = min(self.writes, request.max_new_tokens)

        # The kernels of a length are compiled when it is first read.
        if all(len(p) != len(request.prompt_ids) for p in self.was_read):
            self.clock.sleep(self.start_s)
        self.was_read.append(request.prompt_ids)
        self.clock.sleep(num_read * self.read_token_s + (num_written - 1) * self.write_token_s)
        if not deadline.is_past():
            yield [Completion(0, (1,) * num_written, 0.0, num_written, False)]


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Tokens that both begin with."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


PROMPT = tuple(range(2000))


@pytest.mark.parametrize("remembers", [False, True])
def test_reading_and_writing_are_told_apart_whatever_the_engine_remembers(remembers: bool) -> None:
    """vLLM remembers prompts: the second answer to one cost less than the first, so that a token
    seemed to take no time."""
    clock = VirtualClock()
    engine = FakeEngine(
        clock, read_token_s=1e-3, write_token_s=0.01, start_s=7.0, remembers=remembers
    )
    found = probe_sampling(engine, PROMPT, deadline=Deadline(1e9, clock))
    assert found.read_s == pytest.approx(2.0)
    assert found.write_token_s == pytest.approx(0.01)
    assert found.short_tokens == 256


def test_a_token_that_took_no_time_is_no_measurement() -> None:
    clock = VirtualClock()
    engine = FakeEngine(clock, read_token_s=1e-3, write_token_s=1e-6)
    found = probe_sampling(engine, PROMPT, deadline=Deadline(1e9, clock))
    assert found.write_token_s is None and found.read_s == pytest.approx(2.0)

    instant = FakeEngine(clock, read_token_s=0.0, write_token_s=0.0)
    found = probe_sampling(instant, PROMPT, deadline=Deadline(1e9, clock))
    assert (found.read_s, found.write_token_s) == (None, None)


def test_an_answer_that_ends_at_once_says_nothing_of_writing() -> None:
    clock = VirtualClock()
    engine = FakeEngine(clock, read_token_s=1e-3, write_token_s=0.01, writes=1)
    found = probe_sampling(engine, PROMPT, deadline=Deadline(1e9, clock))
    assert found.write_token_s is None and found.read_s == pytest.approx(2.0)


def test_a_deadline_leaves_out_what_it_cut_off() -> None:
    clock = VirtualClock()
    engine = FakeEngine(clock, read_token_s=1e-3, write_token_s=0.01)
    found = probe_sampling(engine, PROMPT, deadline=Deadline(1.5, clock))
    assert found.write_token_s == pytest.approx(0.01) and found.read_s is None
    assert probe_sampling(engine, (), deadline=Deadline(1e9, clock)).read_s is None


# Two engines.


class BatchEngine:
    """Takes so many seconds for a batch, the first time of all more; remembers what it has read."""

    def __init__(self, clock: VirtualClock, batch_s: float, *, has_room: bool = True) -> None:
        self.clock, self.batch_s, self.has_room = clock, batch_s, has_room
        self.was_read: list[tuple[int, ...]] = []

    def sample(
        self, requests: Sequence[Request], *, deadline: Deadline
    ) -> Iterator[list[Completion]]:
        if not self.has_room and len(requests) > 1:
            raise OutOfMemory("no room for a batch")
        self.clock.sleep(self.batch_s if self.was_read else 10 * self.batch_s)
        for i, request in enumerate(requests):
            if len(requests) > 1:
                assert all(_common(request.prompt_ids, p) == 0 for p in self.was_read), "remembered"
                self.was_read.append(request.prompt_ids)
            yield [Completion(i, (1,) * request.max_new_tokens, 0.0, request.max_new_tokens, False)]


def compared(
    *seconds: float, rooms: Sequence[bool] = (True, True), limit_s: float = 1e9
) -> tuple[float | None, dict[str, float]]:
    """Seconds for the prompt by the engine that was probed, and what the comparison says."""
    clock = VirtualClock()
    engines = {
        name: BatchEngine(clock, batch_s, has_room=has_room)
        for name, batch_s, has_room in zip(("vllm", "transformers"), seconds, rooms, strict=False)
    }

    def serving(engine: BatchEngine) -> Callable[[], AbstractContextManager[Served]]:
        return lambda: nullcontext(Served(engine, "imagined"))

    found, batch_s = probe_engines(
        {name: serving(engine) for name, engine in engines.items()},
        PROMPT,
        deadline=Deadline(limit_s, clock),
    )
    return found.read_s, batch_s


def test_the_faster_of_two_engines_is_what_was_probed() -> None:
    assert compared(3.0, 1.0) == (1.0, {"vllm": 3.0, "transformers": 1.0})
    assert compared(1.0, 3.0) == (1.0, {"vllm": 1.0, "transformers": 3.0})


def test_one_engine_is_not_compared() -> None:
    assert compared(3.0)[1] == {}


def test_an_engine_without_room_or_time_for_the_batch_leaves_the_first_one() -> None:
    assert compared(3.0, 1.0, rooms=(True, False)) == (3.0, {})
    assert compared(3.0, 1.0, rooms=(False, True))[1] == {}
    assert compared(3.0, 99.0, limit_s=200.0) == (3.0, {})


# Memory.


@pytest.mark.parametrize(
    ("gpu", "model", "least_wrong"),
    [
        ("H100", "Qwen2.5-0.5B", 2.5),
        ("H100", "Qwen3-4B", 2.0),
        ("T4", "Qwen2.5-0.5B", 2.0),
        ("A6000", "Qwen3-4B", 1.5),
    ],
)
def test_what_vllm_holds_is_not_counted_as_training(
    gpu: str, model: str, least_wrong: float
) -> None:
    """The trainer is loaded, vLLM fills its share of the card, then training does as planned."""
    card = load_card(model)
    machine = imagined(Machine((), HOST, Platform()), gpu)
    plan = size(machine, [card], SizingRequest(usual_lengths(card), 36_000.0))
    parts = plan.train.memory.parts
    own_gib = parts["weights"]
    rise_gib = plan.train.memory.memory_gib - own_gib

    device = FakeMemory()
    device.take(own_gib)
    memory = TrainingMemory(device)
    share = 0.7 * (plan.room_gib - plan.train.memory.memory_gib)
    device.take(share)
    clock = VirtualClock()
    trainer: Any = FakeTrainer([1.0, 1.0, 1.0], memory=device, rise_gib=rise_gib)
    found = probe_training(
        trainer, iter(()), TuneSettings(), memory=memory, deadline=Deadline(1e9, clock)
    )

    tokens = plan.train.max_seq_tokens.value
    rows = plan.train.micro_batch.value
    after = plan.costs.corrected_by(Probe(tokens, rows, train_memory_gib=found.memory_gib))
    assert after.correction.memory == pytest.approx(1.0, abs=0.01)
    assert device.peak / plan.train.memory.memory_gib > least_wrong, "the peak of the whole device"


def test_a_shipped_adapter_put_on_after_the_engine_is_the_trainers() -> None:
    device = FakeMemory()
    device.take(2.0)
    memory = TrainingMemory(device)
    device.take(10.0)
    with memory.joined():
        device.take(0.5)
    with memory.watched():
        device.take(3.0)
        device.take(-3.0)
    assert memory.peak_gib == pytest.approx(5.5)


class Unreadable(FakeMemory):
    def restart_peak(self) -> None:
        raise PermissionError(NO_MEMORY)


def test_where_the_peak_cannot_be_started_anew_nothing_is_measured_and_the_reason_is_told() -> None:
    device = Unreadable()
    device.take(2.0)
    memory = TrainingMemory(device)
    with memory.watched():
        device.take(3.0)
    assert memory.peak_gib is None and NO_MEMORY in memory.fault


def test_a_host_without_these_files_measures_nothing(tmp_path: Path) -> None:
    memory = TrainingMemory(HostMeter(tmp_path))
    with memory.joined(), memory.watched():
        pass
    assert memory.peak_gib is None and "status" in memory.fault

    (tmp_path / "status").write_text("VmRSS:\t    2048 kB\n")
    memory = TrainingMemory(HostMeter(tmp_path))
    with memory.watched():
        pass
    assert memory.peak_gib is None and "clear_refs" in memory.fault


def test_the_peak_of_this_process_begins_anew() -> None:
    """Blocks are mapped, not allocated: an allocator may keep what was freed for the next one."""
    meter = HostMeter()
    try:
        meter.restart_peak()
    except OSError as fault:
        pytest.skip(f"not allowed here: {fault}")

    def touch(size_bytes: int) -> None:
        with mmap.mmap(-1, size_bytes) as block:
            for start in range(0, size_bytes, mmap.PAGESIZE):
                block[start] = 1

    size_bytes = 256 << 20
    touch(2 * size_bytes)
    meter.restart_peak()
    began = meter.held_bytes()
    touch(size_bytes)
    assert 0.8 * size_bytes < meter.peak_bytes() - began < 1.5 * size_bytes
