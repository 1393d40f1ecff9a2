"""The datasets of a recipe, opened in whichever process makes passes of them. Pure numpy."""

from __future__ import annotations

from pathlib import Path

from appliance.learn.data.corpus import open_source
from appliance.learn.data.documents import DocumentSampler, Writer
from appliance.learn.data.styles import TinyWriter
from appliance.learn.fast.batches import Sampler
from appliance.learn.recipe import Recipe
from appliance.models.vocabularies import VOCABULARIES


def open_samplers(
    recipe: Recipe, corpus_dir: Path | None, vocabulary: str, *, writer: Writer | None = None
) -> list[Sampler]:
    """Name, sampler and weight of every dataset, written in one of our own vocabularies.

    writer: None for that vocabulary's own.
    """
    writer = writer or TinyWriter(VOCABULARIES[vocabulary])
    return [
        (
            name,
            DocumentSampler(
                open_source(dataset.source or name, corpus_dir),
                writer,
                max_tokens=recipe.data.document_tokens,
                min_pairs=dataset.min_pairs,
                max_pairs=dataset.max_pairs,
                keep_colours=dataset.keep_colours,
                deform_share=dataset.deform,
            ),
            dataset.weight,
        )
        for name, dataset in recipe.data.datasets.items()
    ]
