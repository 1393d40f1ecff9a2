"""Test-time training in a plain torch loop: the model, its adapter slots and the optimizer are reused across tasks.

A trainer start-up per task costs 10-22 s elsewhere (measured by the arc25 notebooks); here a task begins by writing the
starting values back in place. The outcome is verified: the loss on fixed lessons must be finite and lower, and the saved
weights must differ from the start, else the model is reset and the outcome is NotTuned with the reason.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.clock import Clock, Deadline
from appliance.engine.base import NotTuned, Outcome, Tuned, TuneSettings
from appliance.engine.loss import answer_loss
from appliance.engine.model import is_out_of_memory, weights_sha
from appliance.engine.packing import Rows, TokenSequence, fill_rows, plan_rows
from appliance.errors import EngineError, InputError, OutOfMemory

NUM_CHECK_LESSONS = 8
WARMUP_SHARE = 0.1
FINAL_RATE_SHARE = 0.1
RECORD_FILE = "appliance.json"
MIN_STEPS_TO_PROJECT = 3


class PeftTrainer:
    """A Trainer on a loaded causal LM. `model` is the model to sample from at any time: adapted after `tune`, plain after
    `reset`.

    shipped_adapter: a PEFT adapter folder to start from when settings say "continue".
    """

    def __init__(
        self, model: Any, *, pad_id: int, base_sha: str, autocast_dtype: str | None, shipped_adapter: Path | None = None
    ) -> None:
        self.model = model
        self._pad_id = pad_id
        self._base_sha = base_sha
        self._autocast_dtype = autocast_dtype
        self._shipped_adapter = shipped_adapter
        self._shape: tuple[object, ...] = ()
        self._weights: list[Any] = []
        self._start: list[Any] = []
        self._optimizer: Any = None
        self._twin: Any = None

    def tune(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        adapter_dir: Path,
        deadline: Deadline,
        seed: int,
    ) -> Outcome:
        try:
            return self._tune(lessons, settings, adapter_dir=adapter_dir, deadline=deadline, seed=seed)
        except (RuntimeError, MemoryError) as fault:
            self.reset()
            if is_out_of_memory(fault):
                raise OutOfMemory(f"no room to train rows of {settings.row_tokens} tokens") from fault
            raise

    def _tune(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        adapter_dir: Path,
        deadline: Deadline,
        seed: int,
    ) -> Outcome:
        import torch

        began_s = deadline.clock.now()
        self._prepare(settings, seed=seed)
        check = list(itertools.islice(lessons, NUM_CHECK_LESSONS))
        if not check:
            return NotTuned("no lesson fits the sequence length")
        check_rows = _pack(iter(check), settings, pad_id=self._pad_id)
        stream = itertools.chain(check, lessons)
        loss_before = self._check_loss(check_rows)
        self.model.train()
        num_steps = 0
        while num_steps < settings.max_steps and not deadline.is_past():
            spent = (deadline.clock.now() - began_s) / max(deadline.at_s - began_s, 1e-9)
            rate = settings.learning_rate * _rate_share(_progress(num_steps, settings.max_steps, spent))
            rows = _pack(stream, settings, pad_id=self._pad_id)
            if rows.num_targets() == 0:
                break  # the lessons came to an end
            loss = self._step(rows, rate)
            if not math.isfinite(loss):
                self.reset()
                return NotTuned(f"loss became {loss} at step {num_steps}")
            num_steps += 1
        self.model.eval()
        if num_steps == 0:
            self.reset()
            return NotTuned("no time for a single step")
        loss_after = self._check_loss(check_rows)
        if not math.isfinite(loss_after) or loss_after >= loss_before:
            self.reset()
            return NotTuned(f"loss went from {loss_before:.3f} to {loss_after:.3f} in {num_steps} steps")
        if all(torch.equal(w, s) for w, s in zip(self._weights, self._start, strict=True)):
            self.reset()
            return NotTuned(f"the weights did not change in {num_steps} steps")
        self._save(adapter_dir, settings)
        return Tuned(
            loss_before=loss_before,
            loss_after=loss_after,
            num_steps=num_steps,
            seconds=deadline.clock.now() - began_s,
            adapter_sha=weights_sha(adapter_dir),
            adapter_dir=adapter_dir,
        )

    def _step(self, rows: Rows, rate: float) -> float:
        """One optimizer step; its loss. Nothing is changed where that is not finite."""
        import torch

        with self._autocast():
            loss = answer_loss(self.model, rows, device=self._device())
        value = float(loss.item())
        if not math.isfinite(value):
            return value
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return value

    def time_steps(
        self, lessons: Iterator[TokenSequence], settings: TuneSettings, *, num_steps: int, clock: Clock
    ) -> list[float]:
        try:
            return self._time_steps(lessons, settings, num_steps=num_steps, clock=clock)
        except (RuntimeError, MemoryError) as fault:
            if is_out_of_memory(fault):
                raise OutOfMemory(f"no room to train rows of {settings.row_tokens} tokens") from fault
            raise
        finally:
            self.reset()

    def _time_steps(
        self, lessons: Iterator[TokenSequence], settings: TuneSettings, *, num_steps: int, clock: Clock
    ) -> list[float]:
        import torch

        self._prepare(settings, seed=0)
        self.model.train()
        seconds = []
        for _ in range(num_steps):
            rows = _pack(lessons, settings, pad_id=self._pad_id)
            began_s = clock.now()
            self._step(rows, settings.learning_rate)
            if self._device().type == "cuda":
                torch.cuda.synchronize()
            seconds.append(clock.now() - began_s)
        return seconds

    def reset(self) -> None:
        """Starting values back in place; an adapter then contributes nothing (or what the shipped one does)."""
        import torch

        with torch.no_grad():
            for weight, start in zip(self._weights, self._start, strict=True):
                weight.copy_(start)
        if self._optimizer is not None:
            self._optimizer.zero_grad(set_to_none=True)
            self._optimizer.state.clear()
        self.model.eval()

    def start_from_shipped(self) -> None:
        """Put the shipped adapter on: what `reset` goes back to, and what "continue" trains further.

        Raises InputError when it cannot be read or was trained on another base model.
        """
        if self._shipped_adapter is not None:
            self._prepare(TuneSettings(start="continue"), seed=0)

    def load(self, adapter_dir: Path, settings: TuneSettings) -> None:
        """Put saved weights of an earlier `tune` with the same settings back into the model.

        Raises InputError when the folder was trained on another base model or does not fit it.
        """
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        self._check_base(adapter_dir)
        self._prepare(settings, seed=0)
        if settings.method == "lora":
            set_peft_model_state_dict(self.model, load_file(adapter_dir / "adapter_model.safetensors"))
        else:
            self.model.load_state_dict(load_file(adapter_dir / "model.safetensors"), strict=False)
        self.model.eval()

    @contextmanager
    def merged(self) -> Iterator[Any]:
        """The adapted model with its adapter folded into the weights, which then samples at the speed of a plain model.

        Where training computes in a shorter type than it stores (autocast), this is a twin in the shorter type: half the
        memory traffic, and the trained weights are not touched. Elsewhere the adapter is merged in place and the base
        weights are put back from a copy on leaving, so nothing drifts from task to task.
        """
        if self._autocast_dtype is not None:
            yield self._refreshed_twin()
            return
        import torch

        layers = self._lora_layers()
        kept = [layer.get_base_layer().weight.detach().clone() for layer in layers]
        if layers:
            self.model.merge_adapter()
        try:
            yield self.model
        finally:
            if layers:
                self.model.unmerge_adapter()
            with torch.no_grad():
                for layer, weight in zip(layers, kept, strict=True):
                    layer.get_base_layer().weight.copy_(weight)

    def _refreshed_twin(self) -> Any:
        """A plain copy of the model in the autocast type, its weights those of the adapted model."""
        import torch

        plain = self.model.get_base_model() if self._is_peft() else self.model
        if self._twin is None:
            self._twin = type(plain)(plain.config).to(self._device(), getattr(torch, str(self._autocast_dtype))).eval()
        merged = {name.replace(".base_layer", ""): p for name, p in plain.named_parameters() if ".lora_" not in name}
        names = {id(module): name for name, module in plain.named_modules()}
        deltas = {f"{names[id(layer)]}.weight": layer.get_delta_weight("default") for layer in self._lora_layers()}
        with torch.no_grad():
            for name, weight in self._twin.named_parameters():
                weight.copy_(merged[name] + deltas[name] if name in deltas else merged[name])
        return self._twin

    def _is_peft(self) -> bool:
        from peft import PeftModel

        return isinstance(self.model, PeftModel)

    def _lora_layers(self) -> list[Any]:
        from peft.tuners.lora import LoraLayer

        return [m for m in self.model.modules() if isinstance(m, LoraLayer)]

    def _prepare(self, settings: TuneSettings, *, seed: int) -> None:
        """Slots and optimizer for these settings, made once and reused; every weight at its starting value."""
        import torch

        shape = (settings.method, settings.start, settings.rank, settings.alpha, settings.rslora)
        if shape != self._shape:
            self._make_slots(settings)
            self._shape = shape
            self._weights = [p for _, p in self._named()]
            self._start = [w.detach().clone() for w in self._weights]
            fused = self._device().type in ("cuda", "cpu")
            self._optimizer = torch.optim.AdamW(self._weights, lr=settings.learning_rate, weight_decay=0.0, fused=fused)
        toggle = (
            self.model.gradient_checkpointing_enable
            if settings.gradient_checkpointing
            else self.model.gradient_checkpointing_disable
        )
        toggle()
        self.reset()
        if settings.method == "lora" and settings.start == "new":
            self._draw_lora_a(seed)

    def _make_slots(self, settings: TuneSettings) -> None:
        from peft import LoraConfig, PeftModel, get_peft_model

        if self._shape:
            self.reset()
        if self._is_peft():
            self.model = self.model.unload()
        if settings.method == "full":
            self.model.requires_grad_(True)
            return
        if settings.start == "continue":
            if self._shipped_adapter is None:
                raise EngineError(
                    "there is no adapter to continue from", expected="an adapter", remedy="pass --adapter DIR"
                )
            self._check_base(self._shipped_adapter)
            try:
                self.model = PeftModel.from_pretrained(self.model, str(self._shipped_adapter), is_trainable=True)
            except (OSError, ValueError, RuntimeError) as fault:
                raise InputError(
                    f"adapter {self._shipped_adapter}: {str(fault).splitlines()[0]}",
                    expected="a PEFT adapter folder that fits the model",
                    remedy="pass another --adapter",
                ) from fault
            return
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            use_rslora=settings.rslora,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        self.model = get_peft_model(self.model, config)

    def _check_base(self, adapter_dir: Path) -> None:
        """An adapter of ours names its base; one of other make is taken at its word."""
        path = adapter_dir / RECORD_FILE
        base_sha = json.loads(path.read_text())["base_sha"] if path.is_file() else self._base_sha
        if base_sha != self._base_sha:
            raise InputError(
                f"adapter {adapter_dir} was trained on base {base_sha[:12]}",
                expected=f"this model, {self._base_sha[:12]}",
                remedy="pass the --model it was trained on",
            )

    def _draw_lora_a(self, seed: int) -> None:
        """The usual LoRA start from the task's own seed: A uniform (Kaiming, a = sqrt 5), B zero (Hu et al. 2021)."""
        import torch

        generator = torch.Generator(device="cpu").manual_seed(seed % (1 << 63))
        with torch.no_grad():
            for (name, weight), start in zip(self._named(), self._start, strict=True):
                if "lora_A" in name:
                    bound = 1.0 / math.sqrt(weight.shape[1])
                    drawn = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
                    weight.copy_(drawn)
                    start.copy_(drawn)

    def _named(self) -> list[tuple[str, Any]]:
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def _check_loss(self, rows: Rows) -> float:
        import torch

        self.model.eval()
        with torch.inference_mode(), self._autocast():
            return float(answer_loss(self.model, rows, device=self._device()))

    def _save(self, adapter_dir: Path, settings: TuneSettings) -> None:
        """Only what was trained, beside the identity of its base; written to a side folder, then renamed."""
        part = adapter_dir.with_name(f".{adapter_dir.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        self.model.save_pretrained(str(part))
        record = {"base_sha": self._base_sha, "method": settings.method}
        (part / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")
        shutil.rmtree(adapter_dir, ignore_errors=True)
        part.rename(adapter_dir)

    def _autocast(self) -> Any:
        import torch

        dtype = getattr(torch, self._autocast_dtype) if self._autocast_dtype else torch.float32
        return torch.autocast(self._device().type, dtype, enabled=self._autocast_dtype is not None)

    def _device(self) -> Any:
        return next(self.model.parameters()).device


def _pack(lessons: Iterator[TokenSequence], settings: TuneSettings, *, pad_id: int) -> Rows:
    """The next optimizer step's rows. Lessons longer than a row are passed over."""
    taken: list[TokenSequence] = []

    def lengths() -> Iterator[int]:
        for lesson in lessons:
            taken.append(lesson)
            yield len(lesson)

    plan = plan_rows(lengths(), row_tokens=settings.row_tokens, num_rows=settings.rows_per_step, max_misses=2)
    return fill_rows(taken, plan, row_tokens=settings.row_tokens, pad_id=pad_id)


def _progress(num_steps: int, max_steps: int, spent: float) -> float:
    """Share of the training that is behind us: by steps, unless the time (share `spent`) is going to run out first.

    So a training that its steps bound gives the same weights however fast the machine is.
    """
    is_time_bound = num_steps >= MIN_STEPS_TO_PROJECT and num_steps < spent * max_steps
    return spent if is_time_bound else num_steps / max_steps


def _rate_share(progress: float) -> float:
    """Share of the peak learning rate at a progress of 0 to 1 through the task's training."""
    warm = min(1.0, progress / WARMUP_SHARE + 0.1)
    fall = 1.0 - (1.0 - FINAL_RATE_SHARE) * min(1.0, progress)
    return min(warm, fall)
