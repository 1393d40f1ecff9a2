"""The settings of a run: one pydantic tree (a long file, for every setting is described beside it).

Six layers make it, later ones over earlier ones: defaults, --profile, --config run.yaml,
APPLIANCE_* environment variables, --set a.b=c, flags. All faults are reported at once. A variable
is named by the dotted key in capitals, with two underscores for the dot: APPLIANCE_TRAIN__RANK=32.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from appliance.clock import LONGEST_S, parse_duration, parse_instant
from appliance.errors import UsageError, shorten
from appliance.foreign_text import MOST_NAME_BYTES, MOST_PATH_BYTES
from appliance.names import did_you_mean, unknown
from appliance.process.guard import DEBUG_VARIABLE
from appliance.yaml_text import parse_yaml, read_yaml

ENVIRONMENT_PREFIX = "APPLIANCE_"
"""Environment variables with this prefix are settings, but for NOT_SETTINGS."""

CPU_BF16_VARIABLE = "APPLIANCE_CPU_BF16"
"""Not a setting of a run but a fact about the machine: machine/host.py reads it."""

MOST_TOLD = 20
"""Unknown keys of one source that a message names; a file of another kind has thousands."""

NOT_SETTINGS = (CPU_BF16_VARIABLE, DEBUG_VARIABLE)


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Strategy = Literal["transduction", "induction", "search"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
"""Where answers come from: grids that the model writes, programs that it writes, and programs that
are found without a model."""

ALIASES = {"both": ("transduction", "induction")}
"""Older names for a list of strategies."""


def _strategies(value: Any) -> tuple[str, ...]:
    """From a comma list or a list of names: each once, in the order of STRATEGIES.

    Raises ValueError, which pydantic turns into the message of a setting, for no name and for an
    unknown one.
    """
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        texts = [value]

    names = [name for text in texts if (name := str(text).strip())]
    wanted = {one for name in names for one in ALIASES.get(name, (name,))}
    unknown_names = [name for name in names if name not in (*STRATEGIES, *ALIASES)]
    if unknown_names or not names:
        hints = [did_you_mean(name, STRATEGIES) for name in unknown_names]
        raise ValueError(f"expected a comma list of {', '.join(STRATEGIES)}{''.join(hints)}")
    return tuple(one for one in STRATEGIES if one in wanted)


MOST_STEPS = 1_000_000
"""Upper ends of ranges are far beyond what a run of any length could use. They are there because a
slip of the keyboard should be told, and not fill the memory."""

MOST_TOKENS = 1_000_000
MOST_SAMPLES = 10_000

Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=LONGEST_S)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        """`true` is not taken for 1, and a text is one line, as a path may be."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind is not bool:
            raise ValueError("expected another kind of value than true or false")
        if isinstance(value, str) and kind in (str, str | None, Path | None):
            if not value.strip() or re.search(r"[\x00-\x1f]", value):
                raise ValueError("expected a text that is not empty, in one line")
            try:
                data = os.fsencode(value)
            except UnicodeEncodeError:
                raise ValueError("expected a text that a path can be") from None
            if len(data) > MOST_PATH_BYTES:
                raise ValueError(f"expected at most {MOST_PATH_BYTES} bytes")
            if max(map(len, re.split(b"[/,]", data))) > MOST_NAME_BYTES:
                raise ValueError(f"expected names of at most {MOST_NAME_BYTES} bytes")
        return value


class ModelSettings(_Part):
    """Which model, in which number format, on which engines."""

    path: str = Field(
        "arc-mini",
        description="model folder, or arc-mini for the built-in one; with several, separated by "
        "commas, the plan takes one that fits",
    )
    adapter: Path | None = Field(None, description="folder of a LoRA adapter to load on the model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="number format of the weights; auto: the fastest on the device",
    )
    quantization: Literal["auto", "none", "nf4", "int8"] = Field(
        "auto", description="compression of the base weights; auto: only if they do not fit without"
    )
    engine: Literal["auto", "vllm", "transformers"] = Field(
        "auto", description="engine that generates answers"
    )
    trainer: Literal["auto", "unsloth", "peft"] = Field(
        "auto", description="library that fine-tunes"
    )


