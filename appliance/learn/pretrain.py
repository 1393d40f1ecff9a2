"""The training loop of `appliance train`: packed rows, one optimizer step a batch, checkpoints that lose nothing.

Resume is exact: weights, optimizer state and step are saved together, the batch of a step is a function of (seed, step),
and nothing in the loop draws random numbers; a run killed at any moment and started again on the same machine gives the same
losses, bit for bit, as one left alone.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.clock import Clock
from appliance.engine.loss import answer_loss
from appliance.errors import InputError, UsageError
from appliance.learn.corpus import Corpus
from appliance.learn.documents import DocumentSampler, Mixture, batch_rows
from appliance.learn.recipe import Optimization, Recipe
from appliance.machine.host import find_host
from appliance.models import tiny

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class StepReport:
    """One line of metrics.jsonl. loss: nats per answer token. tokens: of padded rows, since the start of the run."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    tokens_per_s: float


def learning_rate_at(step: int, plan: Optimization) -> float:
    """Warm-up, stable, decay: linear up, constant, then linear to zero over the last `decay_fraction` of the steps."""
    warm = min(1.0, (step + 1) / plan.warmup_steps) if plan.warmup_steps else 1.0
    decay_steps = plan.decay_fraction * plan.max_steps
    left = (plan.max_steps - step) / decay_steps if decay_steps else 1.0
    return plan.learning_rate * min(warm, 1.0, left)


def pretrain(
    recipe: Recipe,
    packs: Mapping[str, Corpus],
    corpus_digest: str,
    *,
    out: Path,
    clock: Clock,
    report: Callable[[StepReport], None],
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Path:
    """Train on the packs of recipe.data, by name, until `max_steps` (or an interruption) and return the folder of the
    finished model, or of the last checkpoint.

    Raises UsageError when `out` holds a run whose recipe or corpus differs in something that matters, InputError when the
    loss is not finite (the last good checkpoint stays).
    """
    import torch

    from appliance.learn.model import fresh_model, save_model

    identity = recipe.identity(corpus_digest)
    row_tokens = recipe.data.row_tokens
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out.mkdir(parents=True, exist_ok=True)
    model = _load_start(recipe) if recipe.start_from else fresh_model(recipe.architecture, seed=recipe.seed)
    model.to(device).train()
    optimizers = _optimizers(model, recipe.optimization)
    step = _restore(out, identity, model, optimizers)
    mixture = Mixture(
        [
            (
                DocumentSampler(packs[name], max_tokens=row_tokens, min_pairs=p.min_pairs, max_pairs=p.max_pairs),
                p.weight,
            )
            for name, p in recipe.data.packs.items()
        ]
    )
    tokens_per_step = row_tokens * recipe.data.rows_per_step
    can_bf16 = device.type == "cuda" or find_host().can_bf16
    mark_s, mark_step = clock.now(), step
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        while step < recipe.optimization.max_steps and not is_interrupted():
            rows = batch_rows(
                mixture,
                seed=recipe.seed,
                step=step,
                row_tokens=row_tokens,
                num_rows=recipe.data.rows_per_step,
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=can_bf16):
                loss = answer_loss(model, rows, device=device)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimization.max_grad_norm)
            rate = learning_rate_at(step, recipe.optimization)
            if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                raise InputError(
                    f"step {step}: loss {loss.item()}, gradient norm {norm.item()}",
                    expected="finite numbers",
                    remedy=f"lower optimization.learning_rate; the last good checkpoint is in {out / 'checkpoints'}",
                )
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step += 1
            if step % recipe.log_every_steps == 0:
                now = clock.now()
                speed = (step - mark_step) * tokens_per_step / max(now - mark_s, 1e-9)
                line = StepReport(step, loss.item(), norm.item(), rate, step * tokens_per_step, speed)
                metrics.write(json.dumps(line.__dict__) + "\n")
                metrics.flush()
                report(line)
                mark_s, mark_step = now, step
            if step % recipe.save_every_steps == 0:
                _save(out, step, identity, model, optimizers)
    _save(out, step, identity, model, optimizers)
    if step < recipe.optimization.max_steps:
        return _checkpoint_folder(out, step)
    folder = out / "model"
    card = {"style": "grid-tokens-v1", "encoder": "grid-tokens", "strategies": ["transduction"]}
    save_model(model, folder, card=card)
    return folder


def _load_start(recipe: Recipe) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(recipe.start_from, dtype="float32", local_files_only=True)
    except (OSError, ValueError) as fault:
        raise UsageError(f"start_from {recipe.start_from}: {fault}", expected="a model folder") from fault
    if model.config.vocab_size < len(tiny.TOKENS):  # an older arc-mini: words were appended since
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model.resize_token_embeddings(len(tiny.TOKENS), mean_resizing=False)
    return model


def _optimizers(model: Any, plan: Optimization) -> list[Any]:
    """Muon for the weight matrices of the layers, AdamW for embeddings and norms; or AdamW for all."""
    import torch

    if plan.optimizer == "adamw":
        parameters = list(model.parameters())
        return [
            torch.optim.AdamW(parameters, plan.learning_rate, plan.betas, weight_decay=plan.weight_decay, fused=True)
        ]
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, plan.learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, plan.learning_rate, plan.betas, weight_decay=0.0, fused=True),
    ]


def _checkpoint_folder(out: Path, step: int) -> Path:
    return out / "checkpoints" / f"step_{step:08d}"


def _save(out: Path, step: int, identity: dict[str, str], model: Any, optimizers: list[Any]) -> None:
    """Write a checkpoint beside its place, then rename: what bears the name is whole."""
    import torch

    final = _checkpoint_folder(out, step)
    if final.exists():
        return
    part = final.with_name(f".{final.name}.{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step},
        part / "state.pt",
    )
    (part / "identity.json").write_text(json.dumps(identity, indent=1) + "\n")
    with (part / "state.pt").open("rb") as written:
        os.fsync(written.fileno())
    part.rename(final)
    for old in sorted(final.parent.glob("step_*"))[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)


def _restore(out: Path, identity: dict[str, str], model: Any, optimizers: list[Any]) -> int:
    """The step to go on with: 0, or that of the newest checkpoint, whose state is loaded."""
    import torch

    newest = max((out / "checkpoints").glob("step_*"), default=None)
    if newest is None:
        return 0
    was = json.loads((newest / "identity.json").read_text())
    changed = [key for key in identity if was.get(key) != identity[key]]
    if changed:
        raise UsageError(
            f"{out} holds a run with another {', '.join(changed)}",
            expected="the recipe and corpus it was started with (steps, saving and logging may change)",
            remedy="pass another --out, or the old recipe",
        )
    state = torch.load(newest / "state.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])
