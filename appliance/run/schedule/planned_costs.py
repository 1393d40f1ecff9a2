"""What the plan expects of every task: seconds, memory, and the rung of the ladder to begin on.

A probe on the real device corrects it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from appliance.arc.task import TaskSet
from appliance.clock import format_duration
from appliance.config import Settings
from appliance.engine.probe import BATCH, BATCH_ANSWER_TOKENS
from appliance.run.schedule.measured_costs import TaskCost
from appliance.sizing.costs.setups import TrainSetup
from appliance.sizing.costs.task_costs import Costs, Probe
from appliance.sizing.costs.task_lengths import TaskLength, lengths_of
from appliance.sizing.memory_ladder import LAST_RUNG, ROOM, RUNGS
from appliance.sizing.plan import Plan

PROBE_SHARE = 0.025
"""Share of the devices' time that a probe may take, on the longest task that this allows."""

PROBE_STEPS = 2
"""Training steps of a probe on a device that is warm: they agree. A cold one takes more of them,
for which a probe is given patience (run/probe.py)."""

PROBE_READS = 2.5
"""Prompts that a probe reads: twice the whole one, and thrice its beginning."""

PROBE_TOKENS = 20
"""Tokens that a probe writes."""

COMPARED_BATCHES = 4
"""Batches of answers, where a probe compares two engines: each has one that is not counted."""

LEAST_PROBE_S = 1.0
"""A probe that takes less than this by the plan is always worth it."""

MISSED = 1.15
"""After a probe that ran out of memory, the need is taken to be this many times what there is."""


@dataclass(frozen=True)
class PlannedCosts:
    """Costs and memory of every task, by the plan or as a probe corrected it."""

    costs: Costs
    lengths: Mapping[str, TaskLength]  # by task
    settings: Settings
    room_gib: float  # what a worker has for training, beside its engine
    steps_per_task: int = 0  # of training, that the plan expects
    is_compared: bool = False  # the probe tries two engines

    @staticmethod
    def of(plan: Plan, tasks: TaskSet, *, at_once: int | None = None) -> PlannedCosts:
        """By the plan. at_once: answers written at once, if other than planned."""
        costs = plan.costs
        lengths = {length.task_id: length for length in lengths_of(tasks, costs.card).tasks}
        if at_once is not None:
            costs = replace(costs, sample=replace(costs.sample, batch=at_once))

        # The plan turns checkpointing on for its longest task; here each task's rung does.
        costs = replace(costs, train=replace(costs.train, gradient_checkpointing=False))
        steps = plan.train.steps_per_task.value
        return PlannedCosts(
            costs,
            lengths,
            plan.settings,
            plan.train_room_gib,
            steps_per_task=steps,
            is_compared=plan.sample.is_compared,
        )

    def task_costs(self) -> dict[str, TaskCost]:
        """Seconds of one step and of one view."""
        sample = self.settings.sample
        # Only Transformers limits a batch by its tokens.
        batch_tokens = sample.batch_tokens if self.costs.sample.engine == "transformers" else None

        found = {}
        for task_id, length in self.lengths.items():
            seconds = self.costs.sample_s(
                length,
                sample.views,
                samples_per_view=sample.answers_per_view,
                batch_tokens=batch_tokens,
            )
            found[task_id] = TaskCost(self.step_s(length), seconds / sample.views)

        return found

    def step_s(self, length: TaskLength) -> float:
        """One optimizer step on as many of the task's longest lessons as a step holds."""
        setup = self._setup(length, self.first_rung(length))
        costs = replace(
            self.costs,
            train=replace(self.costs.train, gradient_checkpointing=setup.gradient_checkpointing),
        )
        return costs.step_s(setup.max_seq_tokens, rows=setup.micro_batch)

    def first_rung(self, length: TaskLength) -> int:
        """The first rung of the memory ladder on which the task fits, by the memory model."""
        for rung in range(LAST_RUNG):
            if self.memory_gib(length, rung) <= ROOM * self.room_gib:
                return rung
        return LAST_RUNG  # trains nothing, so it always fits

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

    def to_probe(self, device_s: float, *, without: Sequence[str] = ()) -> str | None:
        """The longest task that a probe may measure, None where even the shortest takes too long.

        device_s: seconds that all devices have together. without: tasks that were probed.
        """
        most_s = max(LEAST_PROBE_S, PROBE_SHARE * device_s)
        left = [t for t in self.lengths.values() if t.task_id not in without]
        by_length = sorted(left, key=lambda t: (-t.lesson_tokens, t.task_id))
        return next((t.task_id for t in by_length if self.probe_s(t.task_id) <= most_s), None)

    def probe_s(self, task_id: str) -> float:
        """What a probe of that task will take, on a device that is warm."""
        length, costs = self.lengths[task_id], self.costs
        prompt = length.prompt_tokens
        train_s = PROBE_STEPS * self.step_s(length) if self.settings.train.enabled else 0.0
        sample_s = PROBE_READS * costs.read_s(prompt) + PROBE_TOKENS * costs.write_token_s(prompt)
        if not self.is_compared:
            return train_s + sample_s

        write_s = BATCH_ANSWER_TOKENS * costs.write_token_s(prompt, batch=BATCH)
        batch_s = BATCH * costs.read_s(prompt) + write_s
        return train_s + 2 * sample_s + COMPARED_BATCHES * batch_s

    def sampled_by(self, engine: str) -> PlannedCosts:
        """With the costs of another sampling engine."""
        sample = replace(self.costs.sample, engine=engine, sleeps=False)
        return replace(self, costs=replace(self.costs, sample=sample))

    def slowed_by(self, factor: float) -> PlannedCosts:
        """With other work on the cores. Times that a probe measures take the place of these."""
        slow = replace(
            self.costs.correction, train_time=factor, read_time=factor, write_time=factor
        )
        return replace(self, costs=replace(self.costs, correction=slow))

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
        by_rung: dict[int, list[TaskLength]] = {}
        for task_id, rung in self.first_rungs().items():
            by_rung.setdefault(rung, []).append(self.lengths[task_id])
        by_rung.pop(0, None)

        for rung, lengths in sorted(by_rung.items()):
            least_gib = min(self.memory_gib(length, rung - 1) for length in lengths)
            yield (
                f"  {len(lengths)} of {len(self.lengths)} tasks begin at '{RUNGS[rung].name}': "
                f"before that step, training takes {least_gib:.2f} GiB or more, "
                f"and a worker has {self.room_gib:.2f} GiB for it"
            )


