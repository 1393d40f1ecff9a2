"""What the plan expects of every task, and what a probe on the real device makes of it: seconds, memory, the first rung."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from appliance.arc.task import TaskSet
from appliance.clock import format_duration
from appliance.config import Settings
from appliance.run.schedule.measured_costs import TaskCost
from appliance.sizing.costs.setups import TrainSetup
from appliance.sizing.costs.task_costs import Costs, Probe
from appliance.sizing.costs.task_lengths import TaskLength, lengths_of
from appliance.sizing.memory_ladder import LAST_RUNG, RUNGS
from appliance.sizing.plan import Plan

PROBE_SHARE = 0.02
"""Of the devices' time a probe may take; where the longest task would take more, a shorter one is measured."""
PROBE_STEPS = 2
LEAST_PROBE_S = 1.0
"""A probe that takes less by the plan is always worth it."""
ROOM = 0.96
"""Of the memory that a worker has: the model is right within some percent, and the ladder catches what it misses."""
MISSED = 1.15
"""A probe that ran out of memory says that at least this much more is needed than there is."""


@dataclass(frozen=True)
class PlannedCosts:
    """Costs by the plan (or corrected), the lengths of the tasks, and the memory of one worker."""

    costs: Costs
    lengths: Mapping[str, TaskLength]
    settings: Settings
    room_gib: float

    @staticmethod
    def of(plan: Plan, tasks: TaskSet, *, at_once: int | None = None) -> PlannedCosts:
        """By the plan. at_once: answers written at once, where that shall not be what is planned."""
        costs = plan.costs
        lengths = {length.task_id: length for length in lengths_of(tasks, costs.card).tasks}
        if at_once is not None:
            costs = replace(costs, sample=replace(costs.sample, batch=at_once))
        costs = replace(
            costs, train=replace(costs.train, gradient_checkpointing=False)
        )  # rung by rung instead
        return PlannedCosts(costs, lengths, plan.settings, plan.room_gib)

    def task_costs(self) -> dict[str, TaskCost]:
        """Seconds of one step and of one view."""
        sample, found = self.settings.sample, {}
        batch_tokens = sample.batch_tokens if self.costs.sample.engine == "transformers" else None
        for task_id, length in self.lengths.items():
            seconds = self.costs.sample_s(
                length,
                sample.views,
                samples_per_view=sample.samples_per_view,
                batch_tokens=batch_tokens,
            )
            found[task_id] = TaskCost(self.step_s(length), seconds / sample.views)
        return found

    def step_s(self, length: TaskLength) -> float:
        """One optimizer step as the worker will make it: as many of the task's longest lessons as a step holds."""
        rung = self.first_rung(length)
        setup = self._setup(length, rung)
        costs = replace(
            self.costs,
            train=replace(self.costs.train, gradient_checkpointing=setup.gradient_checkpointing),
        )
        return costs.step_s(setup.max_seq_tokens, rows=setup.micro_batch)

    def first_rung(self, length: TaskLength) -> int:
        """Of the memory ladder: the first that fits by the model. The last one trains nothing and always fits."""
        rungs = range(LAST_RUNG)
        return next(
            (r for r in rungs if self.memory_gib(length, r) <= ROOM * self.room_gib), LAST_RUNG
        )

    def first_rungs(self) -> dict[str, int]:
        return {task_id: self.first_rung(length) for task_id, length in self.lengths.items()}

    def memory_gib(self, length: TaskLength, rung: int) -> float:
        """Of a worker that trains on that task, on that rung."""
        memory = self.costs.memory_of(self._setup(length, rung))
        return memory.memory_gib + memory.context_gib

    def _setup(self, length: TaskLength, rung: int) -> TrainSetup:
        """How the worker will train on that task, on that rung."""
        step, train = RUNGS[rung], self.settings.train
        longest = step.seq_tokens(self.costs.train.max_seq_tokens)
        tokens = max(1, min(length.lesson_tokens, longest))
        return replace(
            self.costs.train,
            max_seq_tokens=tokens,
            micro_batch=step.rows(max(1, train.tokens_per_step // tokens)),
            gradient_checkpointing=step.gradient_checkpointing,
            lora_rank=step.rank(train.rank),
            target_share=length.target_share,
        )

    def to_probe(self, device_s: float) -> str | None:
        """The longest task that a probe may measure when the devices have so many seconds together; None where even the
        shortest takes too long."""
        most_s = max(LEAST_PROBE_S, PROBE_SHARE * device_s)
        by_length = sorted(self.lengths.values(), key=lambda t: (-t.lesson_tokens, t.task_id))
        return next((t.task_id for t in by_length if self.probe_s(t.task_id) <= most_s), None)

    def probe_s(self, task_id: str) -> float:
        length = self.lengths[task_id]
        train_s = PROBE_STEPS * self.step_s(length) if self.settings.train.enabled else 0.0
        return train_s + 2 * self.costs.read_s(length.prompt_tokens)

    def corrected_by(self, probe: Probe) -> PlannedCosts:
        return replace(self, costs=self.costs.corrected_by(probe))

    def after_running_out(self, task_id: str) -> PlannedCosts:
        """The probe of that task had no room on its first rung.

        What grows with a task's length was planned too small. The rest, which the probe shares with
        every shorter task, fitted: short tasks begin where they did.
        """
        length, correction = self.lengths[task_id], self.costs.correction
        setup = self._setup(length, min(self.first_rung(length), LAST_RUNG - 1))
        planned = self.costs.memory_of(setup)

        growing_gib = correction.memory * correction.growing_memory * planned.growing_gib
        fixed_gib = planned.memory_gib - growing_gib + planned.context_gib
        factor = max(MISSED, (MISSED * self.room_gib - fixed_gib) / growing_gib)
        found = replace(correction, growing_memory=factor * correction.growing_memory)
        return replace(self, costs=replace(self.costs, correction=found))

    def rung_lines(self) -> Iterator[str]:
        """For people: how many tasks do not begin as planned, and why."""
        counts = [0] * len(RUNGS)
        for rung in self.first_rungs().values():
            counts[rung] += 1
        for rung, count in enumerate(counts):
            if rung and count:
                least = min(
                    self.memory_gib(t, rung - 1)
                    for t in self.lengths.values()
                    if self.first_rung(t) == rung
                )
                yield (
                    f"  {count} of {len(self.lengths)} tasks begin at «{RUNGS[rung].name}»: one rung above, training takes "
                    f"{least:.2f} GiB or more and a worker has {self.room_gib:.2f}"
                )


def correction_lines(
    before: PlannedCosts, after: PlannedCosts, probe: Probe, *, seconds: float
) -> list[str]:
    """For people: measured beside planned, and what is corrected."""
    plain, found = before.costs.as_probed(probe), after.costs.correction
    shown = [
        f"probe at {probe.tokens} tokens x {probe.rows} rows, {format_duration(seconds)}: the plan's figures are corrected"
    ]
    if probe.train_step_s is not None:
        planned = plain.step_s(probe.tokens, rows=probe.rows)
        shown.append(_line("a training step", probe.train_step_s, planned, found.train_time, "s"))
    if probe.train_memory_gib is not None:
        shown.append(
            _line(
                "memory in training",
                probe.train_memory_gib,
                plain.memory(probe.tokens).memory_gib,
                found.memory,
                "GiB",
            )
        )
    prompt = probe.prompt_tokens or probe.tokens
    if probe.read_s is not None:
        shown.append(
            _line(
                f"a prompt of {prompt} tokens",
                probe.read_s,
                plain.read_s(prompt),
                found.read_time,
                "s",
            )
        )
    if probe.write_token_s is not None:
        planned = plain.write_token_s(prompt)
        shown.append(_line("a token after it", probe.write_token_s, planned, found.write_time, "s"))
    return shown


def _line(what: str, measured: float, planned: float, ratio: float, unit: str) -> str:
    return f"  {what}: {measured:.3g} {unit} measured, {planned:.3g} planned; now x {ratio:.2f}"
