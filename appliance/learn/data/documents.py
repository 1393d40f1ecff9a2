"""Training documents: pairs of one family of a corpus, seen under one random view, in one prompt
style.

The batch of a step is a function of (seed, step) alone. So a resumed run repeats nothing and skips
nothing, and the number of processes does not change the data: each takes its share of the
documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from appliance.arc.view import random_view
from appliance.engine.training.packing import Rows, TokenSequence, fill_rows, plan_rows
from appliance.errors import InputError
from appliance.learn.data.corpus import Corpus, RawPair
from appliance.learn.data.deform import deform
from appliance.seeds import generator

MAX_DRAWS = 200
"""Documents in a row that may be too long; more mean that data and sequence length do not match."""

MAX_LENGTH_RATIO = 1.15
"""Longest to shortest document of a pass, where there is a choice: the rest would be padding."""


class Writer(Protocol):
    """Turns pairs of one family into the tokens of one document."""

    @property
    def needs_program(self) -> bool:
        """Whether families without a program give no document in this style."""

    def as_answer(self, program: str, *, is_module: bool = False) -> str:
        """The program as a document holds it; "" where the document holds none.

        is_module: it is a whole module, not the body of `transform` in the DSL.
        """

    def write(
        self, pairs: Sequence[RawPair], program: str, *, max_tokens: int, rng: np.random.Generator
    ) -> TokenSequence | None:
        """The document, without as many of the last pairs as needed to fit; None when two do not
        fit.

        program: as `as_answer` gives it.
        """


class DocumentSampler:
    """Draws documents of at most `max_tokens` tokens with `min_pairs` to `max_pairs` pairs.

    Every family is equally likely. Half of the documents take only small pairs, which show a rule
    at the least cost in tokens; the other half take any pair that leaves room for `min_pairs`.
    A family that is one task is shown whole, in a new order each time.

    Where the document contains the family's program, its pairs are not seen under a view: a program
    names colours and directions, so a view would need another program.
    """

    def __init__(
        self,
        corpus: Corpus,
        write: Writer,
        *,
        max_tokens: int,
        min_pairs: int = 3,
        max_pairs: int = 8,
        keep_colours: bool = False,
        deform_share: float = 0.0,
    ) -> None:
        self._corpus = corpus
        self._writer = write
        self._max_tokens = max_tokens
        self._min_pairs = min_pairs
        self._max_pairs = max_pairs
        self._keep_colours = keep_colours
        self._deform_share = deform_share
        self._programs = [
            write.as_answer(program, is_module=family in corpus.modules) if program else ""
            for family, program in enumerate(corpus.programs)
        ]

        # Pairs lie smallest first, so the fitting ones of a family are its first ones.
        tokens = corpus.pair_tokens()
        limit = (max_tokens - 1) // min_pairs
        firsts, ends = corpus.first_pair[:-1], corpus.first_pair[1:]
        fitting = np.array(
            [np.count_nonzero(tokens[a:b] <= limit) for a, b in zip(firsts, ends, strict=True)]
        )

        # How many of the pairs of a whole task fit is found out when it is written.
        is_task = np.array([family in corpus.tasks for family in range(len(corpus.families))])
        fitting = np.where(is_task, ends - firsts, fitting)

        is_usable = fitting >= np.where(is_task, 2, min_pairs)
        if write.needs_program:
            is_usable &= np.array([bool(program) for program in self._programs])
        self._families = np.flatnonzero(is_usable)
        self._firsts = firsts
        self._fitting = fitting
        self._is_task = is_task

        if not self._families.size:
            raise InputError(
                f"no family has {min_pairs} pairs of at most {limit} tokens"
                + " and a program" * write.needs_program,
                expected="data that fit the sequence length",
                remedy="raise data.row_tokens, lower min_pairs, or pass other data",
            )

    def document(self, rng: np.random.Generator) -> TokenSequence:
        """The next document. Raises InputError when hundreds in a row do not fit the sequence
        length."""
        for _ in range(MAX_DRAWS):
            family = int(rng.choice(self._families))
            pairs = self._draw_pairs(family, rng)
            program = self._programs[family]

            if not program:
                if self._deform_share and rng.random() < self._deform_share:
                    pairs = deform(pairs, rng)
                view = random_view(rng, 0, keep_colours=self._keep_colours)
                pairs = [(view.apply(a), view.apply(b)) for a, b in pairs]

            written = self._writer.write(pairs, program, max_tokens=self._max_tokens, rng=rng)
            if written is not None:
                return written

        raise InputError(
            f"{MAX_DRAWS} documents in a row are longer than {self._max_tokens} tokens "
            "with only two pairs",
            expected="documents that fit",
            remedy="raise data.row_tokens, or choose a grid encoder that takes fewer tokens",
        )

    def _draw_pairs(self, family: int, rng: np.random.Generator) -> list[RawPair]:
        first, count = int(self._firsts[family]), int(self._fitting[family])
        if self._is_task[family]:
            return [self._corpus.pair(first + int(i)) for i in rng.permutation(count)]

        if rng.random() < 0.5:  # only from the smallest pairs
            count = max(self._min_pairs, int(count * rng.uniform(0.05, 0.5)))

        wanted = min(int(rng.integers(self._min_pairs, self._max_pairs + 1)), count)
        chosen = first + rng.choice(count, size=wanted, replace=False)
        return [self._corpus.pair(int(i)) for i in chosen]


class Mixture:
    """Several named samplers with weights; each step draws all its documents from one of them.

    So a weight is a share of the steps, however long documents are and however few of their tokens
    are answers.
    """

    def __init__(self, samplers: Sequence[tuple[str, DocumentSampler, float]]) -> None:
        self._samplers = [(name, sampler) for name, sampler, _ in samplers]
        weights = np.array([weight for _, _, weight in samplers])
        self._shares = weights / weights.sum()

    def pick(self, rng: np.random.Generator) -> tuple[str, DocumentSampler]:
        return self._samplers[int(rng.choice(len(self._samplers), p=self._shares))]


def batch_of(
    mixture: Mixture, *, seed: int, step: int, row_tokens: int, num_rows: int
) -> tuple[str, list[TokenSequence]]:
    """The dataset that this step is trained on and its documents, as many as fill the rows.

    Shortest first. A function of the arguments alone.
    """
    rng = generator(seed, "documents", step)
    name, sampler = mixture.pick(rng)
    documents: list[TokenSequence] = []

    def lengths() -> Iterator[int]:
        while True:
            documents.append(sampler.document(rng))
            yield len(documents[-1])

    plan = plan_rows(lengths(), row_tokens=row_tokens, num_rows=num_rows)
    chosen = sorted(i for row in plan for i in row)
    return name, sorted((documents[i] for i in chosen), key=len)


def passes_of(
    documents: Sequence[TokenSequence], *, pad_id: int, max_tokens: int, min_tokens: int
) -> Iterator[Rows]:
    """Documents, given shortest first, in passes of like length, one document a row.

    Padding at the end of a row needs no attention mask under a causal model, and no row holds two
    documents: on a CPU this is 1.2 to 1.45 times as fast as documents packed end to end in rows of
    512.

    A pass ends where the next document is too long for it, once it holds min_tokens; or where it
    would hold more than max_tokens, padding included.
    """

    def one_a_row(batch: Sequence[TokenSequence]) -> Rows:
        return fill_rows(
            batch, [[i] for i in range(len(batch))], row_tokens=len(batch[-1]), pad_id=pad_id
        )

    batch: list[TokenSequence] = []
    for document in documents:
        if batch:
            size = len(batch) * len(document)  # tokens of the pass if its rows get that long
            is_unlike = len(document) > MAX_LENGTH_RATIO * len(batch[0])
            if (is_unlike and size >= min_tokens) or size + len(document) > max_tokens:
                yield one_a_row(batch)
                batch = []
        batch.append(document)

    if batch:
        yield one_a_row(batch)
