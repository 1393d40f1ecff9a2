"""The answers to one test input, each with its votes in words, and why the attempts are these."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.arc.grid import Grid, grid_key
from appliance.arc.vote import (
    FIRST,
    SECOND,
    Candidate,
    Tally,
    by_views,
    get_selector,
    is_proven,
    programs_first,
    tally,
)
from appliance.record.confidence import chances
from appliance.record.standing import source_of_grid

GUESS = "A guess from the demonstrations: no answer gave this grid."


@dataclass(frozen=True)
class Explained:
    """A grid that something answered, or an attempt that nothing did."""

    grid: Grid
    votes: str  # such as "2 of 3"; "" where no model answered
    chance: float | None  # that it is right, None for a guess
    source: str  # one of `standing.SOURCES`
    words: tuple[str, ...]  # sentences
    program: str = ""  # that gives it, the most trusted one
    view: str = ""  # name of the view of the task that it was written for, "" for the task itself


def explained(
    attempts: Sequence[Grid], answers: Sequence[Candidate], selector: str
) -> tuple[list[Explained], list[Explained]]:
    """The attempts in their order, and all other answers, the likeliest first.

    answers: all candidates for this test input. selector: that the attempts were chosen with.
    """
    tallies = {grid_key(t.grid): t for t in tally(answers)}
    likely = chances(answers)
    keys = [grid_key(grid) for grid in attempts]

    chosen = []
    for place, (key, grid) in enumerate(zip(keys, attempts, strict=True)):
        found = tallies.get(key)
        if found is None:
            chosen.append(Explained(grid, "", None, "guess", (GUESS,)))
            continue
        rivals = [tallies[k] for k in keys[place + 1 :] if k in tallies]
        why = _why(place, found, rivals, selector)
        chosen.append(_explained(found, answers, likely.get(key, 0.0), why))

    others = [
        _explained(found, answers, likely.get(key, 0.0))
        for key, found in tallies.items()
        if key not in keys
    ]
    return chosen, sorted(others, key=lambda e: (-(e.chance or 0.0), grid_key(e.grid)))


def _explained(
    found: Tally, answers: Sequence[Candidate], chance: float, why: str = ""
) -> Explained:
    written = [c for c in answers if c.grid is not None and not c.is_searched]
    own = [v for v in found.voters if not v.is_searched]
    program, view = _program(found)
    return Explained(
        grid=found.grid,
        votes=f"{len(own)} of {len(written)}" if written else "",
        chance=chance,
        source=source_of_grid(found.grid, found.voters),
        words=tuple(filter(None, [*_votes(found, answers), why])),
        program=program,
        view=view,
    )


def _votes(found: Tally, answers: Sequence[Candidate]) -> list[str]:
    """Who gave this grid, a sentence for each."""
    words = []
    for has_adapter, who in ((True, "the model after training"), (False, "the plain model")):
        asked = _grids_of_model(answers, has_adapter)
        giving = _grids_of_model(found.voters, has_adapter)
        if giving:
            views = len({v.view for v in giving})
            seen = f", under {views} views of the task" if views > 1 else ""
            words.append(f"{_count(len(giving), len(asked))} of {who}{seen}.")

    programs = [v for v in found.voters if v.demo_score is not None and not v.is_searched]
    proven = sum(map(is_proven, programs))
    if proven:
        words.append(f"{_programs(proven)} of the model, right on every demonstration.")
    if len(programs) > proven:
        best = max(v.demo_score or 0.0 for v in programs if not is_proven(v))
        words.append(
            f"{_programs(len(programs) - proven)} of the model, the best of them right on "
            f"{best:.0%} of the demonstrations."
        )

    searched = [v for v in found.voters if v.is_searched]
    if searched:
        how = "by a program" if any(v.program for v in searched) else "by trees that learn cells"
        words.append(f"Found without a model, {how}: weight {found.weight:.2f} ({_sure(found)}).")

    mean = found.mean_view_score()
    if math.isfinite(mean):
        num = len(found.view_scores())
        under = f"over {num} views" if num > 1 else "under one view"
        words.append(f"The model gives it a probability of {math.exp(mean):.2g} {under}.")
    return words


def _why(place: int, found: Tally, rivals: Sequence[Tally], selector: str) -> str:
    """Why this attempt stands where it does. rivals: the attempts after it."""
    first = place == 0
    if any(is_proven(v) for v in found.voters) and get_selector(selector).parts_programs:
        return "Programs that fit every demonstration go before all other answers."
    if found.weight > FIRST:
        return f"A search that is so sure (above {FIRST:g}) goes before the votes of a model."
    if found.weight > SECOND:
        return f"A search that is so sure (above {SECOND:g}) always gets an attempt."
    if all(v.is_searched for v in found.voters):
        return "It fills the place that is left: so light a grid of a search has a single vote."
    if get_selector(selector).by_chance:
        return "The likeliest grid goes first." if first else "The next likeliest grid."

    rank = get_selector(selector).rank
    if rank is programs_first and found.voters[0].demo_score is None:
        rank = by_views  # how it orders grids that no program gives
    rule = (inspect.getdoc(rank) or "").splitlines()[0]
    place_told = "first" if first else "second"
    told = f"The vote puts it {place_told} among the model's answers. What counts: {rule}"
    if any(len(rival.voters) > len(found.voters) for rival in rivals):
        told += (
            " The other attempt has more votes, but these decide only between equals, and answers "
            "after training go before those of the plain model."
        )
    return told


def _grids_of_model(candidates: Sequence[Candidate], has_adapter: bool) -> list[Candidate]:
    """Those that the model wrote as grids, with an adapter or without."""
    return [
        c
        for c in candidates
        if not c.is_searched and c.demo_score is None and bool(c.adapter) == has_adapter
    ]


def _program(found: Tally) -> tuple[str, str]:
    """The heaviest of a search, else one of the model that fits, else its best one; and the view
    that it was written for."""
    having = [v for v in found.voters if v.program]
    if not having:
        return "", ""
    best = max(having, key=lambda v: (v.weight or 0.0, v.demo_score or 0.0, -len(v.program)))
    return best.program, "" if best.is_searched else best.view


def _sure(found: Tally) -> str:
    if found.weight > FIRST:
        return "sure"
    return "likely" if found.weight > SECOND else "one vote among others"


def _count(num: int, of: int) -> str:
    if num == of:
        return f"All {of} answers" if of > 1 else "The only answer"
    return f"{num} of {of} answers"


def _programs(num: int) -> str:
    return "One program" if num == 1 else f"{num} programs"
