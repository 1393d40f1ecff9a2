"""Passes of the fast loop: the same for every number of processes and from every place on."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import numpy as np
import psutil
import pytest

from appliance.engine.training.packing import TokenSequence
from appliance.errors import InputError, UsageError
from appliance.learn.data.corpus import assemble, save_corpus
from appliance.learn.data.generated import compositions, family_tasks
from appliance.learn.fast.batches import (
    LONGEST_ROW,
    ROW_STEP,
    SHORTEST_ROW,
    HostPass,
    Stream,
    make_chunk,
    pass_of,
    passes_from,
    row_lengths,
)
from appliance.learn.fast.datasets import open_samplers
from appliance.learn.recipe import Dataset, Recipe
from appliance.models import tiny
from tests.support.cases import REPOSITORY

PASS_TOKENS = 7680  # 2^9 x 15: as in a real run, in small
MAX_TOKENS = 1536
RECIPE = Recipe.model_validate(
    {
        "seed": 5,
        "loop": "fast",
        "architecture": {"tokens": "grid-tokens-v2"},
        "data": {
            "row_tokens": PASS_TOKENS,
            "max_seq_tokens": MAX_TOKENS,
            "datasets": {
                "families": {"weight": 0.75, "min_pairs": 2, "max_pairs": 6},
                "compositions": {"weight": 0.25, "min_pairs": 2, "max_pairs": 4},
            },
        },
    }
)


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    families = {
        "families": family_tasks(1, num_pairs=6),
        "compositions": compositions(30, num_pairs=4),
    }
    for name, tasks in families.items():
        save_corpus(assemble(tasks), folder / name, sources=["generated"])
    return folder


def stream_of(corpus_dir: Path) -> Stream:
    return Stream(
        partial(open_samplers, RECIPE, corpus_dir, "grid-tokens-v2"),
        seed=RECIPE.seed,
        pass_tokens=PASS_TOKENS,
        max_tokens=MAX_TOKENS,
        pad_id=tiny.PAD,
        chunk_passes=6,
    )


@pytest.fixture(scope="module")
def stream(corpus_dir: Path) -> Stream:
    return stream_of(corpus_dir)


@pytest.fixture(scope="module")
def chunk(stream: Stream) -> list[HostPass]:
    """A large one, as in a real run."""
    return replace(stream, chunk_passes=40).chunk(0)


def contents(passes: Sequence[HostPass]) -> list[tuple[bytes, bytes, int]]:
    return [(p.ids.tobytes(), p.is_target.tobytes(), p.row_tokens) for p in passes]


def taken(stream: Stream, first: int, num: int, *, num_workers: int = 0) -> list[HostPass]:
    with passes_from(stream, first, num_workers=num_workers) as passes:
        return list(islice(passes, num))


def test_a_chunk_is_a_function_of_seed_and_number(stream: Stream) -> None:
    first = contents(stream.chunk(3))
    assert contents(replace(stream).chunk(3)) == first  # samplers opened anew
    assert contents(stream.chunk(4)) != first
    assert contents(replace(stream, seed=6).chunk(3)) != first
    assert len(first) == 6


def test_workers_change_nothing_and_neither_does_the_place_to_begin(stream: Stream) -> None:
    whole = contents(taken(stream, 0, 15))
    assert whole[6:12] == contents(stream.chunk(1))
    assert contents(taken(stream, 4, 11)) == whole[4:]
    assert contents(taken(stream, 6, 3)) == whole[6:9]
    assert contents(taken(stream, 4, 11, num_workers=2)) == whole[4:]


def test_what_a_worker_cannot_make_is_told(stream: Stream, corpus_dir: Path) -> None:
    families = Dataset(min_pairs=500, max_pairs=500)
    data = RECIPE.data.model_copy(update={"datasets": {"families": families}})
    opener = partial(
        open_samplers, RECIPE.model_copy(update={"data": data}), corpus_dir, "grid-tokens-v2"
    )
    with pytest.raises(InputError, match="no family has 500 pairs"):
        taken(replace(stream, open_samplers=opener), 0, 1, num_workers=1)


RUN = """
import multiprocessing, signal, sys
from tests.unit.test_fast_batches import Path, stream_of, passes_from

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: None)
    with passes_from(stream_of(Path(sys.argv[1])), 0, num_workers=2) as passes:
        next(passes)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        for _ in range(60):
            next(passes)
            sys.stdin.readline()
        print("went on", flush=True)
"""


@pytest.fixture
def run_of_workers(corpus_dir: Path, tmp_path: Path) -> Iterator[Popen[str]]:
    """A process, the leader of its group, that takes a pass for each line that it reads."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    with Popen(
        [sys.executable, str(script), str(corpus_dir)],
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as process:
        yield process
        process.kill()


def workers_of(process: Popen[str]) -> list[int]:
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    return pids


