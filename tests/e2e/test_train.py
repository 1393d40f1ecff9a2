"""`appliance train` packs, trains, is killed and goes on with the same losses to the bit.

What it leaves is a model that `submit` takes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from appliance import cli
from appliance.arc.grid import same_grid
from appliance.arc.source import load_tasks
from appliance.engine.training.packing import TokenSequence
from appliance.learn.data.corpus import load_corpus
from appliance.learn.data.documents import DocumentSampler, Mixture, batch_of
from appliance.learn.data.styles import TinyWriter
from appliance.models import tiny

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

RECIPE = """
seed: 3
architecture: {hidden_size: 64, num_layers: 2, intermediate_size: 128, max_positions: 512}
data: {row_tokens: 128, rows_per_step: 4, datasets: {".": {min_pairs: 2, max_pairs: 4}}}
optimization: {optimizer: muon, learning_rate: 0.01, warmup_steps: 5, max_steps: 60}
save_every_steps: 7
log_every_steps: 1
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, challenges: Path) -> Path:
    """A packed corpus of the six copying tasks and of a small RE-ARC file."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(1)
    with (folder / "re_arc.jsonl").open("w") as lines:
        for family in range(4):
            pairs = []
            for _ in range(30):
                rows = ["".join(map(str, rng.integers(0, 10, 4))) for _ in range(3)]
                pairs.append(["/".join(rows), "/".join(reversed(rows))])
            lines.write(json.dumps({"task_id": f"family{family}", "pairs": pairs}) + "\n")
    words = ["train", "--pack", str(folder / "packed"), "--tasks", str(challenges)]

    assert cli.main([*words, "--re-arc", str(folder / "re_arc.jsonl")]) == 0
    return folder / "packed"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def arguments(recipe: Path, corpus: Path, out: Path, *more: str) -> list[str]:
    """Of the command `appliance`."""
    return ["train", "--recipe", str(recipe), "--corpus", str(corpus), "--out", str(out), *more]


def started(*train_arguments: str) -> subprocess.Popen[bytes]:
    """A training of one thread, so that sums are the same in every process."""
    return subprocess.Popen(
        [sys.executable, "-m", "appliance", *train_arguments],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def losses(out: Path) -> dict[int, float]:
    """The last loss written for every step."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


def test_a_packed_corpus_gives_back_every_pair(corpus: Path, challenges: Path) -> None:
    packed = load_corpus(corpus)
    tasks = load_tasks(str(challenges))
    assert len(packed.families) == 10
    held = [packed.pair(i) for i in range(len(packed.shapes))]
    for task in tasks:
        for pair in task.train:
            assert any(same_grid(a, pair.input) and same_grid(b, pair.output) for a, b in held)


def batch(corpus: Path, *, seed: int, step: int) -> list[TokenSequence]:
    sampler = DocumentSampler(load_corpus(corpus), TinyWriter(), max_tokens=128, min_pairs=2)
    mixture = Mixture([("copies", sampler, 1.0)])
    name, documents = batch_of(mixture, seed=seed, step=step, row_tokens=128, num_rows=4)
    assert name == "copies"
    return documents


def test_the_batch_of_a_step_depends_on_seed_and_step_alone(corpus: Path) -> None:
    def ids(**which: int) -> list[bytes]:
        return [document.ids.tobytes() for document in batch(corpus, **which)]

    assert ids(seed=1, step=9) == ids(seed=1, step=9)
    assert ids(seed=1, step=9) != ids(seed=1, step=10)
    assert ids(seed=1, step=9) != ids(seed=2, step=9)


def test_a_step_holds_as_many_tokens_as_its_rows(corpus: Path) -> None:
    sizes = [sum(map(len, batch(corpus, seed=0, step=step))) for step in range(10)]
    assert max(sizes) <= 4 * 128
    assert min(sizes) > 0.8 * 4 * 128


