"""What one task costs, for the schedule: computed seconds and GiB, corrected by measured ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import SampleSetup, TrainSetup
from appliance.sizing.costs.speed import (
    decode_step_s,
    load_s,
    prefill_s,
    train_busy_s,
    train_step_s,
    turn_s,
)
from appliance.sizing.costs.task_lengths import TaskLength
from appliance.sizing.costs.train_memory import TrainMemory, train_memory


@dataclass(frozen=True)
class Probe:
    """What a short trial on the device measured; None where it was not."""

    tokens: int  # of each training sequence
    rows: int = 1  # sequences of the training step
    prompt_tokens: int = 0  # of the prompt that was read; 0: as many as `tokens`
    gradient_checkpointing: bool | None = None  # None: as planned
    train_step_s: float | None = None  # once the device is warm
    # Peak of training alone: of its tensors on a GPU, else of the process without its engine.
    train_memory_gib: float | None = None
    memory_fault: str = ""  # why the memory was not measured
    read_s: float | None = None  # one prompt, with the token that comes of reading it
    write_token_s: float | None = None  # each token after that one
    short_tokens: int = 0  # of the prompt that it was written after; 0: as many as were read


@dataclass(frozen=True)
class Correction:
    """Measured over predicted: with 1.3 the device took 1.3 times the time (or memory) computed."""

    train_time: float = 1.0
    read_time: float = 1.0  # of prompts
    write_time: float = 1.0  # of answers
    memory: float = 1.0  # of training
    growing_memory: float = 1.0  # of its part that grows with a task, where a probe ran out of it


NO_CORRECTION = Correction()


@dataclass(frozen=True)
class Costs:
    """What one model costs on one device, trained and sampled in one way."""

    card: ModelCard
    device: Device
    train: TrainSetup
    sample: SampleSetup
    kv_tokens: int  # that the cache of the engine holds
    correction: Correction = NO_CORRECTION

    def load_s(self) -> float:
        """From the start of the worker to its first task."""
        return load_s(self.card, self.device)

    def step_s(self, tokens: float, *, rows: int | None = None) -> float:
        """One optimizer step. tokens: of each sequence. rows: sequences, by default as planned."""
        length = min(tokens, self.train.max_seq_tokens)
        setup = replace(self.train, micro_batch=rows or self.train.rows(length))
        return self.correction.train_time * train_step_s(
            self.card, setup, self.device, tokens=length
        )

    def device_share(self, tokens: float) -> float:
        """Part of the time that the device computes while its workers train on such sequences."""
        if not self.device.is_gpu:
            return 1.0
        length = min(tokens, self.train.max_seq_tokens)
        setup = replace(self.train, micro_batch=self.train.rows(length))
        step_s = train_step_s(self.card, setup, self.device, tokens=length)
        busy_s = train_busy_s(self.card, setup, self.device, tokens=length)
        return min(1.0, self.device.sharers * busy_s / step_s)

    def train_s(self, task: TaskLength, num_steps: int) -> float:
        return num_steps * self.step_s(task.lesson_tokens)

    def read_s(self, tokens: float) -> float:
        """One prompt of that length."""
        return self.correction.read_time * prefill_s(
            self.card, self.sample, self.device, prompt_tokens=max(1.0, tokens)
        )

    def write_token_s(self, tokens: float, *, batch: int = 1) -> float:
        """One token for each of `batch` answers. tokens: those before it, in each sequence."""
        step_s = decode_step_s(
            self.card, self.sample, self.device, batch=batch, context_tokens=tokens
        )
        return self.correction.write_time * step_s

    def sample_s(
        self,
        task: TaskLength,
        num_views: int,
        *,
        samples_per_view: int = 1,
        batch_tokens: int | None = None,
    ) -> float:
        """Answers for every test input under that many views, by an engine that samples one task
        at a time.

        batch_tokens: at most so many tokens at once, prompts and answers together.
        """
        prompt = min(task.prompt_tokens, self.sample.max_seq_tokens)
        answer = task.typical_answer_tokens
        num_prompts = num_views * task.num_tests
        if not num_prompts:
            return 0.0

        held = int(self.kv_tokens / max(1.0, prompt + samples_per_view * answer) * samples_per_view)
        if batch_tokens is not None:
            held = min(held, batch_tokens // (prompt + answer))
        batch = max(1, min(self.sample.batch, num_prompts * samples_per_view, held))

        # The first token of an answer comes of reading its prompt.
        write_s = self.write_token_s(prompt + answer / 2, batch=batch) * (answer - 1) / batch
        answers_s = num_prompts * (self.read_s(prompt) + samples_per_view * write_s)
        return turn_s(self.card, self.sample) + answers_s

    def memory(self, tokens: int) -> TrainMemory:
        """Of training on sequences of that length."""
        return self.memory_of(replace(self.train, max_seq_tokens=tokens))

    def memory_of(self, setup: TrainSetup) -> TrainMemory:
        peak, correction = train_memory(self.card, setup, self.device), self.correction
        more_gib = (correction.growing_memory - 1) * peak.growing_gib
        return replace(peak, memory_gib=(peak.memory_gib + more_gib) * correction.memory)

    def as_probed(self, probe: Probe) -> Costs:
        """The costs as planned, without correction, for the work that the probe did."""
        checkpoints = probe.gradient_checkpointing
        if checkpoints is None:
            checkpoints = self.train.gradient_checkpointing
        setup = replace(self.train, micro_batch=probe.rows, gradient_checkpointing=checkpoints)
        return replace(self, train=setup, correction=NO_CORRECTION)

    def corrected_by(self, probe: Probe) -> Costs:
        """With the ratios of the probe in place of the earlier ones.

        Where its time went by in training, sampling is taken to be slower by as much.
        """
        plain, now = self.as_probed(probe), self.correction
        prompt = probe.prompt_tokens or probe.tokens
        short = probe.short_tokens or prompt

        planned_step_s = plain.step_s(probe.tokens, rows=probe.rows)
        train_time = _ratio(probe.train_step_s, planned_step_s, now.train_time)
        read_time = max(now.read_time, train_time)
        write_time = max(now.write_time, train_time)

        found = Correction(
            train_time=train_time,
            read_time=_ratio(probe.read_s, plain.read_s(prompt), read_time),
            write_time=_ratio(probe.write_token_s, plain.write_token_s(short), write_time),
            memory=_ratio(
                probe.train_memory_gib, plain.memory(probe.tokens).memory_gib, now.memory
            ),
        )
        return replace(self, correction=found)


def _ratio(measured: float | None, predicted: float, otherwise: float) -> float:
    """Measured over predicted; `otherwise` where nothing was measured.

    A ratio outside 1/20-20 is a fault of the probe, such as the first step of a cold device or a
    clock that jumped, and is cut to that range.
    """
    if measured is None or predicted <= 0:
        return otherwise
    return min(20.0, max(0.05, measured / predicted))
