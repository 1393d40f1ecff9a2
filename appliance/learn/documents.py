"""Training documents drawn from a corpus: pairs of one family, as one random view shows them.

The batch of a step is a function of (seed, step) alone, so a resumed run replays nothing and skips nothing, and the number
of processes does not change the data: each takes its share of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.arc.view import View, random_view
from appliance.engine.packing import Rows, TokenSequence, fill_rows, plan_rows
from appliance.learn.corpus import Corpus
from appliance.models import tiny
from appliance.seeds import generator


class DocumentSampler:
    """Draws documents of at most `max_tokens` tokens with `min_pairs` to `max_pairs` pairs.

    Every family is as likely as any other. Half of the documents take only small pairs, where a rule shows itself at the
    least cost in tokens; the other half take any pair that leaves room for the smallest number of pairs. Where a family
    knows its program, the pairs are as they are (a view would need another program) and the program ends the document;
    then only every third document is also trained on its output grids, which outnumber a program's words.
    """

    def __init__(self, corpus: Corpus, *, max_tokens: int, min_pairs: int = 3, max_pairs: int = 8) -> None:
        self._corpus = corpus
        self._max_tokens = max_tokens
        self._min_pairs = min_pairs
        self._max_pairs = max_pairs
        self._tokens = corpus.pair_tokens()
        self._programs = [_program_part(body) for body in corpus.programs]
        limit = (max_tokens - 1) // min_pairs
        firsts, ends = corpus.first_pair[:-1], corpus.first_pair[1:]
        fitting = np.array([np.count_nonzero(self._tokens[a:b] <= limit) for a, b in zip(firsts, ends, strict=True)])
        self._families = np.flatnonzero(fitting >= min_pairs)
        self._firsts = firsts
        self._fitting = fitting
        if not self._families.size:
            raise ValueError(f"no family has {min_pairs} pairs of at most {limit} tokens")

    def document(self, rng: np.random.Generator) -> TokenSequence:
        family = int(rng.choice(self._families))
        first, count = int(self._firsts[family]), int(self._fitting[family])
        if rng.random() < 0.5:  # pairs lie shortest first
            count = max(self._min_pairs, int(count * rng.uniform(0.05, 0.5)))
        wanted = min(int(rng.integers(self._min_pairs, self._max_pairs + 1)), count)
        chosen = first + rng.choice(count, size=wanted, replace=False)
        program = self._programs[family]
        room = self._max_tokens - 1 - (0 if program is None else len(program))
        view = random_view(rng, 0) if program is None else View()
        with_grids = program is None or rng.random() < 1 / 3
        pieces: list[NDArray[np.int32]] = [np.array([tiny.BOS], dtype=np.int32)]
        targets: list[NDArray[np.bool_]] = [np.zeros(1, dtype=np.bool_)]
        for taken, index in enumerate(chosen):
            room -= int(self._tokens[index])
            if room < 0:
                break
            ids, is_target = pair_sequence(*self._corpus.pair(int(index)), view=view)
            pieces.append(ids)
            targets.append(is_target if taken and with_grids else np.zeros_like(is_target))
        if program is not None:
            pieces.append(program.ids)
            targets.append(program.is_target)
        return TokenSequence(np.concatenate(pieces), np.concatenate(targets))


def _program_part(body: str) -> TokenSequence | None:
    """The mark, the program (the answer) and the end mark; None without a program, or with words that have no token."""
    words = tiny.program_ids(body) if body else None
    if words is None:
        return None
    ids = np.concatenate([[tiny.PROGRAM], words, [tiny.EOS]]).astype(np.int32)
    return TokenSequence(ids, np.arange(ids.size) > 0)


def pair_sequence(
    grid_in: NDArray[np.int8], grid_out: NDArray[np.int8], *, view: View
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Ids of one pair under a view, and which of them are the answer (its grid and the end mark)."""
    a = tiny.grid_ids(view.apply(grid_in))
    b = tiny.grid_ids(view.apply(grid_out))
    ids = np.concatenate([[tiny.INPUT], a, [tiny.OUTPUT], b, [tiny.EOS]]).astype(np.int32)
    is_target = np.zeros(ids.shape, dtype=np.bool_)
    is_target[a.size + 2 :] = True
    return ids, is_target


class Mixture:
    """Several samplers with their weights; each step draws its documents from one of them."""

    def __init__(self, samplers: Sequence[tuple[DocumentSampler, float]]) -> None:
        self._samplers = [sampler for sampler, _ in samplers]
        weights = np.array([weight for _, weight in samplers])
        self._shares = weights / weights.sum()

    def pick(self, rng: np.random.Generator) -> DocumentSampler:
        return self._samplers[int(rng.choice(len(self._samplers), p=self._shares))]


def batch_rows(
    mixture: Mixture,
    *,
    seed: int,
    step: int,
    row_tokens: int,
    num_rows: int,
    rank: int = 0,
    world_size: int = 1,
) -> Rows:
    """The rows of this step that belong to process `rank` of `world_size`: a function of its arguments alone."""
    rng = generator(seed, "documents", step)
    sampler = mixture.pick(rng)
    documents: list[TokenSequence] = []

    def lengths() -> object:
        while True:
            documents.append(sampler.document(rng))
            yield len(documents[-1])

    plan = plan_rows(lengths(), row_tokens=row_tokens, num_rows=num_rows)  # type: ignore[arg-type]
    return fill_rows(documents, plan[rank::world_size], row_tokens=row_tokens, pad_id=tiny.PAD)
