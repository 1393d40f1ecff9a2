"""The library that BARC's programs call: what its functions give, by hand-made pictures."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.program import common
from appliance.program.common import *  # noqa: F403

RING = np.array(
    [[0, 0, 0, 0, 0], [0, 3, 3, 3, 0], [0, 3, 0, 3, 0], [0, 3, 3, 3, 0], [0, 0, 0, 0, 2]]
)

# Every name of the original that its prompts give to the model.
PUBLIC = [
    "Color",
    "flood_fill",
    "draw_line",
    "find_connected_components",
    "blit_object",
    "blit_sprite",
    "bounding_box",
    "object_position",
    "crop",
    "translate",
    "collision",
    "contact",
    "object_interior",
    "object_boundary",
    "object_neighbors",
    "Symmetry",
    "orbit",
    "detect_translational_symmetry",
    "detect_mirror_symmetry",
    "detect_rotational_symmetry",
    "is_contiguous",
    "random_sprite",
    "random_free_location_for_sprite",
    "detect_objects",
    "blit",
]


def test_every_public_name_is_there() -> None:
    assert [name for name in PUBLIC if name not in common.__all__] == []
    assert all(hasattr(common, name) for name in common.__all__)


def test_colours() -> None:
    assert (common.Color.GREY, common.Color.TEAL, common.Color.PURPLE, common.Color.BROWN) == (
        5,
        8,
        8,
        9,
    )
    assert len(common.Color.NOT_BLACK) == 9


def test_flood_fill_works_in_place_and_stays_inside() -> None:
    grid = RING.copy()
    common.flood_fill(grid, 2, 2, 4)
    assert grid[2, 2] == 4 and np.sum(grid == 4) == 1
    common.flood_fill(grid, 0, 0, 5, connectivity=8)
    assert np.sum(grid == 5) == 15
    common.flood_fill(grid, 0, 0, 5)


def test_lines() -> None:
    grid = np.zeros((4, 4), int)
    common.draw_line(grid, 0, 0, end_x=3, end_y=3, color=1)
    assert np.array_equal(grid, np.eye(4, dtype=int))
    common.draw_line(grid, 3, 0, direction=(0, 1), color=2, stop_at_color=[1])
    assert grid[3].tolist() == [2, 2, 2, 1]
    common.draw_line(grid, 0, 3, length=2, direction=(5, 0), color=6)
    assert grid[:, 3].tolist() == [6, 6, 0, 1]


def test_objects_and_their_boxes() -> None:
    found = common.find_connected_components(RING, connectivity=8)
    assert [(int(o.max()), common.bounding_box(o)) for o in found] == [
        (2, (4, 4, 1, 1)),
        (3, (1, 1, 3, 3)),
    ]
    assert len(common.find_connected_components(RING, connectivity=8, monochromatic=False)) == 1
    assert len(common.find_connected_components(RING, connectivity=4, monochromatic=False)) == 2

    ring = found[1]
    assert common.object_position(ring) == (1, 1)
    assert common.object_position(ring, anchor="lower right") == (3, 3)
    assert common.object_position(ring, anchor="upper right") == (3, 1)
    assert common.object_position(common.crop(ring)[:2], anchor="center") == (0.5, 1)
    with pytest.raises(ValueError):
        common.object_position(ring, anchor="nowhere")
    assert common.crop(np.zeros((3, 3), int)).size == 0


def test_what_is_inside_and_beside() -> None:
    ring = common.find_connected_components(RING, connectivity=8)[1]
    assert common.object_interior(ring).sum() == 9
    assert common.object_boundary(ring).sum() == 8
    assert common.object_neighbors(ring).sum() == 13
    assert common.object_neighbors(ring, connectivity=8).sum() == 17
    assert not common.is_contiguous(RING) and common.is_contiguous(ring)


def test_moving_and_meeting() -> None:
    ring, dot = common.crop(RING[:4, :4]), np.array([[2]])
    assert not common.collision(object1=ring, object2=dot, x2=1, y2=1)
    assert common.collision(object1=ring, object2=dot, x2=2, y2=1)
    assert common.contact(object1=ring, object2=dot, x2=3, y2=1)
    assert not common.contact(object1=ring, object2=dot, x2=3, y2=3)
    assert common.contact(object1=ring, object2=dot, x2=3, y2=3, connectivity=8)

    moved = common.translate(RING, 1, 1)
    assert moved[2, 2] == 3 and moved[0].sum() == 0 and np.sum(moved == 2) == 0


def test_symmetries_are_found_through_holes() -> None:
    tiling = np.tile([[1, 2], [3, 4]], (3, 3))
    holed = tiling.copy()
    holed[2:4, 2:4] = 0
    found = common.detect_translational_symmetry(holed)
    assert [s.apply(0, 0) for s in found] == [(2, 0), (0, 2)]
    assert (2, 2) in common.orbit(holed, 0, 0, found) and len(common.orbit(holed, 0, 0, found)) == 9

    mirrors = common.detect_mirror_symmetry(RING[:4, :5] * (RING[:4, :5] == 3))
    assert all(m.apply(*m.apply(1, 2)) == (1, 2) for m in mirrors) and mirrors

    turn = common.detect_rotational_symmetry(np.array([[1, 2, 1], [2, 3, 2], [1, 2, 1]]))
    assert turn is not None and turn.apply(0, 1) == (1, 2) and turn.apply(0, 1, -1) == (1, 0)
    assert common.detect_rotational_symmetry(np.array([[1, 2], [3, 4]])) is None


def test_objects_by_demand_do_not_overlap() -> None:
    grid = np.array([[1, 1, 0, 2], [1, 1, 0, 2]])
    assert len(common.detect_objects(grid, connectivity=4, colors=[2])) == 1
    squares = common.detect_objects(
        grid, allowed_dimensions=[(2, 2)], predicate=lambda s: bool(np.all(s))
    )
    assert [common.bounding_box(o) for o in squares] == [(0, 0, 2, 2)]


def test_sprites_and_their_places() -> None:
    sprite = common.random_sprite(3, [3], symmetry="horizontal")
    assert common.is_contiguous(sprite) and np.array_equal(sprite, sprite[::-1])

    x, y = common.random_free_location_for_sprite(
        np.pad(np.ones((2, 2), int), 4), sprite, padding=1
    )
    assert not common.contact(
        object1=np.pad(np.ones((2, 2), int), 4), object2=sprite, x2=x, y2=y, connectivity=8
    )