class TrainSettings(_Part):
    """Test-time training: fine-tuning on the demonstrations of one task."""

    enabled: bool = Field(
        True, description="false: answer with the model as it is, grids and programs alike"
    )
    method: Literal["lora", "full"] = Field(
        "lora", description="train a LoRA adapter, or all weights"
    )
    start: Literal["auto", "new", "continue"] = Field(
        "auto",
        description="train a new adapter, or the given one further; auto: the given one, if any",
    )
    rank: int = Field(64, ge=1, le=1024, description="LoRA rank: the size of the adapter")
    alpha: float = Field(
        64.0,
        gt=0,
        le=100_000,
        description="LoRA scale: the adapter is multiplied by alpha / rank (see rslora); unless "
        "set, the plan decides, by the model",
    )
    rslora: bool = Field(True, description="multiply by alpha / sqrt(rank) instead")
    learning_rate: float = Field(
        1e-3,
        gt=0,
        le=1,
        description="peak learning rate; unless set, the plan decides, by the model",
    )
    check: Literal["decide", "tell", "skip"] = Field(
        "decide",
        description="try the rate on a few tasks at the start: decide by what they say, only tell, "
        "or try nothing",
    )
    max_steps: int = Field(
        400,
        ge=1,
        le=MOST_STEPS,
        description="most training steps per task; unless set, the plan decides",
    )
    tokens_per_step: int = Field(
        1024,
        ge=256,
        le=MOST_TOKENS,
        description="tokens of a training step, in one or more sequences; unless set, the plan "
        "raises it where a GPU would wait for kernels most of a step",
    )
    max_seq_tokens: int = Field(
        8192,
        ge=128,
        le=MOST_TOKENS,
        description="longest training sequence; the plan may choose a shorter one",
    )
    keep_colours: bool = Field(False, description="true: training examples keep their colours")
    keep_orientation: bool = Field(
        False, description="true: training examples are not turned and flipped"
    )
    leave_two_out: Share = Field(
        0.0,
        description="share of training examples that show n-2 of the n demonstrations, not n-1",
    )
    max_share: Share = Field(0.65, description="most of a task's time that training may use")
    min_seconds: float = Field(
        2.0,
        ge=0,
        le=LONGEST_S,
        description="a task with less time than this for training is not trained",
    )


class ProgramSettings(_Part):
    """Solving by programs: write, run, relabel by what they do, learn from them, write again."""

    share: Share = Field(
        0.4,
        description="share of a task's time that goes to programs if the model writes grids too",
    )
    quick_samples: int = Field(
        8, ge=1, le=MOST_SAMPLES, description="programs per task in the quick pass"
    )
    quick_epochs: int = Field(
        0,
        ge=0,
        le=MOST_SAMPLES,
        description="rounds in the quick pass that train one adapter on the programs of all tasks",
    )
    samples_per_epoch: int = Field(
        32, ge=1, le=MOST_SAMPLES, description="programs written per task between two trainings"
    )
    samples_per_view: int = Field(
        8, ge=1, le=MOST_SAMPLES, description="programs written per view (augmented copy) of a task"
    )
    epochs: int = Field(
        16, ge=1, le=MOST_SAMPLES, description="most rounds of writing and learning in one job"
    )
    learn: bool = Field(
        True, description="false: never train on the programs, only sample from the model as it is"
    )
    picked: int = Field(
        4, ge=1, le=MOST_SAMPLES, description="different programs per task that an epoch trains on"
    )
    is_diverse: bool = Field(
        True, description="prefer programs whose outputs no other selected program gives"
    )
    learning_rate: float = Field(
        2e-4,
        gt=0,
        le=1,
        description="peak learning rate; unless set, the plan decides, by the model",
    )
    max_steps: int = Field(
        16,
        ge=1,
        le=MOST_STEPS,
        description="most training steps per epoch, for each task that is trained on",
    )
    passes: int = Field(
        1,
        ge=1,
        le=MOST_SAMPLES,
        description="maximum passes over the selected programs in one epoch",
    )
    temperature: float = Field(0.8, gt=0, le=2, description="sampling temperature of programs")
    top_p: float = Field(
        0.95, gt=0, le=1, description="sample among the likeliest tokens that hold this probability"
    )
    max_new_tokens: int | None = Field(
        None,
        ge=8,
        le=MOST_TOKENS,
        description="longest program, in tokens; None: as the model card says",
    )
    cpu_s: float = Field(
        0.5,
        ge=0.01,
        le=3600,
        description="CPU seconds that one program may take for all its inputs together",
    )
    memory_mb: int = Field(
        256, ge=16, le=1 << 20, description="memory that one program may take, in MiB"
    )
    accept_level: Literal["no-seccomp"] | None = Field(
        None, description="no-seccomp: run programs even where system calls cannot be filtered"
    )