def correction_lines(
    before: PlannedCosts, after: PlannedCosts, probe: Probe, *, seconds: float
) -> list[str]:
    """For people: measured beside planned, and what is corrected."""
    plain, found = before.costs.as_probed(probe), after.costs.correction
    prompt = probe.prompt_tokens or probe.tokens
    shown = [
        f"probe of {probe.tokens} tokens x {probe.rows} rows took {format_duration(seconds)}; "
        "the plan's figures are corrected:"
    ]

    if probe.train_step_s is not None:
        planned = plain.step_s(probe.tokens, rows=probe.rows)
        shown.append(_line("a training step", probe.train_step_s, planned, found.train_time, "s"))

    if probe.train_memory_gib is not None:
        planned, ratio = plain.memory(probe.tokens).memory_gib, found.memory
        shown.append(_line("memory in training", probe.train_memory_gib, planned, ratio, "GiB"))
    elif probe.memory_fault:
        shown.append(f"  memory in training: not measured ({probe.memory_fault}); as planned")

    if probe.read_s is not None:
        title, planned = f"reading {prompt} tokens", plain.read_s(prompt)
        shown.append(_line(title, probe.read_s, planned, found.read_time, "s"))

    if probe.read_s is None and probe.write_token_s is None:
        shown.append(
            "  answering: no time was left to measure it; planned figures x "
            f"{found.write_time:.2f} from now on, as for training if that is slower"
        )
    if probe.write_token_s is not None:
        planned = plain.write_token_s(probe.short_tokens or prompt)
        title = "writing a token"
        shown.append(_line(title, probe.write_token_s, planned, found.write_time, "s"))

    return shown


def _line(title: str, measured: float, planned: float, ratio: float, unit: str) -> str:
    return (
        f"  {title}: {measured:.3g} {unit} measured, {planned:.3g} {unit} planned; "
        f"planned figures x {ratio:.2f} from now on"
    )
