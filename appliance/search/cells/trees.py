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

_TRIED = 0.25  # share of the features that a node tries; a quarter did best on training tasks
_LEAST_TRIED = 16
_BATCH_ROWS = 8192  # rows of all trees of a batch, so that a level's tables stay in the cache
_MOST_LEVELS = 40
_MOST_WEIGHED = (
    32  # rows of one class of a node that weigh its candidates; all of them did no better
)

Rows = NDArray[np.int64]
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
    labels: NDArray[np.int64],
    num_classes: int,
    num_trees: int,
    rng: np.random.Generator,
) -> Trees:
    rows = np.tile(np.arange(len(labels)), num_trees)
    node_of = np.repeat(np.arange(num_trees), len(labels))  # of each row, counted in this level
    levels: list[tuple[NDArray[np.int64], NDArray[np.int16], NDArray[np.int64]]] = []
    chances: list[NDArray[np.float32]] = []
    num_nodes, first = num_trees, 0

    for level in range(_MOST_LEVELS):
        counts = np.bincount(
            node_of * num_classes + labels[rows], minlength=num_nodes * num_classes
        )
        counts = counts.reshape(num_nodes, num_classes)
        chances.append((counts / counts.sum(1, keepdims=True)).astype(np.float32))
        feature = np.zeros(num_nodes, np.int64)
        threshold = np.full(num_nodes, np.iinfo(np.int16).max, np.int16)
        left = np.arange(first, first + num_nodes)
        levels.append((feature, threshold, left))

        mixed = np.flatnonzero((counts > 0).sum(1) > 1)
        if not len(mixed) or level == _MOST_LEVELS - 1:
            break
        new_number = np.full(num_nodes, -1)
        new_number[mixed] = np.arange(len(mixed))
        stays = new_number[node_of] >= 0
        rows, node_of = rows[stays], new_number[node_of[stays]]

        best, at, is_split = _best_splits(features, rows, node_of, counts[mixed], rng)
        done = mixed[is_split]
        feature[done], threshold[done] = best[is_split], at[is_split]
        left[done] = first + num_nodes + 2 * np.arange(len(done))
        if not len(done):
            break

        # The children: numbers of the next level, their rows again sorted by node, then by class.
        child = np.cumsum(is_split) - 1
        stays = is_split[node_of]
        rows, node_of = rows[stays], node_of[stays]
        goes_right = features[rows, best[node_of]] > at[node_of]
        node_of = 2 * child[node_of] + goes_right
        order = np.argsort(node_of, kind="stable")
        rows, node_of = rows[order], node_of[order]
        first += num_nodes
        num_nodes = 2 * len(done)

    return Trees(
        num_trees,
        np.concatenate([feature for feature, _, _ in levels]),
        np.concatenate([threshold for _, threshold, _ in levels]),
        np.concatenate([left for _, _, left in levels]),
        np.concatenate(chances),
        len(levels) - 1,
    )


def _best_splits(
    features: Features,
    rows: Rows,
    node_of: Rows,
    counts: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int16], NDArray[np.bool_]]:
    """For each node the feature and the threshold of its best candidate, and whether it has one.

    rows: of all nodes, sorted by node, then by class; counts: (nodes, classes).
    """
    num_nodes, width = len(counts), features.shape[1]
    num_tried = max(_LEAST_TRIED, int(width * _TRIED))
    flat = features.ravel()
    start = rows * width
    tried = rng.integers(width, size=(num_nodes, num_tried))

    # Two rows of different classes for each candidate: any row, then one outside its class's slice.
    size = counts.sum(1)
    node_end = np.cumsum(size)
    node_start = node_end - size
    end = np.cumsum(counts, axis=1)  # of each class, counted from the node's start
    one = (rng.random((num_nodes, num_tried)) * size[:, None]).astype(np.int64)
    of_class = (one[:, :, None] >= end[:, None, :]).sum(2)
    in_class = np.take_along_axis(counts, of_class, 1)
    class_start = np.take_along_axis(end, of_class, 1) - in_class
    other = (rng.random((num_nodes, num_tried)) * (size[:, None] - in_class)).astype(np.int64)
    other += in_class * (other >= class_start)
    first = flat[start[node_start[:, None] + one] + tried].astype(np.int64)
    second = flat[start[node_start[:, None] + other] + tried].astype(np.int64)
    low, high = np.minimum(first, second), np.maximum(first, second)
    threshold = np.floor(low + rng.random(low.shape) * (high - low)).astype(np.int16)

    # The share of each class of a node that goes left, from at most _MOST_WEIGHED rows of it.
    node, klass = np.nonzero(counts)
    count = counts[node, klass]
    weighed = np.minimum(count, _MOST_WEIGHED)
    slices = np.cumsum(weighed) - weighed
    of_slice = np.repeat(np.arange(len(count)), weighed)
    step = (count / weighed)[of_slice]
    nth = np.arange(len(of_slice)) - slices[of_slice]
    place = ((nth + rng.random(len(count))[of_slice]) * step).astype(np.int64)
    place += (node_start[node] + end[node, klass] - count)[of_slice]
    goes_left = flat[start[place][:, None] + tried[node[of_slice]]] <= threshold[node[of_slice]]
    share_left = np.add.reduceat(goes_left.view(np.uint8), slices, axis=0, dtype=np.int16)
    num_left = share_left * (count / weighed).astype(np.float32)[:, None]
    num_right = count[:, None] - num_left

    of_node = np.searchsorted(node, np.arange(num_nodes))
    left_size = np.add.reduceat(num_left, of_node, axis=0)
    right_size = size[:, None] - left_size
    purity = np.add.reduceat(num_left**2, of_node, axis=0) / np.maximum(left_size, 1e-3)
    purity += np.add.reduceat(num_right**2, of_node, axis=0) / np.maximum(right_size, 1e-3)
    purity[low == high] = -1

    best = purity.argmax(1)
    at = np.arange(num_nodes)
    return tried[at, best], threshold[at, best], purity[at, best] >= 0
