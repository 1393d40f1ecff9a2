"""Search and learn over a whole set of tasks: predict, relabel, train, predict again.

    DIR/rounds.json          the commands; a folder with it is taken up again
    DIR/round-0/run          programs of the model as it came
    DIR/round-1/pack         the best programs of all runs so far, each relabelled by what it does
    DIR/round-1/training     the adapter, or the model, that learnt from them
    DIR/round-1/run          programs of the model with it; then round-2, and so on

Every step is a command that a person could type as well, in a process of its own. Whether it is
done shows in its folder, so that after any kill the same command goes on.

Every round trains anew, from the model (and adapter) as it came, on what was picked of all runs so
far. Going on from the round before would teach the early programs again and again, until the model
writes nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.arc.read import read_json
from appliance.atomic import check_replaceable, make_folder, write_atomic
from appliance.engine.folder.card import RECORD_FILE
from appliance.errors import EXIT_DONE, UsageError
from appliance.learn.checkpoint import RESULTS
from appliance.learn.data.relabelled import PROVENANCE
from appliance.learn.series.verb import as_typed, run_verb
from appliance.process.stopping import exit_code, noted
from appliance.record.run_folder import RunFolder

COMMANDS = "rounds.json"
"""File of the folder that names its commands."""


@dataclass(frozen=True)
class RoundsPlan:
    """What the rounds do. The flags are those of the verbs, as one would type them."""

    out: Path
    num_rounds: int  # of relabelling, training and predicting, after the first predictions
    model: str
    adapter: str | None  # that the model begins with
    method: str  # what the recipe trains: "lora" or "full"
    submit: tuple[str, ...]  # flags of every submit
    relabel: tuple[str, ...]  # flags of every relabel
    train: tuple[str, ...]  # flags of every train
    # Flags of submit and of train that may be others when the rounds are taken up again.
    free_submit: tuple[str, ...] = ()
    free_train: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One command, and whether what it makes is there."""

    arguments: tuple[str, ...]  # of `appliance`
    free: tuple[str, ...]  # further ones, which change nothing of what is made
    is_done: Callable[[], bool]

    @property
    def command(self) -> str:
        """As a person would type it."""
        return as_typed((*self.arguments, *self.free))


def run_folders(plan: RoundsPlan) -> list[Path]:
    """Of the predictions of every round, the first ones included."""
    return [plan.out / f"round-{number}" / "run" for number in range(plan.num_rounds + 1)]


def steps_of(plan: RoundsPlan) -> list[Step]:
    """All steps, in their order."""
    runs = run_folders(plan)
    began = ("--adapter", plan.adapter) if plan.adapter else ()
    steps = [_predict(plan, runs[0], ("--model", plan.model, *began))]

    for number in range(1, plan.num_rounds + 1):
        folder = plan.out / f"round-{number}"
        pack, training = folder / "pack", folder / "training"
        result = training / RESULTS[plan.method]

        so_far = tuple(str(run) for run in runs[:number])
        steps.append(
            Step(
                ("relabel", *so_far, "--out", str(pack), *plan.relabel),
                (),
                (pack / PROVENANCE).is_file,
            )
        )
        of_pack = ("--corpus", str(pack), "--out", str(training))
        steps.append(
            Step(
                ("train", "--model", plan.model, *began, *of_pack, *plan.train),
                plan.free_train,
                (result / RECORD_FILE).is_file,
            )
        )
        is_model = plan.method == "full"
        learnt = (str(result),) if is_model else (plan.model, "--adapter", str(result))
        steps.append(_predict(plan, runs[number], ("--model", *learnt)))

    return steps


def _predict(plan: RoundsPlan, run: Path, model: tuple[str, ...]) -> Step:
    return Step(
        ("submit", *model, "--out", str(run), *plan.submit),
        plan.free_submit,
        RunFolder(run).is_finished,
    )


def do_rounds(plan: RoundsPlan, *, last: Step | None) -> int:
    """Take every step that is not done; the exit code of the first that fails, or of the last.

    last: a step that is always taken at the end, such as a comparison.

    Raises OutputError for a folder that is somebody else's, UsageError for one that holds rounds
    with other settings. A signal is passed on to the step, which ends by itself.
    """
    steps = steps_of(plan)
    _claim(plan.out, [step.arguments for step in steps])

    for step in steps:
        if step.is_done():
            print(f"done: {step.command}", flush=True)
            continue

        code = run_step(step)
        if code != EXIT_DONE:
            return code

    return run_step(last) if last else EXIT_DONE


def run_step(step: Step) -> int:
    """Print the command, run it, and return its exit code. It is killed where this process is."""
    print(f"$ {step.command}", flush=True)
    with noted() as stopped:
        if stopped:
            return exit_code(stopped[0], is_resumable=True)
        code = run_verb((*step.arguments, *step.free), stopped)

    return exit_code(stopped[0], is_resumable=True) if stopped else code


def _claim(out: Path, commands: Sequence[Sequence[str]]) -> None:
    """Write down what is done here. More rounds may follow later, other ones not."""
    check_replaceable(out, mark=COMMANDS)
    path = out / COMMANDS
    if path.is_file():
        was = read_json(path)
        begun = [list(command) for command in commands]
        num_common = min(len(was), len(begun)) if isinstance(was, list) else 0
        if not num_common or was[:num_common] != begun[:num_common]:
            raise UsageError(
                f"{out} holds rounds with other tasks or settings",
                expected=f"those of {path} (time, display and the number of rounds may change)",
                remedy="pass another --out",
            )
        if len(was) >= len(begun):
            return

    make_folder(out)
    write_atomic(path, (json.dumps(commands, indent=1) + "\n").encode())
