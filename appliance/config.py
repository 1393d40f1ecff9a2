"""The settings of a run: one pydantic tree, laid together from six layers, every fault reported at once.

defaults < --profile < --config run.yaml < APPLIANCE_* environment < --set a.b=c < flags
An environment name is the dotted key in capitals with two underscores for the dot: APPLIANCE_TRAIN__RANK=32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from appliance.clock import parse_duration, parse_instant
from appliance.errors import UsageError
from appliance.names import did_you_mean, unknown

ENVIRONMENT_PREFIX = "APPLIANCE_"

CPU_BF16_VARIABLE = "APPLIANCE_CPU_BF16"
"""No setting of a run but a fact about the machine, with the same prefix: machine/host.py reads it."""


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Part):
    path: str = Field(
        "arc-mini",
        description="model folder, or arc-mini for the one that ships inside; several with commas",
    )
    adapter: Path | None = Field(None, description="LoRA adapter that comes with the model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["auto", "none", "nf4", "int8"] = Field(
        "auto", description="of the base weights; auto: the plan's"
    )
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    trainer: Literal["auto", "unsloth", "peft"] = "auto"


class TrainSettings(_Part):
    """Test-time training; `max_share` is the part of a task's time share that training may use."""

    enabled: bool = True
    method: Literal["lora", "full"] = "lora"
    start: Literal["auto", "new", "continue"] = Field(
        "auto", description="auto: continue the --adapter if one is given"
    )
    rank: int = Field(64, ge=1, le=1024)
    alpha: float = Field(64.0, gt=0)
    rslora: bool = True
    learning_rate: float = Field(1e-3, gt=0)
    max_steps: int = Field(400, ge=1)
    tokens_per_step: int = Field(1024, ge=256)
    max_seq_tokens: int = Field(8192, ge=128)
    keep_colours: bool = Field(False, description="leave colours as they are in the lessons")
    leave_two_out: Share = Field(
        0.0, description="share of lessons that show one demonstration less (n-2)"
    )
    max_share: Share = 0.65
    min_seconds: float = Field(2.0, ge=0, description="a task that would get less is not trained")


class ProgramSettings(_Part):
    """Search and learn: programs are written, run, relabelled by what they do, learnt from, and written again."""

    share: Share = Field(
        0.4, description="part of a task's time for programs where the strategy is both"
    )
    quick_samples: int = Field(
        8, ge=1, description="programs per task in the quick pass, in one batch over tasks"
    )
    quick_epochs: int = Field(
        0,
        ge=0,
        description="rounds of the quick pass in which one adapter learns from the programs of all tasks",
    )
    samples_per_epoch: int = Field(32, ge=1)
    samples_per_view: int = Field(8, ge=1, description="programs written under one view of a task")
    epochs: int = Field(16, ge=1, description="most rounds of learning and writing in one go")
    learn: bool = Field(True, description="false: independent samples of the plain model")
    picked: int = Field(
        4, ge=1, description="different programs of a task that an epoch learns from"
    )
    is_diverse: bool = Field(
        True, description="prefer programs whose outputs are new among the picked"
    )
    learning_rate: float = Field(2e-4, gt=0)
    max_steps: int = Field(
        16, ge=1, description="of an epoch's training, for each task that learns in it"
    )
    passes: int = Field(
        1, ge=1, description="times that an epoch's training sees a picked program at most"
    )
    temperature: float = Field(0.8, gt=0, le=2)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int | None = Field(
        None, ge=8, description="longest program; by default what the model card says"
    )
    cpu_s: float = Field(0.5, gt=0, description="CPU time of a program over all its inputs")
    memory_mb: int = Field(256, ge=16)
    accept_level: Literal["no-seccomp"] | None = Field(
        None, description="go on although the sandbox has no system call filter"
    )


class SampleSettings(_Part):
    quick_views: int = Field(2, ge=1, le=512, description="views of the quick pass over all tasks")
    views: int = Field(16, ge=1, le=512, description="views per task after training")
    samples_per_view: int = Field(1, ge=1, le=512)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    keep_colours: bool = False
    batch_tokens: int = Field(
        16384, ge=1024, description="(prompt + new tokens) x rows of one batch"
    )
    serving: Literal["auto", "on-the-fly", "merged"] = Field(
        "auto",
        description="how vLLM gets adapters; auto: on the fly on a GPU, merged on a CPU, where it is faster",
    )
    grammar: Literal["none", "rectangular", "shape"] = Field(
        "none",
        description="what answers are forced into: legal rectangles, or the shape that is foretold; needs vLLM",
    )
    stall_s: float = Field(
        120.0, gt=0, description="an engine that writes nothing for so long is started anew"
    )
    score_views: int = Field(
        8, ge=0, le=64, description="views that a trained task's answers are weighed under; 0: none"
    )
    selector: str = "programs-first"

    @model_validator(mode="after")
    def _greedy_once(self) -> SampleSettings:
        if self.temperature == 0 and self.samples_per_view > 1:
            raise ValueError(
                "samples_per_view above 1 needs a temperature above 0: greedy samples are all the same"
            )
        return self


