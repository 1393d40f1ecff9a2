"""What one task costs, for the scheduler: seconds and memory by the model, corrected by what was measured on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.machine.card import ModelCard
from appliance.machine.device import Device
from appliance.machine.lengths import TaskLength
from appliance.machine.setups import SampleSetup, TrainSetup
from appliance.machine.speed import load_s, sample_speed, train_step_s
from appliance.machine.train_memory import TrainMemory, train_memory


@dataclass(frozen=True)
class Probe:
    """What a probe measured at the longest planned length: seconds of the second training step, peak memory of training
    (as the process shows it), seconds to read one prompt of that length. None where it was not measured."""

    tokens: int
    train_step_s: float | None = None
    train_memory_gib: float | None = None
    prefill_s: float | None = None


@dataclass(frozen=True)
class Correction:
    """Measured over predicted: 1.3 says that the device took 1.3 times as long (or as much memory) as the model said."""

    train_time: float = 1.0
    sample_time: float = 1.0
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

    def step_s(self, tokens: float) -> float:
        """One optimizer step on a batch of sequences of that length."""
        length = min(tokens, self.train.max_seq_tokens)
        return self.correction.train_time * train_step_s(self.card, self.train, self.device, tokens=length)

    def train_s(self, task: TaskLength, num_steps: int) -> float:
        return num_steps * self.step_s(task.lesson_tokens)

    def sample_s(self, task: TaskLength, num_views: int, *, samples_per_view: int = 1) -> float:
        """Answers for every test input under that many views."""
        prompt = min(task.prompt_tokens, self.sample.max_seq_tokens)
        num_prompts = num_views * task.num_tests
        setup = replace(
            self.sample,
            samples_per_prompt=samples_per_view,
            batch=max(1, min(self.sample.batch, num_prompts * samples_per_view)),
        )
        speed = sample_speed(
            self.card,
            setup,
            self.device,
            kv_tokens=self.kv_tokens,
            prompt_tokens=prompt,
            answer_tokens=task.typical_answer_tokens,
        )
        written = num_prompts * samples_per_view * task.typical_answer_tokens
        return self.correction.sample_time * written / speed.tokens_per_second

    def memory(self, tokens: int) -> TrainMemory:
        """Of training on sequences of that length."""
        peak = train_memory(self.card, replace(self.train, max_seq_tokens=tokens), self.device)
        return replace(peak, memory_gib=peak.memory_gib * self.correction.memory)

    def corrected_by(self, probe: Probe) -> Costs:
        """With the ratios of the probe in place of the earlier ones. A ratio outside 1/20-20 is a fault of the probe (the
        first step of a cold device, a clock that jumped) and is cut to that range."""
        plain = replace(self, correction=NO_CORRECTION)
        now = self.correction
        train = _ratio(probe.train_step_s, plain.step_s(probe.tokens), now.train_time)
        memory = plain.memory(probe.tokens)
        space = _ratio(probe.train_memory_gib, memory.memory_gib + memory.context_gib, now.memory)
        reading = TaskLength("probe", probe.tokens, 1, probe.tokens, 1)
        sample = _ratio(probe.prefill_s, plain.sample_s(reading, 1), now.sample_time)
        return replace(self, correction=Correction(train, sample, space))


def _ratio(measured: float | None, predicted: float, otherwise: float) -> float:
    if measured is None or predicted <= 0:
        return otherwise
    return min(20.0, max(0.05, measured / predicted))
