"""The loss of a model in training on documents that it does not learn from.

The documents are drawn once and are the same in every run with these datasets, whatever its seed,
so the losses of several trainings can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.engine.training.packing import Rows, TokenSequence
from appliance.learn.data.documents import DocumentSampler, passes_of
from appliance.learn.processes import Processes
from appliance.seeds import generator

NAME = "validation_loss"
"""Of the figure; with several datasets also NAME.DATASET for each of them."""


@dataclass(frozen=True)
class Validation:
    """Documents to be read again and again while a model is trained."""

    parts: Sequence[tuple[str, Sequence[TokenSequence]]]  # by dataset, shortest first

    @classmethod
    def of(cls, samplers: Sequence[tuple[str, DocumentSampler]], num_documents: int) -> Validation:
        """So many documents of each dataset."""
        parts = []
        for name, sampler in samplers:
            rng = generator("validation", name)
            drawn = [sampler.document(rng) for _ in range(num_documents)]
            parts.append((name, sorted(drawn, key=len)))
        return cls(parts)

    def figures(
        self,
        loss: Callable[[Rows], float],
        *,
        pad_id: int,
        max_tokens: int,
        min_tokens: int,
        processes: Processes,
    ) -> dict[str, float]:
        """The loss in nats per answer token, over all documents and over those of each dataset.

        loss: the mean over the answer tokens of a pass. max_tokens, min_tokens: of a pass.
        """
        sums: dict[str, list[float]] = {}
        for name, documents in self.parts:
            nats, num_tokens = 0.0, 0
            mine = documents[processes.rank :: processes.world_size]
            for rows in passes_of(
                mine, pad_id=pad_id, max_tokens=max_tokens, min_tokens=min_tokens
            ):
                nats += loss(rows) * rows.num_targets()
                num_tokens += rows.num_targets()
            sums[name] = processes.sums(nats, num_tokens)

        all_nats, all_tokens = (sum(column) for column in zip(*sums.values(), strict=True))
        figures = {NAME: all_nats / all_tokens}
        if len(sums) > 1:
            figures |= {f"{NAME}.{name}": nats / num for name, (nats, num) in sums.items()}
        return figures
