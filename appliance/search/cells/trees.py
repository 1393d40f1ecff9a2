"""Extremely randomised trees for small tables of whole numbers, in numpy.

All trees of a batch grow together, one level at a time: a level costs some thirty array operations,
however many nodes it has. A candidate split comes from two rows of the node that differ in class: a
random threshold between their values of a random feature. So no column is sorted or searched for
its range, and every split parts at least one pair that should be parted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TRIED = 0.5  # share of the features that a node tries, many of them constant there, so in vain
_LEAST_TRIED = 16
_BATCH_ROWS = 8192  # rows of all trees of a batch, so that a level's tables stay in the cache
_MOST_LEVELS = 40
_MOST_WEIGHED = (
    32  # rows of one class of a node that weigh its candidates; all of them did no better
)

Whole = NDArray[np.int64]
Features = NDArray[np.int16]  # (rows, features)


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees of one batch, in arrays over their nodes; the first nodes are the roots."""

    num_trees: int
    feature: NDArray[np.int64]
    threshold: NDArray[np.int16]  # a row goes left where its value is at most this
    left: NDArray[np.int64]  # the right child follows it; a leaf is its own left child
    chance: NDArray[np.float32]  # (nodes, classes) share of each class among the node's rows
    depth: int

    def chances(self, features: Features) -> NDArray[np.float32]:
        """Sum over the trees of each row's class chances: (rows, classes)."""
        num_rows, width = features.shape
        flat = features.ravel()
        start = np.tile(np.arange(num_rows) * width, self.num_trees)
        at = np.repeat(np.arange(self.num_trees), num_rows)
        for _ in range(self.depth):
            at = self.left[at] + (flat[start + self.feature[at]] > self.threshold[at])

        total: NDArray[np.float32] = self.chance[at].reshape(self.num_trees, num_rows, -1).sum(0)
        return total


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees that were grown on one table."""

    classes: NDArray[np.int64]
    batches: tuple[Trees, ...]

    def predict(self, features: Features) -> NDArray[np.int64]:
        """The likeliest class of each row, the smaller one of equals."""
        likeliest: NDArray[np.int64] = self.classes[self.chances(features).argmax(1)]
        return likeliest

    def chances(self, features: Features) -> NDArray[np.float32]:
        """Sum over all trees of each row's class chances: (rows, classes)."""
        by_batch = [batch.chances(features) for batch in self.batches]
        return np.asarray(np.sum(by_batch, axis=0))