def test_a_signal_to_the_whole_group_does_not_stop_the_workers(
    run_of_workers: Popen[str],
) -> None:
    workers_of(run_of_workers)
    os.killpg(run_of_workers.pid, signal.SIGTERM)
    said, _ = run_of_workers.communicate("\n" * 60)
    assert (run_of_workers.returncode, said) == (0, "went on\n")


def test_workers_of_a_killed_process_end(run_of_workers: Popen[str]) -> None:
    pids = workers_of(run_of_workers)
    run_of_workers.kill()
    for _ in range(200):
        if not any(map(is_alive, pids)):
            break
        time.sleep(0.05)
    assert not [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_every_row_is_one_document_and_every_pass_as_large(chunk: list[HostPass]) -> None:
    assert len({p.row_tokens for p in chunk}) > 3
    for host_pass in chunk:
        assert host_pass.ids.shape == host_pass.is_target.shape == (PASS_TOKENS,)
        assert host_pass.row_tokens in row_lengths(PASS_TOKENS, MAX_TOKENS)
        rows = host_pass.ids.reshape(-1, host_pass.row_tokens)
        is_real = rows != tiny.PAD
        is_target = host_pass.is_target.reshape(rows.shape)

        assert (rows[:, 0] == tiny.BOS).all()
        assert ((rows == tiny.BOS).sum(axis=1) == 1).all()
        lengths = is_real.sum(axis=1)
        assert (is_real == (np.arange(host_pass.row_tokens) < lengths[:, None])).all()
        assert (rows[np.arange(len(rows)), lengths - 1] == tiny.EOS).all()

        assert not (is_target & ~is_real).any()
        assert host_pass.num_targets == is_target[:, 1:].sum() > 0
        assert host_pass.num_tokens == is_real.sum()


def test_little_of_a_pass_is_padding(chunk: list[HostPass]) -> None:
    num_tokens = sum(p.num_tokens for p in chunk)
    assert num_tokens > 0.8 * PASS_TOKENS * len(chunk)


def test_a_document_goes_to_the_shortest_row_that_holds_it(chunk: list[HostPass]) -> None:
    lengths = row_lengths(PASS_TOKENS, MAX_TOKENS)
    for host_pass in chunk:
        sizes = (host_pass.ids.reshape(-1, host_pass.row_tokens) != tiny.PAD).sum(axis=1)
        shorter = max((n for n in lengths if n < host_pass.row_tokens), default=0)
        assert shorter < sizes.min()
        assert sizes.max() <= host_pass.row_tokens


class Told:
    """Draws documents of one length whose tokens tell which dataset they are of."""

    def __init__(self, token: int, num_tokens: int) -> None:
        self._document = TokenSequence(
            np.full(num_tokens, token, dtype=np.int32), np.ones(num_tokens, dtype=np.bool_)
        )

    def document(self, rng: np.random.Generator) -> TokenSequence:
        return self._document


def test_shares_are_those_of_the_tokens() -> None:
    """Not of the documents: those of one dataset are three times as long."""
    samplers = [("short", Told(7, 250), 3.0), ("long", Told(8, 750), 1.0)]
    passes = make_chunk(
        samplers,  # type: ignore[arg-type]
        seed=0,
        index=0,
        pass_tokens=PASS_TOKENS,
        max_tokens=MAX_TOKENS,
        pad_id=0,
        num_passes=40,
    )
    ids = np.concatenate([p.ids for p in passes])
    short, long = (ids == 7).sum(), (ids == 8).sum()
    assert short / (short + long) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("pass_tokens", [61440, 122880, 215040])
def test_documents_of_any_length_find_a_row_that_divides_the_pass(pass_tokens: int) -> None:
    lengths = row_lengths(pass_tokens, LONGEST_ROW)
    assert (lengths[0], lengths[-1]) == (SHORTEST_ROW, LONGEST_ROW)
    for shorter, longer in itertools.pairwise(lengths):
        assert pass_tokens % longer == longer % ROW_STEP == 0
        assert shorter < longer <= 1.5 * shorter


def test_no_row_is_longer_than_the_longest_document_needs() -> None:
    assert row_lengths(61440, 2000)[-1] == 2048
    assert row_lengths(768, 300) == (256, 384)


@pytest.mark.parametrize(("pass_tokens", "max_tokens"), [(61440, 6145), (1000, 200), (512, 513)])
def test_a_pass_that_cannot_hold_the_longest_document_is_refused(
    pass_tokens: int, max_tokens: int
) -> None:
    with pytest.raises(UsageError, match=f"passes of {pass_tokens} .* up to {max_tokens}"):
        row_lengths(pass_tokens, max_tokens)


def test_rows_without_a_document_are_padding() -> None:
    document = TokenSequence(np.arange(1, 6, dtype=np.int32), np.ones(5, dtype=np.bool_))
    made = pass_of([document], 8, 0, 3)
    assert made.ids.tolist() == [1, 2, 3, 4, 5, 0, 0, 0] + [0] * 16
    assert (made.num_targets, made.num_tokens) == (4, 5)  # the first token follows nothing