class SearchSettings(_Part):
    """Search for programs without a model, on CPU cores."""

    workers: int | None = Field(
        None,
        ge=1,
        le=256,
        description="processes that search; None: the plan decides, by the cores",
    )
    seconds_per_task: float | None = Field(
        None,
        gt=0,
        le=LONGEST_S,
        description="most CPU seconds a task; None: the plan decides, by the budget",
    )
    expansions: int = Field(
        250,
        ge=1,
        le=MOST_STEPS,
        description="most grids and objects of a task that all functions are tried on",
    )


SEARCH_ROWS = 3
"""Beginnings of answers that a search above a threshold follows at a time, on the mean."""


class SampleSettings(_Part):
    """How answers are generated, and how the vote ranks them."""

    predictions: int | None = Field(
        None,
        ge=1,
        le=512,
        description="exactly so many answers to each test output, and programs for each task, in "
        "one pass; None: as many as the time allows, by the settings below",
    )
    quick_views: int = Field(
        2,
        ge=1,
        le=512,
        description="views (augmented copies) per task in the quick pass, before any training",
    )
    views: int = Field(
        16, ge=1, le=512, description="views per task in the deep pass, after training on the task"
    )
    samples_per_view: int = Field(
        1, ge=1, le=512, description="answers per view; above 1 needs a temperature above 0"
    )
    mode: Literal["greedy", "sample", "dfs"] | None = Field(
        None,
        description="greedy: the likeliest answer of each view; sample: drawn at the temperature; "
        "dfs: in the deep pass every answer whose probability is at least sample.threshold; "
        "unset: greedy, or sample where the temperature is above 0",
    )
    threshold: float = Field(
        0.1, ge=0.04, lt=1, description="the least probability of an answer that dfs gives"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="sampling temperature; 0: greedy")
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample among the likeliest tokens that hold this probability"
    )
    keep_colours: bool = Field(
        False, description="true: views of grids and programs keep the colours"
    )
    keep_orientation: bool = Field(
        False,
        description="true: views of grids and programs do not turn and flip; with the colours "
        "kept as well, there is one view: the task as it is",
    )

    @property
    def kept(self) -> dict[str, bool]:
        """What views leave as it is, as the functions of arc/view.py take it."""
        return {"keep_colours": self.keep_colours, "keep_orientation": self.keep_orientation}

    @property
    def answers_per_view(self) -> int:
        """Sequences written for a view of the deep pass, which its time follows."""
        return SEARCH_ROWS if self.mode == "dfs" else self.samples_per_view

    batch_tokens: int = Field(
        16384,
        ge=1024,
        le=16 * MOST_TOKENS,
        description="most tokens of one batch of Transformers: sequences x (prompt + answer)",
    )
    serving: Literal["auto", "on-the-fly", "merged"] = Field(
        "auto",
        description="how vLLM applies adapters: beside the base weights, or merged into them; "
        "auto: on-the-fly on a GPU, merged on a CPU",
    )
    grammar: Literal["none", "rectangular", "shape"] = Field(
        "none",
        description="restrict answers to rectangular grids, or to the predicted size; needs vLLM",
    )
    stall_s: float = Field(
        120.0,
        gt=0,
        le=LONGEST_S,
        description="seconds without a new answer before the engine is restarted",
    )
    score_views: int = Field(
        8,
        ge=0,
        le=64,
        description="views under which a trained model scores the answers for the vote; 0: none",
    )
    selector: str = Field(
        "programs-first",
        description="how the vote ranks the answers (appliance vote --help lists the names)",
    )

    @model_validator(mode="after")
    def _greedy_once(self) -> SampleSettings:
        if self.temperature == 0 and self.samples_per_view > 1:
            raise ValueError(
                "samples_per_view above 1 needs a temperature above 0: "
                "greedy samples are all the same"
            )
        return self

    @model_validator(mode="after")
    def _fits_mode(self) -> SampleSettings:
        if self.mode == "sample" and self.temperature == 0:
            raise ValueError("mode sample needs a temperature above 0")
        if self.mode in ("greedy", "dfs") and self.temperature > 0:
            raise ValueError(f"mode {self.mode} needs the temperature 0")
        if self.mode == "dfs" and self.predictions is not None:
            raise ValueError("mode dfs cannot promise a number of predictions")
        if self.mode == "dfs" and self.grammar != "none":
            raise ValueError("mode dfs works without a grammar")
        return self


