"""What a sample says about what it was drawn from: means over tasks, differences, chances.

Pure arithmetic on counts and on one value a task. Each estimate names its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_DRAWS = 2000
"""Sets of tasks that are drawn for one interval."""

Interval = tuple[float, float]
"""Lower and upper end of a 95 % interval."""

TAIL = 0.025
"""Of such an interval on either side."""


def bootstrap(
    values: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None
) -> Interval:
    """95 % interval of the mean over tasks. values: one for each task.

    It is the middle 95 % of the means of NUM_DRAWS sets of as many tasks, drawn with replacement
    (percentile bootstrap; Efron 1979). The draws are the same every time. weights: of each task in
    the mean, such as its number of test outputs; without them all count the same.
    """
    rng = np.random.default_rng(0)
    if weights is None:
        means = rng.choice(values, (NUM_DRAWS, len(values))).mean(axis=1)
    else:
        drawn = rng.choice(len(values), (NUM_DRAWS, len(values)))
        shares = np.asarray(weights, float)[drawn]
        means = (np.asarray(values, float)[drawn] * shares).sum(axis=1) / shares.sum(axis=1)

    low, high = np.quantile(means, [TAIL, 1 - TAIL])
    return float(low), float(high)


def share_interval(
    values: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None
) -> Interval:
    """The same for values that are shares, 0 to 1.

    Where all are 0 or all are 1 no draw can differ, and the bootstrap would say that the mean is
    known; Wilson's interval for that many tasks is given instead.
    """
    if min(values) == max(values) and min(values) in (0.0, 1.0):
        return wilson(round(float(sum(values))), len(values))
    return bootstrap(values, weights)


def wilson(num_hits: int, num: int) -> Interval:
    """95 % interval of a share of which num_hits of num were seen (Wilson 1927)."""
    z = 1.959964
    share = num_hits / num
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Difference:
    """How one value a task differs between two experiments, over the tasks that both have."""

    mean: float  # of the differences, task by task
    interval: Interval  # bootstrap over tasks
    num_more: int  # tasks with a higher value than in the base
    num_less: int  # tasks with a lower one
    p_value: float  # of the sign test
    num_tasks: int


def paired_difference(values: Sequence[float], base: Sequence[float]) -> Difference:
    """Task by task. values and base: one for each task, in the same order; at least one."""
    differences = np.asarray(values, float) - np.asarray(base, float)
    num_more = int((differences > 0).sum())
    num_less = int((differences < 0).sum())
    return Difference(
        mean=float(differences.mean()),
        interval=bootstrap(differences),
        num_more=num_more,
        num_less=num_less,
        p_value=sign_test(num_more, num_less),
        num_tasks=len(differences),
    )


def sign_test(num_more: int, num_less: int) -> float:
    """Two-sided p-value of the exact binomial sign test.

    The chance that fair coins, one for each task that differs, fall at least as unevenly. Tasks
    without a difference do not count (Conover, Practical Nonparametric Statistics, section 3.4).
    """
    num = num_more + num_less
    tail = sum(math.comb(num, k) for k in range(min(num_more, num_less) + 1))
    return min(1.0, float(2 * tail / 2**num))


def pass_at(k: int, num: int, num_right: int) -> float:
    """Chance that at least one of k predictions is right, from `num` of which so many were right.

    The share of the sets of k among the `num` predictions that hold a right one: unbiased for
    1 - (1 - p)^k, while 1 - (1 - num_right/num)^k is too low (Chen et al. 2021, "Evaluating Large
    Language Models Trained on Code", section 2.1). Needs 1 <= k <= num.

    >>> pass_at(1, 4, 1), pass_at(2, 4, 1), pass_at(4, 4, 1)
    (0.25, 0.5, 1.0)
    """
    if not 1 <= k <= num:
        raise ValueError(f"k = {k} of {num} predictions")
    num_wrong = num - num_right
    if num_wrong < k:
        return 1.0
    # C(wrong, k) / C(num, k), factor by factor: the binomials themselves may be huge.
    places = np.arange(num_wrong + 1, num + 1)
    return float(1.0 - np.prod(1.0 - k / places))


def predictions_needed(num: int, num_right: int) -> float:
    """Predictions until the first right one, where one gives up after num + 1: (num+1)/(right+1).

    This is unbiased: the mean of (n+1)/(X+1) over a binomial X is (1 - (1-p)^(n+1)) / p (Chao and
    Strawderman 1972, "Negative moments of positive random variables", JASA 67), and that is the
    mean of min(first right prediction, n + 1). Without giving up, the mean is 1/p, for which no
    unbiased estimate from n predictions exists: means over n predictions are polynomials in p.
    num / num_right has no value for tasks that were never solved, and without these a mean over
    tasks is far too low.

    A task that was never solved gives num + 1, which is all that can be said: more than num.
    """
    return (num + 1) / (num_right + 1)


def chance_interval(num: int, num_right: int) -> Interval:
    """95 % interval of the chance that a prediction is right (Clopper and Pearson 1934, exact).

    With none right of n, its upper end is what n failures leave open, not 0.
    """
    from scipy.stats import beta

    low = beta.ppf(TAIL, num_right, num - num_right + 1) if num_right else 0.0
    high = beta.ppf(1 - TAIL, num_right + 1, num - num_right) if num_right < num else 1.0
    return float(low), float(high)
