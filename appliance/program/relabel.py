"""Hindsight relabelling: a program that is wrong for its task solves the task its outputs make.

Programs are ranked by the fraction of demonstrations that they get exactly right, never by pixels:
a program that is right on one demonstration has understood something, one that leaves most cells as
they are has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.arc.task import Pair, Task
from appliance.program.trial import Trial


@dataclass(frozen=True)
class Relabelled:
    """A task with the program that solves it."""

    task: Task  # the demonstrations' inputs with the program's own outputs
    answer: str  # the program, as the model wrote it
    demo_score: float  # fraction of the original demonstrations that it gets exactly right


def relabel(trial: Trial) -> Relabelled:
    """The task as the program's view shows it, because that is what the program was written for."""
    task, view = trial.draft.task, trial.draft.view
    pairs = zip(task.train, trial.train, strict=True)
    own = tuple(Pair(pair.input, output) for pair, output in pairs if output is not None)
    return Relabelled(view.apply_task(task.with_train(own)), trial.draft.answer, trial.demo_score)


def pick(trials: Sequence[Trial], num: int, *, is_diverse: bool) -> list[Trial]:
    """Up to `num` different valid programs, best first by demonstrations that they get right.

    is_diverse: each one is chosen (greedily) by that fraction plus the fraction of its outputs that
    no program chosen before it gave, so that no single idea fills the training data.
    """
    unique: dict[str, Trial] = {}
    for trial in sorted(filter(lambda t: t.is_valid, trials), key=_rank_of):
        unique.setdefault(trial.form(), trial)

    ranked = list(unique.values())
    if not is_diverse:
        return ranked[:num]

    chosen: list[Trial] = []
    seen: set[object] = set()
    while ranked and len(chosen) < num:
        best = max(ranked, key=lambda t: t.demo_score + _novelty(t, seen))  # the first of equals
        ranked.remove(best)
        chosen.append(best)
        seen.update(enumerate(best.outputs_key()))

    return chosen


def rank(
    demo_score: float, *, logprob: float, num_tokens: int, source: str
) -> tuple[float, float, str]:
    """By which programs are sorted, the best first; see `Draft` and `Trial` for the values."""
    # Of equals the less likely one first: what the model writes anyway needs no training.
    return -demo_score, logprob / max(1, num_tokens), source


def _rank_of(trial: Trial) -> tuple[float, float, str]:
    draft = trial.draft
    return rank(
        trial.demo_score,
        logprob=draft.logprob,
        num_tokens=draft.num_tokens,
        source=draft.source,
    )


def _novelty(trial: Trial, seen: set[object]) -> float:
    """The fraction of its outputs that have not been seen at their place."""
    outputs = list(enumerate(trial.outputs_key()))
    return sum(output not in seen for output in outputs) / len(outputs)