class RunSettings(_Part):
    budget_s: Seconds | None = Field(
        None, description="time from the start of the command, such as 11h30m"
    )
    deadline: str | None = Field(
        None, description="ISO 8601 instant; the earlier of it and the budget binds"
    )
    seed: int = Field(0, ge=0)
    workers: int = Field(1, ge=1, le=64)
    workers_per_card: int = Field(
        1, ge=1, le=4, description="workers that share one GPU, each with its part of the memory"
    )
    rounds: int = Field(
        8, ge=1, le=64, description="most deep passes over one task; every second one trains anew"
    )
    quick_share: Share = Field(0.25, description="part of the time that the quick pass may use")
    reserve_s: float = Field(3.0, ge=0, description="kept free at the end for the last write")
    min_sampled_share: Share = Field(
        0.9, description="below this share of tasks sampled the exit code is 5"
    )
    min_trained_share: Share = Field(
        0.0, description="below this share of tasks trained the exit code is 5"
    )

    @model_validator(mode="after")
    def _instant(self) -> RunSettings:
        if self.deadline is not None:
            parse_instant(self.deadline)
        return self


class Settings(_Part):
    strategy: Literal["transduction", "induction", "both"] = "transduction"
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    sample: SampleSettings = SampleSettings()
    program: ProgramSettings = ProgramSettings()
    run: RunSettings = RunSettings()

    @property
    def writes_grids(self) -> bool:
        return self.strategy != "induction"

    @property
    def writes_programs(self) -> bool:
        return self.strategy != "transduction"

    def identity(self, *, tasks_digest: str) -> str:
        """SHA-256 over what must not change when a run is resumed: all but the time it may take and its floors."""
        run = self.run.model_dump(include={"seed"})
        parts = self.model_dump(mode="json", exclude={"run"}) | {"run": run, "tasks": tasks_digest}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Layer:
    """One source of settings: its name for messages, and dotted keys with their values."""

    name: str
    values: Mapping[str, Any]


def resolve(layers: Iterable[Layer]) -> Settings:
    """The settings that the layers give, later ones over earlier ones.

    Raises UsageError naming every unknown and every bad key of all layers, with the nearest valid name.
    """
    known = list(_leaf_names(Settings))
    origin: dict[str, str] = {}
    merged: dict[str, Any] = {}
    faults: list[str] = []
    for layer in layers:
        for key, value in layer.values.items():
            if key not in known:
                faults.append(f"{layer.name}: no setting {key}{did_you_mean(key, known)}")
                continue
            origin[key] = layer.name
            _put(merged, key, value)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as fault:
        for error in fault.errors():
            key = ".".join(str(part) for part in error["loc"])
            faults.append(
                f"{key} = {error['input']!r} ({origin.get(key, 'settings')}): {error['msg']}"
            )
    except UsageError as fault:  # raised by parse_duration and parse_instant
        faults.append(str(fault))
    if faults:
        raise UsageError(
            "; ".join(faults),
            expected="the keys that `appliance settings` lists",
            remedy="correct them",
        )
    return settings


def given_keys(layers: Iterable[Layer]) -> frozenset[str]:
    """The dotted keys that the layers set, whatever their values."""
    return frozenset(key for layer in layers for key in layer.values)


def file_layer(path: Path) -> Layer:
    """The settings in a YAML file, nested or dotted. Raises UsageError when it cannot be read."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as fault:
        raise UsageError(
            f"settings file {path}: {fault}", expected="a YAML file of settings"
        ) from fault
    if not isinstance(values, dict):
        raise UsageError(
            f"settings file {path} holds a {type(values).__name__}", expected="keys and values"
        )
    return Layer(str(path), _flatten(values))


def profile_names() -> tuple[str, ...]:
    """The profiles that ship with the package, in the order of the alphabet."""
    files = [path.name for path in _profile_folder().iterdir()]
    return tuple(sorted(f.removesuffix(".yaml") for f in files if f.endswith(".yaml")))


def read_profile(name: str) -> dict[str, Any]:
    """A shipped profile as its YAML file has it: parts of settings, and a `machine` part.

    Raises UsageError for an unknown profile, with the nearest valid name.
    """
    names = profile_names()
    if name not in names:
        raise unknown("profile", name, names)

    text = (_profile_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text) or {}
    return values


def profile_layer(name: str) -> Layer:
    """The settings of a shipped profile; its `machine` part is an expectation, not a setting."""
    values = read_profile(name)
    values.pop("machine", None)
    return Layer(f"profile {name}", _flatten(values))


def _profile_folder() -> Traversable:
    return resources.files("appliance") / "profiles"


def environment_layer(environment: Mapping[str, str]) -> Layer:
    """Settings in APPLIANCE_* variables; values are read as YAML scalars."""
    values = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."): yaml.safe_load(value)
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name != CPU_BF16_VARIABLE
    }
    return Layer("environment", values)


def assignments_layer(assignments: Iterable[str]) -> Layer:
    """Settings from `--set a.b=c`. Raises UsageError for text without `=`."""
    values = {}
    for text in assignments:
        key, sign, value = text.partition("=")
        if not sign:
            raise UsageError(
                f"--set {text!r} has no '='",
                expected="--set key=value",
                remedy="such as train.rank=32",
            )
        values[key.strip()] = yaml.safe_load(value)
    return Layer("--set", values)


def describe_settings() -> list[tuple[str, str, str]]:
    """Every key with its default and what it means, in the order of the tree."""
    rows = []
    for key in _leaf_names(Settings):
        model: type[BaseModel] = Settings
        *parents, leaf = key.split(".")
        for parent in parents:
            model = model.model_fields[parent].annotation  # type: ignore[assignment]
        info = model.model_fields[leaf]
        choices = [str(a) for a in get_args(info.annotation) if isinstance(a, str)]
        rows.append((key, str(info.default), info.description or " | ".join(choices)))
    return rows


def _leaf_names(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _leaf_names(info.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value
