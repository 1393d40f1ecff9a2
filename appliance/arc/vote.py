"""Voting: from many candidate grids for a test output to the attempts handed in, best first.

A selector ranks the candidates of one test output. No selector depends on the order of the
candidates: the grid itself decides between equals, so a resumed, merged or re-voted run gives the
same submission.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from appliance.arc.grid import Grid, grid_key
from appliance.names import pick

Output = tuple[str, int]
"""A test output: task id and index of the test input."""

DEFAULT_SELECTOR = "programs-first"
"""See `programs_first`."""

FIRST = 0.1
"""A grid with more summed weight than this takes the first attempt, and its task counts as settled.
docs/results/search.md has the table of how often such grids are right."""

SECOND = 0.03
"""A grid with more than this is sure of an attempt, the second where others have a claim to the
first. Below, a search has one vote among the model's. The same table."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One answer to one test input, with where it came from."""

    task_id: str
    test_index: int
    grid: Grid | None  # turned back from its view; None when nothing legal could be read
    logprob: float  # summed over the `num_tokens` generated tokens
    num_tokens: int
    view: str = ""  # name of the view, see view.py
    # "transduction" or "induction": the model wrote the grid, or a program that gives it. "search"
    # or "cells": found without a model, by a program or by trees that learn cells.
    method: str = "transduction"
    adapter: str = ""  # name of the adapter, empty for the base model
    program: str = ""  # its text, for induction and search
    demo_score: float | None = None  # fraction of demonstrations that the program gets right
    # Log-probability of this grid's text under each of some views, where grids were scored.
    view_scores: tuple[float, ...] = ()
    # How sure the search without a model is; None for what the model gave. Weights of equal grids
    # add up.
    weight: float | None = None

    def key(self) -> tuple[object, ...]:
        """All fields, with the grid as its key: equal exactly when the candidates are equal."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(grid_key(v) if isinstance(v, np.ndarray) else v for v in values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    @property
    def output(self) -> Output:
        """The test output that it answers."""
        return self.task_id, self.test_index

    @property
    def mean_logprob(self) -> float:
        """Per token; -inf where it is not a number."""
        mean = self.logprob / max(1, self.num_tokens)
        return -math.inf if math.isnan(mean) else mean

    @property
    def is_searched(self) -> bool:
        """Whether it was found without a model."""
        return self.weight is not None


@dataclass(frozen=True, eq=False)
class Tally:
    """A grid and the candidates that vote for it."""

    grid: Grid
    voters: tuple[Candidate, ...]

    @property
    def votes(self) -> int:
        return len(self.voters)

    @property
    def weight(self) -> float:
        """How sure the search without a model is of this grid: the sum over its answers."""
        return math.fsum(v.weight for v in self.voters if v.weight is not None)

    def mean_logprob(self) -> float:
        """Over the voters that a model wrote; -inf where there is none."""
        written = [v.mean_logprob for v in self.voters if not v.is_searched]
        return _mean(written) if written else -math.inf

    def log_probability(self) -> float:
        """Log of the summed probabilities of the texts that a model wrote."""
        written = [v.logprob for v in self.voters if not v.is_searched]
        return _log_of_sum([log for log in written if not math.isnan(log)])

    def view_scores(self) -> list[float]:
        """Log-probabilities of the grid, under all views; empty where it was not scored."""
        return [score for voter in self.voters for score in voter.view_scores]

    def mean_view_score(self) -> float:
        """Log of the geometric mean of the probabilities; -inf where it was not scored."""
        scores = self.view_scores()
        return _mean(scores) if scores else -math.inf

    def mean_program_chars(self) -> float:
        return _mean(float(len(v.program)) for v in self.voters)


def tally(candidates: Iterable[Candidate]) -> list[Tally]:
    """Equal grids put together, in no particular order; candidates without a grid are left out."""
    voters: dict[tuple[int, int, bytes], list[Candidate]] = defaultdict(list)
    grids: dict[tuple[int, int, bytes], Grid] = {}
    for candidate in candidates:
        if candidate.grid is not None:
            key = grid_key(candidate.grid)
            voters[key].append(candidate)
            grids[key] = candidate.grid

    return [Tally(grids[key], tuple(voters[key])) for key in voters]


def by_votes_then_logprob(candidates: Sequence[Candidate]) -> list[Tally]:
    """Votes, then the mean over voters of log-probability per token. The arc24 vote."""
    return _ranked(candidates, lambda t: (t.votes, t.mean_logprob()))


def by_votes(candidates: Sequence[Candidate]) -> list[Tally]:
    """Votes alone."""
    return _ranked(candidates, lambda t: (t.votes,))


def by_logprob(candidates: Sequence[Candidate]) -> list[Tally]:
    """The mean over voters of log-probability per token alone."""
    return _ranked(candidates, lambda t: (t.mean_logprob(),))


def by_probability(candidates: Sequence[Candidate]) -> list[Tally]:
    """The summed probability of the voters' texts: how much of the model's belief they hold."""
    return _ranked(candidates, lambda t: (t.log_probability(),))


def by_views(candidates: Sequence[Candidate]) -> list[Tally]:
    """The probability that the model gives the whole grid, multiplied over views.

    This product of experts ranks the grids that were scored. Votes and the mean log-probability per
    token decide between equals, and where no grid was scored.
    """
    return _ranked(candidates, lambda t: (t.mean_view_score(), t.votes, t.mean_logprob()))


def by_mean_of_views(candidates: Sequence[Candidate]) -> list[Tally]:
    """The same with the mean of the probabilities over views: one view may speak for a grid.

    In a product one view can rule a grid out.
    """

    def log_of_mean(scores: list[float]) -> float:
        return _log_of_sum(scores) - math.log(len(scores)) if scores else -math.inf

    return _ranked(candidates, lambda t: (log_of_mean(t.view_scores()), t.votes, t.mean_logprob()))


def by_median_of_views(candidates: Sequence[Candidate]) -> list[Tally]:
    """The same with the median over views: neither one view nor few of them decide."""

    def median(scores: list[float]) -> float:
        return statistics.median(scores) if scores else -math.inf

    return _ranked(candidates, lambda t: (median(t.view_scores()), t.votes, t.mean_logprob()))


def by_votes_and_views(candidates: Sequence[Candidate]) -> list[Tally]:
    """Votes plus the mean over views of the log-probability of the whole grid.

    One vote more makes up for a probability that is e times smaller. From: Sorokin and Puget,
    "NVARC solution to ARC-AGI-2 2025", section 3.4.
    """
    return _ranked(candidates, lambda t: (t.votes + t.mean_view_score(), t.votes, t.mean_logprob()))


def by_demonstrations(candidates: Sequence[Candidate]) -> list[Tally]:
    """Programs by the fraction of demonstrations they get right; then votes, then short programs.

    This is arc25's vote, except that a grid ranks only once, at its highest level: a second time it
    would waste an attempt.
    """
    levels: dict[float, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        levels[-1.0 if candidate.demo_score is None else candidate.demo_score].append(candidate)

    ranked = [
        _ranked(levels[score], lambda t: (t.votes, -t.mean_program_chars()))
        for score in sorted(levels)[::-1]
    ]

    return _distinct(t for level in ranked for t in level)


def programs_first(candidates: Sequence[Candidate]) -> list[Tally]:
    """Programs that fit every demonstration, then grids of transduction, then all other programs.

    Grids of transduction are ranked by `by_views`. A program that is right on all demonstrations is
    nearly always right on the test too (arc25: 1.98 % of its programs fit the demonstrations,
    1.95 % also the test).
    """
    proven = [c for c in candidates if is_proven(c)]
    grids = [c for c in candidates if c.demo_score is None]
    partial = [c for c in candidates if c.demo_score is not None and not is_proven(c)]
    return _distinct([*by_demonstrations(proven), *by_views(grids), *by_demonstrations(partial)])


@dataclass(frozen=True)
class Selector:
    """A named way to vote."""

    rank: Callable[[Sequence[Candidate]], list[Tally]]  # of one test output, best first
    # Programs that fit all demonstrations go before every stage of a run, all others after them.
    parts_programs: bool = False
    # In the end the likelier grid goes first, whoever gave it (record/confidence.py). What `rank`
    # says decides between equals.
    by_chance: bool = False


SELECTORS: Mapping[str, Selector] = {
    "votes-then-logprob": Selector(by_votes_then_logprob),
    "votes-only": Selector(by_votes),
    "logprob-only": Selector(by_logprob),
    "sum-probability": Selector(by_probability),
    "product-of-views": Selector(by_views),
    "mean-of-views": Selector(by_mean_of_views),
    "median-of-views": Selector(by_median_of_views),
    "nvarc": Selector(by_votes_and_views),
    "demonstrations": Selector(by_demonstrations),
    "programs-first": Selector(programs_first, parts_programs=True),
    "confidence": Selector(programs_first, parts_programs=True, by_chance=True),
}


def get_selector(name: str) -> Selector:
    """Raises UsageError with the nearest valid name."""
    return pick("selector", name, SELECTORS)


def vote(
    candidates: Iterable[Candidate], *, selector: str = DEFAULT_SELECTOR, num_attempts: int = 2
) -> dict[Output, tuple[Grid, ...]]:
    """The best distinct grids of every test output that has a candidate, best first.

    There are at most `num_attempts` a test output, and none where no candidate has a grid.
    Raises UsageError for an unknown selector.
    """
    rank = get_selector(selector).rank
    return {
        output: tuple(t.grid for t in rank(group)[:num_attempts])
        for output, group in sorted(group_by_output(candidates).items())
    }


def group_by_output(candidates: Iterable[Candidate]) -> dict[Output, list[Candidate]]:
    """The candidates of each test output, in their order."""
    groups: dict[Output, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.output].append(candidate)
    return dict(groups)


def is_proven(candidate: Candidate) -> bool:
    """Whether it comes from a program of the model that fits all demonstrations."""
    return (
        not candidate.is_searched
        and candidate.demo_score is not None
        and candidate.demo_score >= 1.0
        and candidate.grid is not None
    )


def by_weight(candidates: Iterable[Candidate]) -> list[Tally]:
    """The grids that a search found without a model, by their summed weight."""
    return _ranked((c for c in candidates if c.is_searched), lambda t: (t.weight,))


def least_weight(num_tests: int, candidates: Iterable[Candidate]) -> float:
    """How sure a search is of its answer to a task: the summed weight of the best grid, for the
    test output of which it is least sure. 0 where an output has no answer."""
    best = [0.0] * num_tests
    for (_, index), group in group_by_output(candidates).items():
        best[index] = max((entry.weight for entry in by_weight(group)), default=0.0)
    return min(best)


def one_vote_each(found: Iterable[Tally]) -> list[Candidate]:
    """One vote for each grid of a search, however many answers it stands for, without a claim to a
    probability: where the model's votes are equal, its own grid goes first."""
    return [
        Candidate(
            task_id=entry.voters[0].task_id,
            test_index=entry.voters[0].test_index,
            grid=entry.grid,
            logprob=-math.inf,
            num_tokens=0,
            method="search",
            weight=entry.weight,
        )
        for entry in found
    ]