class RunSettings(_Part):
    """Time, workers, and what counts as success."""

    budget_s: Seconds | None = Field(
        None, description="time from the start of the command, such as 11h30m"
    )
    deadline: str | None = Field(
        None, description="ISO 8601 date and time; the earlier of deadline and budget counts"
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of views, training and sampling")
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="worker processes; unless set, the plan decides by the cores, or by GPUs and "
        "run.workers_per_card; with GPUs, any value here means at most one worker each, on the "
        "least used ones",
    )
    workers_per_card: int = Field(
        1,
        ge=1,
        le=4,
        description="workers that share one GPU, each with its part of the memory; unless this or "
        "run.workers is set, the plan decides",
    )
    rounds: int | None = Field(
        None,
        ge=1,
        description="most deep jobs per task, of which every second one trains a new adapter; "
        "by default as many as the time holds, while a vote is not settled",
    )
    quick_share: Share = Field(0.25, description="share of the time that the quick pass may use")
    reserve_s: float = Field(
        3.0, ge=0, le=LONGEST_S, description="seconds kept free at the end to write the submission"
    )
    min_sampled_share: Share = Field(
        0.9, description="exit with code 5 if a smaller share of the tasks was sampled"
    )
    min_trained_share: Share = Field(
        0.0, description="exit with code 5 if a smaller share of the tasks was trained"
    )

    tracking: Literal["none", "wandb", "trackio"] = Field(
        "none",
        description="service that gets the figures of the run as it goes; its files lie in "
        "run/tracking",
    )

    @model_validator(mode="after")
    def _instant(self) -> RunSettings:
        if self.deadline is not None:
            parse_instant(self.deadline)
        return self


class Settings(_Part):
    """The whole tree."""

    strategy: Annotated[tuple[Strategy, ...], BeforeValidator(_strategies)] = Field(
        ("transduction", "search"),
        description="where answers come from, a comma list of transduction (grids that the model "
        "writes), induction (programs that it writes) and search (programs found without a model); "
        "both: transduction,induction",
    )
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    sample: SampleSettings = SampleSettings()
    program: ProgramSettings = ProgramSettings()
    search: SearchSettings = SearchSettings()
    run: RunSettings = RunSettings()

    @property
    def writes_grids(self) -> bool:
        return "transduction" in self.strategy

    @property
    def writes_programs(self) -> bool:
        return "induction" in self.strategy

    @property
    def learns(self) -> bool:
        """Whether the model is trained on the programs that it writes."""
        return self.writes_programs and self.program.learn and self.train.enabled

    @property
    def trains(self) -> bool:
        """Whether the model is trained at test time at all."""
        return self.learns or (self.writes_grids and self.train.enabled)

    @property
    def searches(self) -> bool:
        return "search" in self.strategy

    @property
    def needs_model(self) -> bool:
        return self.writes_grids or self.writes_programs

    def identity(self, *, tasks_digest: str) -> str:
        """SHA-256 over what must not change when a run is resumed.

        Of the `run` part that is the seed alone: time, workers and floors may change, and so may
        the number of processes that search. How far they search may not.
        """
        run = self.run.model_dump(include={"seed"})
        parts = self.model_dump(mode="json", exclude={"run": True, "search": {"workers"}})
        parts |= {"run": run, "tasks": tasks_digest}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Layer:
    """One source of settings."""

    name: str  # for messages, such as "--set" or the path of a file
    values: Mapping[str, Any]  # by dotted key


