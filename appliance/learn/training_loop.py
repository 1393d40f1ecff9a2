"""The training loop of `appliance train`: one optimizer step per batch, with exact resumption.

A run that is killed at any moment and started again on the same machine gives the same losses, bit
for bit, as one left alone. For that, weights, optimizer state and step are saved together, the
batch of a step is a function of (seed, step), and nothing in the loop draws random numbers.

The loss of a step is the mean over the answer tokens of its whole batch, however many passes and
processes share the batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from appliance.clock import Clock
from appliance.engine.training.packing import TokenSequence
from appliance.engine.training.tuning_loop import FIRST_SCALE, MAX_SKIPPED
from appliance.errors import InputError
from appliance.learn.checkpoint import (
    RESULTS,
    State,
    checkpoint_folder,
    restore_checkpoint,
    save_checkpoint,
)
from appliance.learn.data.documents import Mixture, batch_of, passes_of
from appliance.learn.optimize import Watch, learning_rate_at, make_optimizers
from appliance.learn.processes import Processes
from appliance.learn.recipe import Recipe
from appliance.learn.start import Start, save_result

MIN_PASS_TOKENS = {"cpu": 256, "cuda": 16384}
"""Tokens of a pass below which documents of unlike length are put together.

A smaller pass leaves the device idle between kernels.
"""

Figures = dict[str, float]
"""Scores by name."""


@dataclass(frozen=True)
class StepReport:
    """One line of metrics.jsonl."""

    step: int  # from 1
    loss: float  # nats per answer token
    grad_norm: float  # before clipping
    learning_rate: float
    dataset: str  # that the step was trained on
    tokens: int  # of documents since the start of the run; padding is not counted
    tokens_per_s: float  # of documents since the line before
    share_done: float  # of the run: of its steps or of its time, whichever is further on


@dataclass(frozen=True)
class Hooks:
    """What goes on around the steps."""

    report: Callable[[StepReport], None] = lambda line: None  # called every log_every_steps
    evaluate: Callable[[], Figures] | None = None  # scores of the model as it is now
    report_figures: Callable[[int, Figures], None] = lambda step, figures: None
    # Called by the first process with the step that is gone on from, and with each that is saved.
    reached: Callable[[int], None] = lambda step: None
    is_interrupted: Callable[[], bool] = lambda: False  # whether to stop after this step
    processes: Processes = field(default_factory=Processes)


def train(
    recipe: Recipe,
    start: Start,
    mixture: Mixture,
    identity: dict[str, str],
    *,
    out: Path,
    clock: Clock,
    hooks: Hooks,
) -> Path:
    """Train until max_steps (or an interruption) and return the folder of the result, or of the
    last checkpoint.

    Raises UsageError when `out` holds another run, InputError when the loss is not finite or
    diverges; the last good checkpoint stays.
    """
    out.mkdir(parents=True, exist_ok=True)
    plan = recipe.optimization
    stepper = Stepper(recipe, start, hooks.processes)
    restore_checkpoint(out, identity, stepper.state)
    stepper.watch.state = stepper.state.watch
    _tell_reached(stepper, hooks)

    def evaluate() -> None:
        if hooks.evaluate is None:
            return
        start.for_inference()
        figures = hooks.evaluate()
        start.for_training()
        _append(out / "evaluation.jsonl", {"step": stepper.state.step, **figures}, hooks)
        hooks.report_figures(stepper.state.step, figures)

    if stepper.state.step == 0:
        evaluate()

    mark_s, mark_tokens = clock.now(), stepper.state.tokens  # at the last report: for the speed
    is_stopped = False
    batches = _batches(recipe, mixture, stepper.state.step)
    while stepper.state.step < plan.max_steps and not is_stopped:
        dataset, documents = next(batches)
        loss, norm, is_stopped = stepper.step(documents, is_stopped=hooks.is_interrupted())
        step, tokens = stepper.state.step, stepper.state.tokens

        if step % recipe.log_every_steps == 0:
            now = clock.now()
            speed = (tokens - mark_tokens) / max(now - mark_s, 1e-9)
            rate = learning_rate_at(step - 1, plan)
            share = step / plan.max_steps
            line = StepReport(step, loss, norm, rate, dataset, tokens, speed, share)
            _append(out / "metrics.jsonl", line.__dict__, hooks)
            hooks.report(line)
            mark_s, mark_tokens = now, tokens

        if step % recipe.save_every_steps == 0 and stepper.watch.is_safe:
            _save(out, identity, stepper, hooks)

        every = recipe.evaluation.every_steps if recipe.evaluation else 0
        if every and (step % every == 0 or step == plan.max_steps):
            evaluate()
            mark_s, mark_tokens = clock.now(), tokens

    batches.close()
    _save(out, identity, stepper, hooks)
    if stepper.state.step < plan.max_steps:
        return checkpoint_folder(out, stepper.state.step)

    folder = out / RESULTS[recipe.adaptation.method]
    if hooks.processes.is_first:
        save_result(start, folder, recipe)
    hooks.processes.wait()
    return folder


class Stepper:
    """The weights that are trained, their optimizers, and one step of them."""

    def __init__(self, recipe: Recipe, start: Start, processes: Processes) -> None:
        import torch

        start.for_training()
        named = start.weights()
        self._start = start
        self._weights = [w for _, w in named]
        self._device = self._weights[0].device
        self._plan = recipe.optimization
        self._pad_id = start.codec.pad_id
        self._max_tokens = recipe.data.pass_tokens
        self._processes = processes
        self._num_skipped = 0  # steps in a row that the loss scale left out

        scaler = torch.amp.GradScaler(
            self._device.type, init_scale=FIRST_SCALE, enabled=start.autocast_dtype == "float16"
        )
        self.state = State(named, make_optimizers(named, self._plan), scaler)
        self.watch = Watch(self._plan.max_loss_rise)

    def step(
        self, documents: Sequence[TokenSequence], *, is_stopped: bool
    ) -> tuple[float, float, bool]:
        """Loss and gradient norm of the step just taken, and whether any process was told to
        stop."""
        import torch

        loss, num_stopped = self._processes.sums(self._gradients(documents), float(is_stopped))
        self._processes.sum_gradients(self._weights)

        for optimizer in self.state.optimizers:
            self.state.scaler.unscale_(optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights, self._plan.max_grad_norm).item())
        self._check(loss, norm)

        rate = learning_rate_at(self.state.step, self._plan)
        for optimizer in self.state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            if math.isfinite(norm):
                self.state.scaler.step(optimizer)
        self.state.scaler.update()
        for optimizer in self.state.optimizers:
            optimizer.zero_grad(set_to_none=True)

        self.state.step += 1
        self.state.tokens += sum(map(len, documents))
        self.state.watch = self.watch.state
        return loss, norm, num_stopped > 0

    def _gradients(self, documents: Sequence[TokenSequence]) -> float:
        """Run backward over this process's share, pass by pass, and return its part of the loss."""
        import torch

        num_targets = sum(int(d.is_target[1:].sum()) for d in documents)
        share = documents[self._processes.rank :: self._processes.world_size]
        min_tokens = MIN_PASS_TOKENS[self._device.type]

        total = 0.0
        # One context for all passes: until it is left, weights in the short type are kept.
        with self._start.autocast():
            for rows in passes_of(
                share, pad_id=self._pad_id, max_tokens=self._max_tokens, min_tokens=min_tokens
            ):
                loss = self._start.loss(rows) * (rows.num_targets() / num_targets)
                with torch.autocast(self._device.type, enabled=False):
                    self.state.scaler.scale(loss).backward()
                total += float(loss.item())
        return total

    def _check(self, loss: float, norm: float) -> None:
        """Raise InputError for a loss or gradient that is not finite, or a loss that diverges."""
        where = f"step {self.state.step}"
        remedy = "lower optimization.learning_rate; the last good checkpoint stays"

        # In float16 a gradient may overflow now and then: the scaler skips that step and scales
        # down.
        self._num_skipped = 0 if math.isfinite(norm) else self._num_skipped + 1
        may_skip = self.state.scaler.is_enabled() and self._num_skipped <= MAX_SKIPPED
        if not math.isfinite(loss) or not (math.isfinite(norm) or may_skip):
            raise InputError(
                f"{where}: loss {loss}, gradient norm {norm}",
                expected="finite numbers",
                remedy=remedy,
            )

        self.watch.see(loss)
        if self.watch.has_diverged:
            raise InputError(
                f"{where}: the smoothed loss is {self.watch.state[0]:.3f}, "
                f"its lowest was {self.watch.state[1]:.3f}",
                expected=f"a rise of at most {self._plan.max_loss_rise} "
                "(optimization.max_loss_rise)",
                remedy=remedy,
            )


def _batches(
    recipe: Recipe, mixture: Mixture, first_step: int
) -> Generator[tuple[str, list[TokenSequence]], None, None]:
    """The batches from a step on, each made in a thread while the one before it is trained on."""
    make: Any = partial(
        batch_of,
        mixture,
        seed=recipe.seed,
        row_tokens=recipe.data.row_tokens,
        num_rows=recipe.data.rows_per_step,
    )

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, step=first_step)
        step = first_step
        while True:
            batch: tuple[str, list[TokenSequence]] = ahead.result()
            step += 1
            ahead = pool.submit(make, step=step)
            yield batch


def _save(out: Path, identity: dict[str, str], stepper: Stepper, hooks: Hooks) -> None:
    """The first process writes; the others wait until the checkpoint is there."""
    if hooks.processes.is_first:
        save_checkpoint(out, identity, stepper.state)
    _tell_reached(stepper, hooks)
    hooks.processes.wait()


def _tell_reached(stepper: Stepper, hooks: Hooks) -> None:
    if hooks.processes.is_first:
        hooks.reached(stepper.state.step)


def _append(path: Path, values: dict[str, Any], hooks: Hooks) -> None:
    if hooks.processes.is_first:
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(values) + "\n")
