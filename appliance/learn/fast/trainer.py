"""The loop of the fast training: passes in, one optimizer step every few of them, a model out.

Nothing in a step waits for the device: losses stay there until a line of the log is due. A run that
is bounded by steps alone is resumed exactly, as by the stock loop; one bounded by seconds goes on
with the time it had left. Imports torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.clock import Clock
from appliance.errors import InputError, UsageError
from appliance.learn.checkpoint import (
    RESULTS,
    State,
    checkpoint_folder,
    restore_checkpoint,
    save_checkpoint,
)
from appliance.learn.fast.batches import HostPass, Sampler, Stream, passes_from
from appliance.learn.fast.decoder import (
    Decoder,
    Pass,
    Shape,
    Weights,
    fresh_weights,
    from_stock,
    to_stock,
)
from appliance.learn.fast.parts import Parts, parts_of
from appliance.learn.new_model import HEAD_SIZE
from appliance.learn.optimize import learning_rate_at, make_optimizers
from appliance.learn.recipe import Recipe
from appliance.learn.start import Start, save_result
from appliance.learn.training_loop import Hooks, StepReport
from appliance.machine.host import find_host
from appliance.models.vocabularies import VOCABULARIES

if TYPE_CHECKING:
    import torch

MAX_WORKERS = 6
"""Processes that make passes: each makes several million tokens a second, an H200 takes three."""


def train_fast(
    recipe: Recipe,
    start: Start,
    open_samplers: Callable[[], Sequence[Sampler]],
    identity: dict[str, str],
    *,
    out: Path,
    clock: Clock,
    hooks: Hooks,
    evaluate: Callable[[Decoder], dict[str, float]] | None = None,
) -> Path:
    """Train until max_steps, max_seconds or an interruption; the folder of the result, or of the
    last checkpoint after an interruption.

    Raises UsageError for a recipe that this loop cannot do or an `out` that holds another run,
    InputError for a loss or gradient that is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    plan = recipe.optimization
    stepper = FastStepper(recipe, start)
    state = stepper.state
    restore_checkpoint(out, identity, state)
    hooks.reached(state.step)

    stream = Stream(
        open_samplers,
        seed=recipe.seed,
        pass_tokens=recipe.data.row_tokens,
        max_tokens=recipe.data.document_tokens,
        pad_id=start.codec.pad_id,
    )
    num_passes = recipe.data.rows_per_step
    max_seconds = plan.max_seconds or math.inf
    every = recipe.evaluation.every_steps if recipe.evaluation else math.inf
    log = _Log(out, hooks, clock, state)

    def share_done() -> float:
        return max(state.step / plan.max_steps, state.seconds / max_seconds)

    is_stopped, is_over = False, share_done() >= 1
    if evaluate and state.step == 0:
        log.figures(evaluate(stepper.decoder))

    with passes_from(stream, state.step * num_passes, num_workers=_num_workers(start)) as passes:
        mark_s: float | None = None  # the first step of a session, which compiles, is not counted
        while not (is_over or is_stopped):
            batch = [next(passes) for _ in range(num_passes)]
            rate = learning_rate_at(state.step, plan, elapsed_s=state.seconds)
            loss, norm = stepper.step(batch, rate)

            now = clock.now()
            state.seconds += 0.0 if mark_s is None else now - mark_s
            mark_s = now
            is_over = share_done() >= 1
            is_stopped = hooks.is_interrupted()

            if state.step % recipe.log_every_steps == 0 or is_over:
                log.line(loss, norm, rate, share_done())
            if state.step % recipe.save_every_steps == 0 or is_over or is_stopped:
                _check_finite(state.step, float(loss), float(norm))
                save_checkpoint(out, identity, state)
                hooks.reached(state.step)
            if evaluate and (state.step % every == 0 or is_over):
                log.figures(evaluate(stepper.decoder))

    if not is_over:
        return checkpoint_folder(out, state.step)

    to_stock(stepper.decoder.weights, stepper.decoder.parts, start.model)
    folder = out / RESULTS["full"]
    save_result(start, folder, recipe)
    return folder