def resolve(layers: Iterable[Layer]) -> Settings:
    """The settings that the layers give; later layers win.

    Raises UsageError naming every unknown and every bad key of all layers, with the nearest valid
    name.
    """
    known = list(_leaf_names(Settings))
    origin: dict[str, str] = {}
    merged: dict[str, Any] = {}
    faults: list[str] = []

    for layer in layers:
        for key, value in layer.values.items():
            if key not in known:
                faults.append(f"{layer.name}: no setting {shorten(key)}{did_you_mean(key, known)}")
                if len(faults) >= MOST_TOLD:
                    faults.append("and more")
                    break
                continue
            origin[key] = layer.name
            _put(merged, key, value)

    try:
        settings = Settings.model_validate(merged)
    except ValidationError as fault:
        for error in fault.errors():
            key = ".".join(str(part) for part in error["loc"])
            what = error["msg"].removeprefix("Value error, ")
            given = shorten(repr(error["input"]))
            faults.append(f"{key} = {given} ({origin.get(key, 'settings')}): {what}")
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
    values = read_yaml(path, kind="settings file")
    values = {} if values is None else values  # an empty file is one without settings
    if not isinstance(values, dict):
        raise UsageError(
            f"settings file {path} holds a {type(values).__name__}", expected="keys and values"
        )
    return Layer(str(path), _flatten(values))


def profile_names() -> tuple[str, ...]:
    """The profiles that ship with the package, in alphabetical order."""
    files = [path.name for path in _profile_folder().iterdir()]
    return tuple(sorted(f.removesuffix(".yaml") for f in files if f.endswith(".yaml")))


def read_profile(name: str) -> dict[str, Any]:
    """A shipped profile as its YAML file has it: settings, and a `machine` part.

    Raises UsageError for an unknown profile, with the nearest valid name.
    """
    names = profile_names()
    if name not in names:
        raise unknown("profile", name, names)

    text = (_profile_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = parse_yaml(text, place=f"profile {name}")
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
        name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."): parse_yaml(
            value, place=name
        )
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS
    }
    return Layer("environment", values)


def assignments_layer(assignments: Iterable[str]) -> Layer:
    """Settings from `--set a.b=c`. Raises UsageError for text without `=`."""
    values = {}
    for text in assignments:
        key, sign, value = text.partition("=")
        if not sign:
            raise UsageError(
                f"--set {shorten(text)!r} has no '='",
                expected="--set key=value",
                remedy="such as train.rank=32",
            )
        values[key.strip()] = parse_yaml(value, place=f"--set {shorten(text)}")

    return Layer("--set", values)


def describe_settings() -> list[tuple[str, str, str]]:
    """Every key with its default and its meaning, in the order of the tree."""
    rows = []

    for key in _leaf_names(Settings):
        model: type[BaseModel] = Settings
        *parents, leaf = key.split(".")
        for parent in parents:
            model = model.model_fields[parent].annotation  # type: ignore[assignment]
        info = model.model_fields[leaf]
        choices = " | ".join(a for a in get_args(info.annotation) if isinstance(a, str))
        meaning = f"{info.description} ({choices})" if choices else str(info.description)
        is_list = isinstance(info.default, tuple)
        rows.append((key, ",".join(info.default) if is_list else str(info.default), meaning))

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
    """tree["a"]["b"] = value for "a.b"."""
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value