def _ranked(
    candidates: Iterable[Candidate], figures: Callable[[Tally], tuple[float, ...]]
) -> list[Tally]:
    """Best first by `figures`, each the larger the better; then by the weight of a search, and the
    grid decides between equals."""

    def key(entry: Tally) -> tuple[tuple[float, ...], tuple[int, int, bytes]]:
        return tuple(-f for f in (*figures(entry), entry.weight)), grid_key(entry.grid)

    return sorted(tally(candidates), key=key)


def _distinct(ranked: Iterable[Tally]) -> list[Tally]:
    """Each grid at its first place only."""
    first: dict[tuple[int, int, bytes], Tally] = {}
    for entry in ranked:
        first.setdefault(grid_key(entry.grid), entry)
    return list(first.values())


def _mean(values: Iterable[float]) -> float:
    """Independent of order: `fsum` is exact."""
    figures = list(values)
    return -math.inf if -math.inf in figures else math.fsum(figures) / len(figures)


def _log_of_sum(logs: Sequence[float]) -> float:
    """Log of the sum of what these are the logs of."""
    top = max(logs, default=-math.inf)
    if not math.isfinite(top):
        return top
    # The largest is taken out, so that the exponentials do not all become 0.
    return top + math.log(math.fsum(math.exp(x - top) for x in logs))
