"""Families that compare or combine parts of the grid cell by cell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.scene import Sampler, between, block, colours, noise, some

Bits = NDArray[np.bool_]

_TWO = "first, second = split_lines(grid, $line)\n"


def _side_by_side(parts: list[Cells], line: int) -> Cells:
    pieces = [parts[0]]
    for part in parts[1:]:
        pieces += [block(part.shape[0], 1, line), part]
    return np.hstack(pieces)


def _parts(cells: Cells, num: int = 2) -> list[Cells]:
    width = (cells.shape[1] + 1) // num
    return [cells[:, i * width : (i + 1) * width - 1] for i in range(num)]


def _noise_parts(num: int, *, num_colours: int = 1, density: float = 0.5) -> Sampler:
    """Parts of one size, each noise in its own colours, divided by lines of the colour `line`."""

    def sample(rng: Rng, params: Params) -> Cells:
        palette = colours(rng, 9, without=[params["line"], params.get("colour", 0)])
        height, width = between(rng, 3, 6), between(rng, 3, 6)
        own = [palette[i * num_colours : (i + 1) * num_colours] for i in range(num)]

        return _side_by_side(
            [noise(rng, height, width, c, density=density) for c in own], params["line"]
        )

    return sample


def _nearly_equal(rng: Rng, params: Params) -> Cells:
    """A part and a copy with a few cells changed; where the task asks "equal?", half stay equal."""
    palette = colours(rng, 3, without=[params["line"], params.get("colour", 0)])
    part = noise(rng, between(rng, 3, 6), between(rng, 3, 6), palette, density=0.7)
    other = part.copy()

    if "yes" not in params or rng.random() < 0.5:
        changed = rng.permutation(part.size)[: between(rng, 1, 5)]
        other.ravel()[changed] = rng.choice([0, *palette], size=len(changed))

    return _side_by_side([part, other], params["line"])


def _logic(name: str, function: str, combine: Callable[[Bits, Bits], Bits]) -> Family:
    """The family that colours the cells for which `combine` of the two parts is true."""

    def rule(cells: Cells, params: Params) -> Cells:
        first, second = (part != 0 for part in _parts(cells))
        return np.where(combine(first, second), params["colour"], 0)

    program = _TWO + f"return {function}(first, second, $colour)"
    return Family(name, "logic", some(line=1, colour=1), _noise_parts(2), program, rule)


def _overlaid(parts: list[Cells]) -> Cells:
    out = parts[0]
    for part in parts[1:]:
        out = np.where(part, part, out)
    return out


def _in_most(cells: Cells, params: Params) -> Cells:
    num_filled = np.sum([part != 0 for part in _parts(cells, 3)], axis=0)
    return np.where(num_filled >= 2, params["colour"], 0)


def _picture_by_mask(cells: Cells, params: Params) -> Cells:
    mask, picture = _parts(cells)
    return np.where(mask, picture, 0)


def _differing(cells: Cells, params: Params) -> Cells:
    first, second = _parts(cells)
    return np.where(first != second, params["colour"], 0)


def _verdict(cells: Cells, params: Params) -> Cells:
    first, second = _parts(cells)
    return block(1, 1, params["yes"] if np.array_equal(first, second) else params["no"])


FAMILIES = (
    _logic("logic_and", "both", lambda a, b: a & b),
    _logic("logic_or", "either", lambda a, b: a | b),
    _logic("logic_xor", "only_one", lambda a, b: a ^ b),
    _logic("logic_minus", "only_first", lambda a, b: a & ~b),
    _logic("logic_nor", "neither", lambda a, b: ~(a | b)),
    Family("overlay_two", "logic", some(line=1), _noise_parts(2),
           _TWO + "return overlay(first, second)",
           lambda g, p: _overlaid(_parts(g))),
    Family("overlay_below", "logic", some(line=1), _noise_parts(2),
           _TWO + "return overlay(second, first)",
           lambda g, p: _overlaid(_parts(g)[::-1])),
    Family("overlay_three", "logic", some(line=1), _noise_parts(3),
           "first, second, third = split_lines(grid, $line)\n"
           "return overlay(overlay(first, second), third)",
           lambda g, p: _overlaid(_parts(g, 3))),
    Family("in_most_parts", "logic", some(line=1, colour=1), _noise_parts(3),
           "a, b, c = split_lines(grid, $line)\n"
           "some = either(both(a, b, $colour), both(b, c, $colour), $colour)\n"
           "return either(some, both(a, c, $colour), $colour)", _in_most),
    Family("picture_by_mask", "logic", some(line=1), _noise_parts(2, num_colours=3, density=0.7),
           _TWO + "return paint_mask(second, mask_of(first, 0), 0)", _picture_by_mask),
    Family("show_differences", "logic", some(line=1, colour=1), _nearly_equal,
           _TWO + "return difference(first, second, $colour)", _differing),
    Family("are_equal", "logic", some(line=1, yes=1, no=1), _nearly_equal,
           _TWO + "return canvas(1, 1, $yes if (first == second).all() else $no)", _verdict),
)  # fmt: skip
