"""Our own vocabularies by name, with what tokenizer, model card and writers of documents need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.arc.places import Templates
from appliance.models import placed, tiny


@dataclass(frozen=True)
class Vocabulary:
    """One token for each cell. Marks and digits have the same ids in all of them."""

    name: str  # also the prompt style that asks for a grid
    encoder: str  # grid encoder
    tokens: tuple[str, ...]  # an id is a place in it
    templates: Templates  # ids of black grids, for `arc.places.write_grid`
    program_ids: Callable[[str], NDArray[np.int32] | None]  # ids of a body; None: an unknown word


VOCABULARIES: Mapping[str, Vocabulary] = {
    v.name: v
    for v in (
        Vocabulary("grid-tokens-v1", "grid-tokens", tiny.TOKENS, tiny.TEMPLATES, tiny.program_ids),
        Vocabulary(
            "grid-tokens-v2", "grid-tokens-v2", placed.TOKENS, placed.TEMPLATES, placed.program_ids
        ),
    )
}
GRID_TOKENS_V1 = VOCABULARIES["grid-tokens-v1"]
GRID_TOKENS_V2 = VOCABULARIES["grid-tokens-v2"]