class FastStepper:
    """The weights, their optimizers, and one step of them."""

    def __init__(self, recipe: Recipe, start: Start, *, parts: Parts | None = None) -> None:
        """parts: how the table is put together; None: as its vocabulary says."""
        import torch

        _check(recipe, start)
        config = start.model.config
        shape = Shape(
            num_layers=int(config.num_hidden_layers),
            hidden_size=int(config.hidden_size),
            intermediate_size=int(config.intermediate_size),
            rope_theta=float(config.rope_parameters["rope_theta"]),
            norm_eps=float(config.rms_norm_eps),
        )
        parts = parts or parts_of(start.style)
        self._device = next(start.model.parameters()).device
        is_gpu = self._device.type == "cuda"

        weights: Weights
        if start.base_sha:
            weights = from_stock(start.model, parts, device=str(self._device))
        else:
            weights = fresh_weights(shape, parts, seed=recipe.seed, device=str(self._device))
        dtype = getattr(torch, start.autocast_dtype or "float32")
        self.decoder = Decoder(weights, shape, parts, dtype=dtype, compiles=is_gpu)

        named = weights.named()
        self._all = [weight for _, weight in named]
        self._max_grad_norm = recipe.optimization.max_grad_norm
        optimizers = make_optimizers(named, recipe.optimization)
        self.state = State(named, optimizers, torch.amp.GradScaler(enabled=False))

    def step(self, batch: Sequence[HostPass], rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """One step on these passes: loss in nats per target and norm of the gradient, both still on
        the device."""
        import torch

        num_targets = max(1, sum(p.num_targets for p in batch))
        total = torch.zeros((), device=self._device)
        for host_pass in batch:
            loss = self.decoder.loss(on_device(host_pass, self._device)) / num_targets
            loss.backward()
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self._all, self._max_grad_norm)

        for optimizer in self.state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        self.state.step += 1
        self.state.tokens += sum(p.num_tokens for p in batch)
        return total, norm


def on_device(host_pass: HostPass, device: torch.device) -> Pass:
    """The pass on the device; the copy to a GPU goes on beside the work before it."""
    import torch

    ids, is_target = torch.from_numpy(host_pass.ids), torch.from_numpy(host_pass.is_target)
    if device.type == "cuda":
        ids = ids.pin_memory().to(device, non_blocking=True)
        is_target = is_target.pin_memory().to(device, non_blocking=True)
    return Pass(ids, is_target, host_pass.row_tokens)


def _check(recipe: Recipe, start: Start) -> None:
    """Raise UsageError for what only the stock loop can do."""
    datasets, config = recipe.data.datasets.values(), start.model.config
    lacks = {
        "adaptation.method lora": recipe.adaptation.method == "lora",
        "a model that is no Llama": config.model_type != "llama",
        f"heads that are no {HEAD_SIZE} wide or share keys": not (
            config.num_attention_heads * HEAD_SIZE == config.hidden_size
            and config.num_key_value_heads == config.num_attention_heads
        ),
        "an output table of its own": not config.tie_word_embeddings,
        "a vocabulary of another kind": start.style not in VOCABULARIES,
        "a dataset's own style or encoder": any(d.style or d.encoder for d in datasets),
        "precision float16": start.autocast_dtype == "float16",
    }
    found = [name for name, is_so in lacks.items() if is_so]
    if found:
        raise UsageError(
            f"loop fast with {', '.join(found)}",
            expected="all weights of a model of arc-mini's kind and style, in bfloat16 or float32",
            remedy="set loop: stock",
        )


def _check_finite(step: int, loss: float, norm: float) -> None:
    """Raise InputError for numbers that are not, before they reach a log or a checkpoint."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise InputError(
            f"step {step}: loss {loss}, gradient norm {norm}",
            expected="finite numbers",
            remedy="lower optimization.learning_rate; the last checkpoint stays",
        )


def _num_workers(start: Start) -> int:
    """Processes that make passes. A CPU trains so slowly that none is needed."""
    if next(start.model.parameters()).device.type == "cpu":
        return 0
    return max(1, min(MAX_WORKERS, find_host().num_cores - 2))


class _Log:
    """The two logs of a run. A line waits for the device, so lines are few."""

    def __init__(self, out: Path, hooks: Hooks, clock: Clock, state: State) -> None:
        self._out, self._hooks, self._clock, self._state = out, hooks, clock, state
        self._mark_s, self._mark_tokens = clock.now(), state.tokens

    def line(self, loss: torch.Tensor, norm: torch.Tensor, rate: float, share: float) -> None:
        """One line of metrics.jsonl. Raises InputError for numbers that are not finite."""
        state, now = self._state, self._clock.now()
        speed = (state.tokens - self._mark_tokens) / max(now - self._mark_s, 1e-9)
        line = StepReport(
            state.step, float(loss), float(norm), rate, "all", state.tokens, speed, min(1.0, share)
        )
        _check_finite(line.step, line.loss, line.grad_norm)

        self._append("metrics.jsonl", line.__dict__)
        self._hooks.report(line)
        self._mark_s, self._mark_tokens = self._clock.now(), state.tokens

    def figures(self, figures: dict[str, float]) -> None:
        """One line of evaluation.jsonl."""
        self._append("evaluation.jsonl", {"step": self._state.step, **figures})
        self._hooks.report_figures(self._state.step, figures)
        self._mark_s, self._mark_tokens = self._clock.now(), self._state.tokens

    def _append(self, name: str, values: dict[str, Any]) -> None:
        with (self._out / name).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(values) + "\n")
