"""What one task costs, for the scheduler: seconds and memory by the model, corrected by what was measured on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import SampleSetup, TrainSetup
from appliance.sizing.costs.speed import decode_step_s, load_s, prefill_s, train_step_s
from appliance.sizing.costs.task_lengths import TaskLength
from appliance.sizing.costs.train_memory import TrainMemory, train_memory


@dataclass(frozen=True)
class Probe:
    """What a probe measured: seconds of the second training step on `rows` sequences of `tokens`, peak memory of training (of
    tensors on a GPU, else of the process), seconds to read a prompt of `prompt_tokens` (by default as many) and to write each
    token after it. None where it was not measured. gradient_checkpointing: None says as planned."""

    tokens: int
    rows: int = 1
    prompt_tokens: int = 0
    gradient_checkpointing: bool | None = None
    train_step_s: float | None = None
    train_memory_gib: float | None = None
    read_s: float | None = None
    write_token_s: float | None = None


@dataclass(frozen=True)
class Correction:
    """Measured over predicted: 1.3 says that the device took 1.3 times as long (or as much memory) as the model said. read:
    prompts, write: answers."""

    train_time: float = 1.0
    read_time: float = 1.0
    write_time: float = 1.0
    memory: float = 1.0


NO_CORRECTION = Correction()


@dataclass(frozen=True)
class Costs:
    card: ModelCard
    device: Device
    train: TrainSetup
    sample: SampleSetup
    kv_tokens: int
    correction: Correction = NO_CORRECTION

    def load_s(self) -> float:
        """From the start of the worker to its first task."""
        return load_s(self.card, self.device)

    def step_s(self, tokens: float, *, rows: int | None = None) -> float:
        """One optimizer step on a batch of sequences of that length, by default of as many as planned."""
        length = min(tokens, self.train.max_seq_tokens)
        setup = self.train if rows is None else replace(self.train, micro_batch=rows)
        return self.correction.train_time * train_step_s(
            self.card, setup, self.device, tokens=length
        )

    def train_s(self, task: TaskLength, num_steps: int) -> float:
        return num_steps * self.step_s(task.lesson_tokens)

    def read_s(self, tokens: float) -> float:
        """One prompt of that length."""
        return self.correction.read_time * prefill_s(
            self.card, self.sample, self.device, prompt_tokens=max(1.0, tokens)
        )

    def write_token_s(self, tokens: float, *, batch: int = 1) -> float:
        """One token for each of `batch` answers, that many tokens before it."""
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
        """Answers for every test input under that many views. batch_tokens: bound for (prompt + answer) x answers at once."""
        prompt, answer = (
            min(task.prompt_tokens, self.sample.max_seq_tokens),
            task.typical_answer_tokens,
        )
        num_prompts = num_views * task.num_tests
        held = int(self.kv_tokens / max(1.0, prompt + samples_per_view * answer) * samples_per_view)
        if batch_tokens is not None:
            held = min(held, batch_tokens // (prompt + answer))
        batch = max(1, min(self.sample.batch, num_prompts * samples_per_view, held))
        write_s = self.write_token_s(prompt + answer / 2, batch=batch) * answer / batch
        return num_prompts * (self.read_s(prompt) + samples_per_view * write_s)

    def memory(self, tokens: int) -> TrainMemory:
        """Of training on sequences of that length."""
        return self.memory_of(replace(self.train, max_seq_tokens=tokens))

    def memory_of(self, setup: TrainSetup) -> TrainMemory:
        peak = train_memory(self.card, setup, self.device)
        return replace(peak, memory_gib=peak.memory_gib * self.correction.memory)

    def as_probed(self, probe: Probe) -> Costs:
        """What was planned for the work of that probe."""
        again = (
            self.train.gradient_checkpointing
            if probe.gradient_checkpointing is None
            else probe.gradient_checkpointing
        )
        setup = replace(self.train, micro_batch=probe.rows, gradient_checkpointing=again)
        return replace(self, train=setup, correction=NO_CORRECTION)

    def corrected_by(self, probe: Probe) -> Costs:
        """With the ratios of the probe in place of the earlier ones. A ratio outside 1/20-20 is a fault of the probe (the
        first step of a cold device, a clock that jumped) and is cut to that range."""
        plain, now = self.as_probed(probe), self.correction
        prompt = probe.prompt_tokens or probe.tokens
        found = Correction(
            train_time=_ratio(
                probe.train_step_s, plain.step_s(probe.tokens, rows=probe.rows), now.train_time
            ),
            read_time=_ratio(probe.read_s, plain.read_s(prompt), now.read_time),
            write_time=_ratio(probe.write_token_s, plain.write_token_s(prompt), now.write_time),
            memory=_ratio(
                probe.train_memory_gib, plain.memory(probe.tokens).memory_gib, now.memory
            ),
        )
        return replace(self, correction=found)


def _ratio(measured: float | None, predicted: float, otherwise: float) -> float:
    if measured is None or predicted <= 0:
        return otherwise
    return min(20.0, max(0.05, measured / predicted))