def test_documents_have_the_tokens_of_the_tokenizer(corpus: Path, tiny_model: Path) -> None:
    from appliance.engine.tokens import Codec

    codec = Codec.load(tiny_model)
    for document in batch(corpus, seed=0, step=0):
        assert codec.num_tokens("".join(tiny.TOKENS[i] for i in document.ids)) == len(document)


def test_killed_and_started_again_it_gives_the_same_losses_to_the_bit(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    undisturbed = started(*arguments(recipe, corpus, alone))

    for steps in (10, 25):  # killed twice, somewhere after these steps
        with started(*arguments(recipe, corpus, killed)) as process:
            while process.poll() is None:
                metrics = killed / "metrics.jsonl"
                if metrics.exists() and len(losses(killed)) >= steps:
                    break
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
    last = started(*arguments(recipe, corpus, killed, "--set", "save_every_steps=11"))

    assert (last.wait(), undisturbed.wait()) == (0, 0)
    assert losses(killed) == losses(alone)
    assert len(losses(alone)) == 60
    assert losses(alone)[60] < losses(alone)[1]


def test_another_recipe_on_the_same_folder_is_refused(
    recipe: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments(recipe, corpus, tmp_path / "out", "--max-steps", "8")
    assert cli.main(words) == 0
    assert cli.main([*words, "--set", "seed=4", "--set", "architecture.num_layers=3"]) == 2
    assert "another seed, architecture" in capsys.readouterr().err


def test_the_finished_model_is_one_that_submit_takes(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    from appliance.engine.folder.card import read_card
    from appliance.engine.load_model import load_causal_lm
    from appliance.engine.tokens import Codec

    assert cli.main(arguments(recipe, corpus, tmp_path / "out", "--max-steps", "5")) == 0
    folder = tmp_path / "out" / "model"
    assert read_card(folder).style == "grid-tokens-v1"
    loaded = load_causal_lm(folder, dtype="float32", device="cpu")
    assert Codec.load(folder).eos_id == tiny.EOS
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"

    weights = folder / "model.safetensors"
    num_parameters = sum(p.numel() for p in loaded.parameters())
    assert weights.stat().st_size < 2.1 * num_parameters, "tied weights are there once"
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {folder.stat().st_mode & 0o666}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learning_rat: 1", "learning_rat"),
        ("seed: many", "seed"),
        ("data: {row_tokens: 3}", "row_tokens"),
    ],
)
def test_a_bad_recipe_names_its_key(
    line: str, expected: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(line + "\n")
    assert cli.main(arguments(path, corpus, tmp_path / "out")) == 2
    assert expected in capsys.readouterr().err


def test_a_bad_line_of_re_arc_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "re_arc.jsonl"
    path.write_text('{"task_id": "a", "pairs": [["12/34", "1x"]]}\n')
    assert cli.main(["train", "--pack", str(tmp_path / "packed"), "--re-arc", str(path)]) == 4
    assert "line 1" in capsys.readouterr().err


def test_generated_packs_carry_programs_that_the_vocabulary_can_write(tmp_path: Path) -> None:
    from appliance.learn.data.corpus import assemble, save_corpus
    from appliance.learn.data.generated import compositions, family_tasks

    families = [*family_tasks(1, num_pairs=3), *compositions(5)]
    save_corpus(assemble(families), tmp_path / "packed", sources=["generated"])
    packed = load_corpus(tmp_path / "packed")
    assert packed.programs == tuple(family.program for family in families)
    assert all(tiny.program_ids(program) is not None for program in packed.programs if program)
    sampler = DocumentSampler(packed, TinyWriter(), max_tokens=1024, min_pairs=2)
    for index in range(20):
        document = sampler.document(np.random.default_rng(index))
        marks = np.flatnonzero(document.ids == tiny.PROGRAM)
        assert marks.size == 1  # the program closes the document and is the answer
        assert document.is_target[marks[0] + 1 :].all()
        assert not document.is_target[marks[0]]
