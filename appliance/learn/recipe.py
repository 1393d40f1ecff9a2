"""A training recipe: everything that decides the result of `appliance train`, in one YAML file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from appliance.errors import UsageError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Part):
    """A decoder in the stock Llama or Qwen3 layout, head size 64, tied embeddings, the tiny vocabulary."""

    layout: Literal["llama", "qwen3"] = "llama"
    hidden_size: int = Field(192, ge=64, multiple_of=64)
    num_layers: int = Field(6, ge=1, le=64)
    intermediate_size: int = Field(512, ge=64)
    max_positions: int = Field(8192, ge=128)


class Pack(_Part):
    """Documents of min_pairs to max_pairs pairs of one family of a pack; a step takes this pack by its weight."""

    weight: float = Field(1.0, gt=0)
    min_pairs: int = Field(3, ge=2)
    max_pairs: int = Field(8, ge=2)

    @model_validator(mode="after")
    def _ordered(self) -> Pack:
        if self.max_pairs < self.min_pairs:
            raise ValueError(f"max_pairs {self.max_pairs} is below min_pairs {self.min_pairs}")
        return self


class Data(_Part):
    """Documents packed in rows of row_tokens. packs: folders below the corpus folder, mixed by weight, a step at a time."""

    row_tokens: int = Field(512, ge=64)
    rows_per_step: int = Field(16, ge=1)
    packs: dict[str, Pack] = Field({".": Pack()}, min_length=1)


class Optimization(_Part):
    """Muon for the matrices (or AdamW for all), AdamW for embeddings and norms; warm-up, constant, linear decay (WSD)."""

    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    max_grad_norm: float = Field(1.0, gt=0)
    warmup_steps: int = Field(100, ge=0)
    decay_fraction: float = Field(0.3, ge=0, le=1)
    max_steps: int = Field(1000, ge=1)


class Recipe(_Part):
    """What to train, on what, how long. `save_every_steps`, `log_every_steps` and `max_steps` may change on resume."""

    seed: int = 0
    architecture: Architecture = Architecture()
    start_from: Path | None = None
    data: Data = Data()
    optimization: Optimization = Optimization()
    save_every_steps: int = Field(200, ge=1)
    log_every_steps: int = Field(10, ge=1)

    def identity(self, corpus_digest: str) -> dict[str, str]:
        """What must stay the same between a run and its resumption, each as a short text."""
        optimization = self.optimization.model_dump(exclude={"max_steps", "decay_fraction"})
        return {
            "seed": str(self.seed),
            "architecture": _short_hash(self.architecture.model_dump()),
            "data": _short_hash(self.data.model_dump()),
            "optimization": _short_hash(optimization),
            "corpus": corpus_digest[:16],
        }


def _short_hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(value.items())).encode()).hexdigest()[:16]


def load_recipe(path: Path, overrides: dict[str, Any]) -> Recipe:
    """The recipe of a YAML file with dotted overrides ("optimization.max_steps": 200) laid over it.

    Raises UsageError listing every unknown or bad key at once.
    """
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as fault:
        raise UsageError(f"recipe {path}: {fault}", expected="a YAML file", remedy="see recipes/") from fault
    for dotted, value in overrides.items():
        *parents, key = dotted.split(".")
        part = values
        for parent in parents:
            part = part.setdefault(parent, {})
        part[key] = value
    try:
        return Recipe.model_validate(values)
    except ValidationError as fault:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors()]
        raise UsageError(
            f"recipe {path}: " + "; ".join(lines),
            expected="the keys of recipes/arc-mini.yaml",
            remedy="correct the recipe",
        ) from fault
