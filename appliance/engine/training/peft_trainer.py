"""Test-time training with PEFT adapters, or of all weights.

The model, its adapter slots and the optimizer are reused across tasks: a task begins by writing the
starting values back in place. (To make a trainer anew for every task costs 10-22 s elsewhere,
measured by the arc25 notebooks.)

The outcome is verified. The loss on fixed lessons must be finite and lower than before, and the
weights must differ from the start; else the model is reset and the outcome is NotTuned with the
reason.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.atomic import whole_folder
from appliance.clock import Clock, Deadline
from appliance.engine.adapter.loaded import put_on
from appliance.engine.adapter.record import check_record, save_adapter
from appliance.engine.base import Cause, NotTuned, Outcome, Tuned, TuneSettings
from appliance.engine.device_faults import is_out_of_memory, release_memory
from appliance.engine.folder.card import RECORD_FILE
from appliance.engine.folder.identity import weights_sha
from appliance.engine.training.aside import HostPlace
from appliance.engine.training.library import LoraLibrary, PeftLibrary
from appliance.engine.training.lora import draw_start
from appliance.engine.training.merging import (
    ShortCopy,
    folded,
    folded_weights,
    is_foldable,
    is_peft,
    is_quantized,
)
from appliance.engine.training.packing import TokenSequence
from appliance.engine.training.tuning_loop import TuningLoop, TuningResult
from appliance.errors import EngineError, OutOfMemory

NUM_CHECK_LESSONS = 8
"""Lessons whose loss is compared before and after; they are the first that are trained, too."""

WARM_UP_TOKENS = 64
"""Length of the step before those that are timed: it loads libraries, makes the optimizer's state
and compiles kernels as a long one does, and costs a small part of it."""


class PeftTrainer:
    """A Trainer on a loaded causal LM with PEFT adapters.

    `model` is the model to sample from at any time: adapted after `tune`, plain after `reset`.
    """

    def __init__(
        self,
        model: Any,
        *,
        pad_id: int,
        base_sha: str,
        autocast_dtype: str | None,
        shipped_adapter: Path | None = None,
        library: LoraLibrary | None = None,
    ) -> None:
        """model: loaded from weights of the hash base_sha.

        shipped_adapter: a PEFT adapter folder to start from when settings say "continue".
        """
        self.model = model
        self._pad_id = pad_id
        self.base_sha = base_sha
        self._autocast_dtype = autocast_dtype
        self._shipped_adapter = shipped_adapter
        self._library = library or PeftLibrary()
        self._is_quantized = is_quantized(model)

        # Weights in float32 that are computed with in 16 bits are sampled from a 16-bit copy.
        stores_longer = autocast_dtype is not None and model.dtype.itemsize > 2
        has_copy = stores_longer and not self._is_quantized
        self._copy = ShortCopy(str(autocast_dtype)) if has_copy else None
        self._host_place = HostPlace()

        # Made by `_prepare` for the first task, and made anew only when the slots change.
        self._slots_key: tuple[object, ...] = ()
        self._weights: list[Any] = []
        self._start: list[Any] = []
        self._loop: TuningLoop | None = None

    def tune(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        adapter_dir: Path,
        deadline: Deadline,
        seed: int,
    ) -> Outcome:
        began_s = deadline.clock.now()

        with self._within_memory(settings):
            loop = self._prepare(settings, seed=seed)
            check = list(itertools.islice(lessons, NUM_CHECK_LESSONS))
            if not check:
                return NotTuned("no lesson fits the sequence length", "length")
            check_rows = loop.pack(iter(check), settings)
            loss_before = loop.loss(check_rows)

            self._library.for_training(self.model, checkpointing=settings.gradient_checkpointing)
            result = loop.run(
                itertools.chain(check, lessons), settings, began_s=began_s, deadline=deadline
            )
            self._library.for_inference(self.model)

            loss_after = math.nan if result.trouble else loop.loss(check_rows)
            trouble = result.trouble or self._doubt(result, loss_before, loss_after)
            if trouble is not None:
                self.reset()
                return trouble
            self._save(adapter_dir, settings)

        return Tuned(
            loss_before=loss_before,
            loss_after=loss_after,
            num_steps=result.num_steps,
            seconds=deadline.clock.now() - began_s,
            adapter_sha=weights_sha(adapter_dir),
            adapter_dir=adapter_dir,
        )

    def _doubt(
        self, result: TuningResult, loss_before: float, loss_after: float
    ) -> NotTuned | None:
        """Why a training that ran to its end taught nothing all the same; None when it did."""
        import torch

        in_steps = f"in {result.num_steps} steps"
        if not math.isfinite(loss_after) or loss_after >= loss_before:
            cause: Cause = "result" if math.isfinite(loss_after) else "fault"
            return NotTuned(
                f"loss went from {loss_before:.3f} to {loss_after:.3f} {in_steps}", cause
            )
        if all(torch.equal(w, s) for w, s in zip(self._weights, self._start, strict=True)):
            return NotTuned(f"the weights did not change {in_steps}", "result")
        return None

    def time_steps(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        num_steps: int,
        clock: Clock,
        is_enough: Callable[[Sequence[float]], bool] = lambda seconds: False,
    ) -> list[float]:
        import torch

        seconds: list[float] = []
        with self._within_memory(settings):
            loop = self._prepare(settings, seed=0)
            self._library.for_training(self.model, checkpointing=settings.gradient_checkpointing)
            lessons = self._warm_up(loop, lessons, settings)

            while len(seconds) < num_steps and not is_enough(seconds):
                rows = loop.pack(lessons, settings)
                began_s = clock.now()
                loop.step(rows, settings.learning_rate)
                if self._weights[0].device.type == "cuda":
                    torch.cuda.synchronize()  # calls return before the card has done the work
                seconds.append(clock.now() - began_s)

        self.reset()
        return seconds

    def _warm_up(
        self, loop: TuningLoop, lessons: Iterator[TokenSequence], settings: TuneSettings
    ) -> Iterator[TokenSequence]:
        """One step on the end of the first lesson, which pays for what only a first step pays.

        Returns the lessons, the first one as well.
        """
        lesson = next(lessons, None)
        if lesson is None:
            return lessons

        end = slice(-WARM_UP_TOKENS, None)
        short = TokenSequence(lesson.ids[end], lesson.is_target[end])
        few = replace(settings, row_tokens=WARM_UP_TOKENS, rows_per_step=1)
        loop.step(loop.pack(iter([short]), few), settings.learning_rate)
        return itertools.chain([lesson], lessons)

    @contextmanager
    def _within_memory(self, settings: TuneSettings) -> Iterator[None]:
        """Whatever goes wrong inside leaves the model reset.

        A fault for want of memory becomes OutOfMemory, and what it held is given back.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                self.reset()
                raise
            release_memory(fault)
            self.reset()
            raise OutOfMemory(f"no room to train rows of {settings.row_tokens} tokens") from fault

    def reset(self) -> None:
        """Starting values back in place.

        An adapter then contributes nothing, or what the shipped one does.
        """
        import torch

        with torch.no_grad():
            for weight, start in zip(self._weights, self._start, strict=True):
                weight.copy_(start)
        if self._loop is not None:
            self._loop.restart()
        self._library.for_inference(self.model)

    def start_from_shipped(self) -> None:
        """Put the shipped adapter on.

        It is then what `reset` goes back to, and what "continue" trains further.

        Raises InputError when it cannot be read or was trained on another base model.
        """
        if self._shipped_adapter is not None:
            self._prepare(TuneSettings(start="continue"), seed=0)

    def load(self, adapter_dir: Path, settings: TuneSettings) -> None:
        """Put saved weights of an earlier `tune` with the same settings back into the model.

        Raises InputError when the folder was trained on another base model, or holds other weights
        than were saved.
        """
        from safetensors.torch import load_file

        check_record(adapter_dir, base_sha=self.base_sha)
        self._prepare(settings, seed=0)

        if settings.method == "lora":
            put_on(self.model, adapter_dir)
        else:
            weights = load_file(adapter_dir / "model.safetensors")
            self.model.load_state_dict(weights, strict=False)
        self._library.for_inference(self.model)

    @contextmanager
    def merged(self) -> Iterator[Any]:
        """The adapted model with its adapter folded into the weights, for the time of the `with`.

        It is a copy in the shorter type where training computes in one, else the model itself.
        Beside quantised weights, and where no plain weights stand for it, the adapter stays one.
        """
        if self._is_quantized or not is_foldable(self.model):
            yield self.model
        elif self._copy is not None:
            yield self._copy.of(self.model)
        else:
            with folded(self.model) as model:
                yield model

    def adapted(self) -> Any:
        if self._copy is None or not is_foldable(self.model):
            return self.model
        return self._copy.of(self.model)

    def folded_weights(self) -> Iterator[tuple[str, Any]]:
        return folded_weights(self.model)

    def set_aside(self) -> AbstractContextManager[None]:
        return self._host_place.holding(self.model)

    def _prepare(self, settings: TuneSettings, *, seed: int) -> TuningLoop:
        """Slots and optimizer for these settings, every weight at its starting value.

        They are made once and reused as long as the settings ask for slots of the same kind.
        """
        key = (settings.method, settings.start, settings.rank, settings.alpha, settings.rslora)
        if key != self._slots_key or self._loop is None:
            self._make_slots(settings)
            self._slots_key = key
            self._weights = [p for _, p in self._trainable()]
            self._start = [w.detach().clone() for w in self._weights]
            self._loop = TuningLoop(
                self.model,
                self._weights,
                pad_id=self._pad_id,
                autocast_dtype=self._autocast_dtype,
                is_flat=self._library.is_flat,
            )

        self.reset()
        if settings.method == "lora" and settings.start == "new":
            self._draw_lora_a(seed)
        return self._loop

    def _make_slots(self, settings: TuneSettings) -> None:
        """Take the present slots out of the model, and put those of the settings in."""
        if self._slots_key:
            self.reset()
        self._slots_key, self._weights, self._start, self._loop = (), [], [], None
        if is_peft(self.model):
            self.model = self.model.unload()

        if settings.method == "full":
            self._check_full()
            self.model.requires_grad_(True)
        elif settings.start == "continue":
            self._open_shipped()
        else:
            self.model = self._library.add_lora(self.model, settings)

    def _check_full(self) -> None:
        if self._is_quantized or not self._library.trains_all:
            raise EngineError(
                "all weights are to be trained, but they are quantised "
                "or the trainer only trains adapters",
                expected="an adapter, or weights in float32 and the trainer peft",
                remedy="--set train.method=lora, or model.quantization=none with --trainer peft",
            )

    def _open_shipped(self) -> None:
        if self._shipped_adapter is None:
            raise EngineError(
                "there is no adapter to continue from",
                expected="an adapter",
                remedy="pass --adapter DIR",
            )
        self.model = self._library.open_adapter(
            self.model, self._shipped_adapter, base_sha=self.base_sha
        )

    def _draw_lora_a(self, seed: int) -> None:
        """The usual start of LoRA, from the task's own seed."""
        import torch

        generator = torch.Generator(device="cpu").manual_seed(seed % (1 << 63))
        draw_start(self._trainable(), generator)
        with torch.no_grad():
            for weight, start in zip(self._weights, self._start, strict=True):
                start.copy_(weight)

    def _trainable(self) -> list[tuple[str, Any]]:
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def _save(self, adapter_dir: Path, settings: TuneSettings) -> None:
        """Save what was trained, with the identity of its base and its own."""
        with whole_folder(adapter_dir, mark=RECORD_FILE) as part:
            said = {"base_sha": self.base_sha, "method": settings.method}
            save_adapter(self.model, part, said)
