"""The plain training loop that every trainer shares: pack lessons, step, refuse infinite numbers.

It knows weights and rows, no adapter and no file. In float16 the loss is scaled, so that small
gradients do not vanish. In any type a step whose gradient is not finite is left out, and too many
of these in a row end the training. Imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appliance.clock import Deadline
from appliance.engine.base import NotTuned, TuneSettings
from appliance.engine.training.loss import answer_loss
from appliance.engine.training.packing import Rows, TokenSequence, fill_rows, plan_rows

WARMUP_SHARE = 0.1
"""Part of the training over which the learning rate rises to its peak."""

FINAL_RATE_SHARE = 0.1
"""The last learning rate, as a share of the peak."""

MIN_STEPS_TO_PROJECT = 3
"""Steps before their time says whether the time or max_steps ends the training."""

FIRST_SCALE = 4096.0
"""What losses in float16 are multiplied with at first."""

MAX_SKIPPED = 12
"""Steps left out in a row before the training ends.

Each halves the loss scale in float16, so a scale of 4096 has then come down to 1.
"""


@dataclass(frozen=True)
class TuningResult:
    """How a training went."""

    num_steps: int
    trouble: NotTuned | None = None  # why its result must not be used, None where all is well


class TuningLoop:
    """Optimizer steps on the weights of a model that learn.

    Made once for a model, and restarted for every task.
    """

    def __init__(
        self,
        model: Any,
        weights: list[Any],
        *,
        pad_id: int,
        autocast_dtype: str | None,
        is_flat: bool = False,
    ) -> None:
        """weights: the parameters of the model that learn. autocast_dtype: what matrices are
        multiplied in, None for the type they are stored in. is_flat: a batch is one long row.
        """
        import torch

        self._model = model
        self._weights = weights
        self._pad_id = pad_id
        self._autocast_dtype = autocast_dtype
        self._is_flat = is_flat
        self._device = weights[0].device

        has_fused = self._device.type in ("cuda", "cpu")
        self._optimizer = torch.optim.AdamW(weights, weight_decay=0.0, fused=has_fused)
        self.restart()

    def restart(self) -> None:
        """Forget what the steps so far left in the optimizer."""
        import torch

        self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.state.clear()
        is_scaled = self._autocast_dtype == "float16"
        self._scaler = torch.amp.GradScaler(
            self._device.type, init_scale=FIRST_SCALE, enabled=is_scaled
        )

    @property
    def scale(self) -> float:
        """What losses are multiplied with before gradients are taken; always 1 but in float16."""
        return float(self._scaler.get_scale())

    def run(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        began_s: float,
        deadline: Deadline,
    ) -> TuningResult:
        """Steps until max_steps, the deadline or the last lesson.

        The learning rate warms up and then falls. began_s: when the training of the task began,
        which counts against the deadline.
        """
        num_steps = num_tried = num_skipped = 0

        while num_tried < settings.max_steps and not deadline.is_past():
            spent = (deadline.clock.now() - began_s) / max(deadline.at_s - began_s, 1e-9)
            progress = _progress(num_tried, settings.max_steps, spent)
            rate = settings.learning_rate * _rate_share(progress)

            rows = self.pack(lessons, settings)
            if rows.num_targets() == 0:
                break  # the lessons came to an end
            loss, is_taken = self.step(rows, rate)

            if not math.isfinite(loss):
                broken = NotTuned(f"loss became {loss} at step {num_tried}", "fault")
                return TuningResult(num_steps, broken)
            num_tried += 1
            num_steps += is_taken
            num_skipped = 0 if is_taken else num_skipped + 1
            if num_skipped >= MAX_SKIPPED:
                broken = NotTuned(
                    f"the gradient was not finite in {num_skipped} steps in a row", "fault"
                )
                return TuningResult(num_steps, broken)

        if 2 * num_steps < num_tried:
            skipped = f"{num_tried - num_steps} of {num_tried} steps"
            broken = NotTuned(f"the gradient was not finite in {skipped}", "fault")
            return TuningResult(num_steps, broken)
        is_late = NotTuned("no time for a single step", "time")
        return TuningResult(num_steps, None if num_steps else is_late)

    def step(self, rows: Rows, rate: float) -> tuple[float, bool]:
        """One optimizer step: its loss in nats, and whether the step was taken.

        It is not taken, and no weight changes, where the loss or the gradient is not finite.
        """
        import torch

        with self.autocast():
            loss = answer_loss(self._model, rows, device=self._device)
        value = float(loss.item())
        if not math.isfinite(value):
            return value, False

        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        is_taken = bool(torch.isfinite(norm))

        if is_taken:
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._scaler.step(self._optimizer)
        self._scaler.update()  # lowers the loss scale after a gradient that is not finite
        self._optimizer.zero_grad(set_to_none=True)
        return value, is_taken

    def loss(self, rows: Rows) -> float:
        """Loss in nats per answer token; nothing is trained."""
        import torch

        with torch.inference_mode(), self.autocast():
            return float(answer_loss(self._model, rows, device=self._device))

    def pack(self, lessons: Iterator[TokenSequence], settings: TuneSettings) -> Rows:
        """The rows of the next optimizer step. Lessons longer than a row are passed over."""
        taken: list[TokenSequence] = []

        def lengths() -> Iterator[int]:
            for lesson in lessons:
                taken.append(lesson)
                yield len(lesson)

        # Few misses, because a lesson that found no room is lost: the stream is read only once.
        plan = plan_rows(
            lengths(), row_tokens=settings.row_tokens, num_rows=settings.rows_per_step, max_misses=2
        )
        rows = fill_rows(taken, plan, row_tokens=settings.row_tokens, pad_id=self._pad_id)
        return rows.flat() if self._is_flat else rows

    def autocast(self) -> Any:
        """A context in which matrices are multiplied in the autocast type, where there is one."""
        import torch

        dtype = getattr(torch, self._autocast_dtype) if self._autocast_dtype else torch.float32
        return torch.autocast(self._device.type, dtype, enabled=self._autocast_dtype is not None)


def _progress(num_steps: int, max_steps: int, spent: float) -> float:
    """Share of the training that is over, 0 to 1.

    By steps, unless the time (of which the share `spent` is gone) is going to run out first. So a
    training that ends by its steps gives the same weights however fast the machine is.
    """
    is_time_bound = num_steps >= MIN_STEPS_TO_PROJECT and num_steps < spent * max_steps
    return spent if is_time_bound else num_steps / max_steps


def _rate_share(progress: float) -> float:
    """Share of the peak learning rate at a progress of 0 to 1 through the task's training."""
    warm = min(1.0, progress / WARMUP_SHARE + 0.1)
    fall = 1.0 - (1.0 - FINAL_RATE_SHARE) * min(1.0, progress)
    return min(warm, fall)
