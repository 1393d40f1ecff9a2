"""Passes of one fixed number of tokens, made by processes of their own.

A GPU wants the same shape again and again, and a process that launches its kernels must not build
documents beside. So workers make *chunks*: each draws documents, puts them into rows of like length
(a row holds one document and its padding), and collects full passes of N tokens. A chunk is a
function of (seed, number of the chunk) alone, so a resumed run repeats nothing and skips nothing,
and the number of processes changes nothing. Pure numpy.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, islice
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from appliance.engine.training.packing import TokenSequence
from appliance.errors import UsageError
from appliance.learn.data.documents import DocumentSampler
from appliance.seeds import generator

ROW_STEP = 64
"""Row lengths are multiples of it, because attention works in blocks of as many tokens."""

SHORTEST_ROW, LONGEST_ROW = 256, 6144
"""Tokens of a row."""

CHUNK_PASSES = 96
"""Passes of a chunk. Documents that fill no pass at its end are dropped; with more passes, fewer.

So documents of a length that is rare in the data may never be learnt from."""


@dataclass(frozen=True)
class HostPass:
    """N tokens in memory, as N / row_tokens rows."""

    ids: NDArray[np.int16]  # (N,)
    is_target: NDArray[np.bool_]  # (N,)
    row_tokens: int
    num_targets: int
    num_tokens: int  # without padding


Sampler = tuple[str, DocumentSampler, float]
"""Name, sampler, and the share of the tokens that come from it, relative to the others."""


def row_lengths(pass_tokens: int, max_tokens: int) -> tuple[int, ...]:
    """Those that divide a pass, up to the first that holds any document.

    The more of them, the less padding: with the data of arc-mini an eighth of a pass of 61,440
    tokens, and a twelfth of one of 215,040 (2^11 x 105), which 26 lengths divide.

    Raises UsageError when a pass cannot hold the longest document in such rows.
    """
    every = range(SHORTEST_ROW, LONGEST_ROW + 1, ROW_STEP)
    fitting = [n for n in every if pass_tokens % n == 0]
    longest = next((n for n in fitting if n >= max_tokens), None)
    if longest is None:
        raise UsageError(
            f"passes of {pass_tokens} tokens for documents of up to {max_tokens}",
            expected=f"documents of at most {LONGEST_ROW} tokens, and passes that a multiple of "
            f"{ROW_STEP} as long as them divides",
            remedy="set data.row_tokens to a multiple of 61440, or lower data.max_seq_tokens",
        )
    return tuple(n for n in fitting if n <= longest)


def make_chunk(
    samplers: Sequence[Sampler],
    *,
    seed: int,
    index: int,
    pass_tokens: int,
    max_tokens: int,
    pad_id: int,
    num_passes: int = CHUNK_PASSES,
) -> list[HostPass]:
    """The passes of one chunk, in an order that mixes their row lengths.

    A function of the arguments alone.
    """
    rng = generator(seed, "chunk", index)
    lengths = np.array(row_lengths(pass_tokens, max_tokens))
    waiting: list[list[TokenSequence]] = [[] for _ in lengths]
    passes: list[HostPass] = []
    drawn = np.zeros(len(samplers))  # tokens of each dataset so far, by its share
    shares = np.array([share for _, _, share in samplers])

    while len(passes) < num_passes:
        dataset = int((drawn / shares).argmin())  # the one that is furthest behind
        document = samplers[dataset][1].document(rng)
        drawn[dataset] += len(document)

        bucket = int(np.searchsorted(lengths, len(document)))
        row_tokens = int(lengths[bucket])
        waiting[bucket].append(document)
        if len(waiting[bucket]) * row_tokens == pass_tokens:
            num_rows = len(waiting[bucket])
            passes.append(pass_of(waiting[bucket], row_tokens, pad_id, num_rows))
            waiting[bucket] = []

    return [passes[i] for i in rng.permutation(num_passes)]


def pass_of(
    documents: Sequence[TokenSequence], row_tokens: int, pad_id: int, num_rows: int
) -> HostPass:
    """Documents one a row; rows without one hold padding."""
    ids = np.full((num_rows, row_tokens), pad_id, dtype=np.int16)
    is_target = np.zeros(ids.shape, dtype=np.bool_)
    for row, document in enumerate(documents):
        ids[row, : len(document)] = document.ids
        is_target[row, : len(document)] = document.is_target

    # The first token of a row follows nothing.
    num_targets = int(is_target[:, 1:].sum())
    return HostPass(
        ids.reshape(-1), is_target.reshape(-1), row_tokens, num_targets, sum(map(len, documents))
    )


@dataclass(frozen=True)
class Stream:
    """All that a worker needs to make any chunk. It travels to the workers, the data does not."""

    open_samplers: Callable[[], Sequence[Sampler]]  # opens the data, once a process
    seed: int
    pass_tokens: int
    max_tokens: int
    pad_id: int
    chunk_passes: int = CHUNK_PASSES

    @cached_property
    def samplers(self) -> Sequence[Sampler]:
        return self.open_samplers()

    def chunk(self, index: int) -> list[HostPass]:
        """The chunk of that number."""
        return make_chunk(
            self.samplers,
            seed=self.seed,
            index=index,
            pass_tokens=self.pass_tokens,
            max_tokens=self.max_tokens,
            pad_id=self.pad_id,
            num_passes=self.chunk_passes,
        )


@contextmanager
def passes_from(
    stream: Stream, first_pass: int, *, num_workers: int
) -> Generator[Iterator[HostPass], None, None]:
    """The endless passes of a stream from the one of that number on, made by workers ahead of use.

    With no workers they are made in this process, when they are asked for.
    """
    first_chunk, skipped = divmod(first_pass, stream.chunk_passes)
    if not num_workers:
        chunks = (stream.chunk(index) for index in count(first_chunk))
        yield _without_first(chunks, skipped)
        return

    # spawn: a fork of a process that holds a CUDA context is of no use.
    pool = ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(stream,)
    )
    # A signal to all processes of a run is for this one to act on: workers inherit what is blocked.
    # Each of these tasks starts one, as none is idle yet.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    for _ in range(num_workers):
        pool.submit(int)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    try:
        yield _without_first(_ahead(pool, first_chunk, num_ahead=num_workers + 2), skipped)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ahead(
    pool: ProcessPoolExecutor, first_chunk: int, *, num_ahead: int
) -> Iterator[list[HostPass]]:
    """Chunks in order, while the next `num_ahead` are in the making."""
    making: deque[Future[list[HostPass]]] = deque()
    for index in count(first_chunk):
        making.append(pool.submit(_make, index))
        if len(making) > num_ahead:
            yield making.popleft().result()


def _without_first(chunks: Iterator[list[HostPass]], num: int) -> Iterator[HostPass]:
    """The passes of the chunks end to end, without the first `num`."""
    return islice(chain.from_iterable(chunks), num, None)


_WORKING_ON: list[Stream] = []
"""The stream of this worker process."""


def _begin(stream: Stream) -> None:
    """Set up this worker. It ends with the process that started it, which may be killed."""
    _WORKING_ON[:] = [stream]
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(index: int) -> list[HostPass]:
    return _WORKING_ON[0].chunk(index)