def grow_forest(
    features: Features,
    answers: NDArray[np.int64],
    *,
    num_trees: int,
    rng: np.random.Generator,
    is_out_of_time: Callable[[], bool] = lambda: False,
) -> Forest | None:
    """Trees that tell each row's answer from its features; None where time ran out before the last.

    features: (rows, features), at least one of each; answers: (rows,) whole numbers.
    """
    classes, labels = np.unique(answers, return_inverse=True)
    # The rows of a node stay sorted by class, which makes its classes slices.
    order = np.argsort(labels, kind="stable")
    features, labels = np.ascontiguousarray(features[order]), labels[order]

    batch_size = max(1, _BATCH_ROWS // len(labels))
    batches = []
    for first in range(0, num_trees, batch_size):
        if is_out_of_time():
            return None
        wanted = min(batch_size, num_trees - first)
        batches.append(_grow_batch(features, labels, len(classes), wanted, rng))

    return Forest(classes, tuple(batches))


def _grow_batch(
    features: Features,
    labels: Whole,
    num_classes: int,
    num_trees: int,
    rng: np.random.Generator,
) -> Trees:
    rows = np.tile(np.arange(len(labels)), num_trees)
    node_of = np.repeat(np.arange(num_trees), len(labels))  # of each row, counted in its level
    num_nodes, first = num_trees, 0  # of this level; first: its first node's number in the tree
    levels: list[tuple[Whole, NDArray[np.int16], Whole, NDArray[np.float32]]] = []

    while True:
        at_class = node_of * num_classes + labels[rows]
        counts = np.bincount(at_class, minlength=num_nodes * num_classes)
        counts = counts.reshape(num_nodes, num_classes)
        chance = (counts / counts.sum(1, keepdims=True)).astype(np.float32)
        feature = np.zeros(num_nodes, np.int64)
        threshold = np.full(num_nodes, np.iinfo(np.int16).max, np.int16)
        left = first + np.arange(num_nodes)
        levels.append((feature, threshold, left, chance))

        # Nodes of one class are leaves.
        is_mixed = (counts > 0).sum(1) > 1
        if not is_mixed.any() or len(levels) > _MOST_LEVELS:
            break
        rows, node_of = _of_nodes(is_mixed, rows, node_of)
        level = _Level(features, rows, counts[is_mixed])
        tried, at, purity = _candidates(level, rng)

        # So are those in which no candidate split the rows.
        best = purity.argmax(1)[:, None]
        is_split = np.take_along_axis(purity, best, 1)[:, 0] >= 0
        if not is_split.any():
            break
        parents = np.flatnonzero(is_mixed)[is_split]
        feature[parents] = np.take_along_axis(tried, best, 1)[is_split, 0]
        threshold[parents] = np.take_along_axis(at, best, 1)[is_split, 0]
        left[parents] = first + num_nodes + 2 * np.arange(len(parents))

        # Rows go to the children; a stable sort keeps them sorted by class within each.
        rows, node_of = _of_nodes(is_split, rows, node_of)
        parent = parents[node_of]
        child = 2 * node_of + (features[rows, feature[parent]] > threshold[parent])
        order = np.argsort(child, kind="stable")
        rows, node_of = rows[order], child[order]
        first, num_nodes = first + num_nodes, 2 * len(parents)

    feature, threshold, left, chance = map(np.concatenate, zip(*levels, strict=True))
    return Trees(num_trees, feature, threshold, left, chance, len(levels) - 1)


def _of_nodes(is_kept: NDArray[np.bool_], rows: Whole, node_of: Whole) -> tuple[Whole, Whole]:
    """The rows of some nodes, and their nodes counted anew."""
    stays = is_kept[node_of]
    return rows[stays], (np.cumsum(is_kept) - 1)[node_of[stays]]


class _Level:
    """The nodes of a level with the rows of each, sorted by node, then by class."""

    def __init__(self, features: Features, rows: Whole, counts: Whole) -> None:
        self.width = features.shape[1]
        self.values = features.ravel()
        self.starts = rows * self.width  # where each row begins in the values
        self.counts = counts  # (nodes, classes)
        self.sizes = counts.sum(1)
        self.node_starts = np.cumsum(self.sizes) - self.sizes  # each node's first row
        self.class_ends = np.cumsum(counts, axis=1)  # counted from the node's first row


def _candidates(
    level: _Level, rng: np.random.Generator
) -> tuple[Whole, NDArray[np.int16], NDArray[np.float64]]:
    """For each node (nodes, candidates): features, thresholds, purity; -1 for one that fails."""
    shape = len(level.counts), max(_LEAST_TRIED, int(level.width * _TRIED))
    tried = rng.integers(level.width, size=shape)

    # Any row, and one beside the rows of its class.
    sizes = level.sizes[:, None]
    one = (rng.random(shape) * sizes).astype(np.int64)
    class_of = (one[:, :, None] >= level.class_ends[:, None, :]).sum(2)
    in_class = np.take_along_axis(level.counts, class_of, 1)
    other = (rng.random(shape) * (sizes - in_class)).astype(np.int64)
    other += in_class * (other >= np.take_along_axis(level.class_ends, class_of, 1) - in_class)

    # A threshold from the smaller of their values to just below the larger one.
    row = level.node_starts[:, None]
    first = level.values[level.starts[row + one] + tried].astype(np.int64)
    second = level.values[level.starts[row + other] + tried].astype(np.int64)
    low, gap = np.minimum(first, second), np.abs(first - second)
    threshold = (low + (rng.random(shape) * gap).astype(np.int64)).astype(np.int16)

    purity = _purity(level, tried, threshold, rng)
    purity[gap == 0] = -1
    return tried, threshold, purity


def _purity(
    level: _Level, tried: Whole, threshold: NDArray[np.int16], rng: np.random.Generator
) -> NDArray[np.float64]:
    """How pure in class the two children would be: each child's sum of squared counts by its size.

    Both are estimated from at most _MOST_WEIGHED rows of each class, spread over the class evenly.
    """
    node, klass = np.nonzero(level.counts)
    count = level.counts[node, klass]
    num_weighed = np.minimum(count, _MOST_WEIGHED)
    weight = count / num_weighed

    # One row of `goes_left` for each weighed row, those of a node's class next to each other.
    slices = np.cumsum(num_weighed) - num_weighed
    of_slice = np.repeat(np.arange(len(count)), num_weighed)
    nth = np.arange(len(of_slice)) - slices[of_slice] + rng.random(len(count))[of_slice]
    class_start = level.node_starts[node] + level.class_ends[node, klass] - count
    row = class_start[of_slice] + (nth * weight[of_slice]).astype(np.int64)
    of_node = node[of_slice]
    goes_left = level.values[level.starts[row][:, None] + tried[of_node]] <= threshold[of_node]

    num_left = np.add.reduceat(goes_left.view(np.uint8), slices, axis=0, dtype=np.int16)
    in_left = num_left * weight[:, None]
    in_right = count[:, None] - in_left

    first_class = np.searchsorted(node, np.arange(len(level.counts)))
    purity = np.zeros(tried.shape)
    for part in (in_left, in_right):
        size = np.add.reduceat(part, first_class, axis=0)
        purity += np.add.reduceat(part**2, first_class, axis=0) / np.maximum(size, 1e-9)

    return purity
