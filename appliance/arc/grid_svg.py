"""Grids as small SVG pictures: one path per colour, so that a picture takes a few hundred bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# As the public ARC viewers show 0 to 9.
PALETTE = (
    "#000",
    "#0074d9",
    "#ff4136",
    "#2ecc40",
    "#ffdc00",
    "#aaa",
    "#f012be",
    "#ff851b",
    "#7fdbff",
    "#870c25",
)


def grid_group(grid: Any, x: float, y: float, cell_px: int) -> str:
    """An SVG group that shows the grid with its upper left corner at (x, y)."""
    cells = np.asarray(grid)
    height, width = cells.shape
    parts = [f'<g transform="translate({x:g} {y:g}) scale({cell_px})">']
    parts.append(f'<path fill="{PALETTE[0]}" d="M0 0h{width}v{height}H0z"/>')

    for colour in range(1, 10):
        path = "".join(
            _run(row, start, stop)
            for row in range(height)
            for start, stop in _runs(cells[row] == colour)
        )
        if path:
            parts.append(f'<path fill="{PALETTE[colour]}" d="{path}"/>')

    lines = "".join(f"M0 {r}h{width}" for r in range(height + 1)) + "".join(
        f"M{c} 0v{height}" for c in range(width + 1)
    )
    return "".join(parts) + f'<path stroke="#555" stroke-width=".06" d="{lines}"/></g>'


def arrow(x: float, y: float) -> str:
    """An arrow to the right, 16 px wide, centred at height y."""
    return f'<path stroke="#888" stroke-width="2" fill="none" d="M{x:g} {y:g}h14m-5-5l5 5l-5 5"/>'


def caption(x: float, y: float, text: str, *, size_px: int = 12) -> str:
    """Grey text whose baseline begins at (x, y)."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    font = f'font-family="sans-serif" font-size="{size_px}"'
    return f'<text x="{x:g}" y="{y:g}" {font} fill="#888">{escaped}</text>'


def row_of_grids(
    before: Sequence[Any], after: Sequence[Any], x: float, y: float, cell_px: int
) -> tuple[str, int, int]:
    """Grids, an arrow, grids, side by side and centred in height.

    Returns the SVG elements, and their width and height in pixels.
    """
    height = max(np.asarray(grid).shape[0] for grid in [*before, *after]) * cell_px
    parts: list[str] = []
    at = x

    for group in (before, after):
        if group is after and before and after:
            parts.append(arrow(at, y + height / 2))
            at += 22
        for grid in group:
            rows, cols = np.asarray(grid).shape
            parts.append(grid_group(grid, at, y + (height - rows * cell_px) / 2, cell_px))
            at += cols * cell_px + 8

    return "".join(parts), int(at - 8 - x), int(height)


def document(content: str, width: int, height: int) -> str:
    """A whole SVG file of that size in pixels."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{content}</svg>\n'


def _runs(wanted: Any) -> list[tuple[int, int]]:
    """First and one past the last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], wanted.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _run(row: int, start: int, stop: int) -> str:
    """The outline of cells start to stop of a row, as part of a path."""
    return f"M{start} {row}h{stop - start}v1h{start - stop}z"
