"""Readers of folders: one file of a good folder is damaged, the others are right.

Not among them: tokenizer.json and chat templates. What reads those is not ours and may take its
time, so a process of its own does it, which costs seconds a folder (engine/folder/speech.py).
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from appliance.arc.source import load_tasks
from appliance.engine.adapter.examine import WEIGHTS_FILE, examine_adapter
from appliance.engine.adapter.record import write_record
from appliance.engine.folder.examine import examine_files
from appliance.engine.folder.tokenizer import num_embedding_rows, stop_ids
from appliance.engine.folder.weights import INDEX_FILE, SINGLE_FILE, has_own_head
from appliance.errors import ApplianceError
from appliance.learn.data.corpus import (
    FamilyPairs,
    assemble,
    load_corpus,
    read_re_arc,
    read_task_pairs,
    save_corpus,
)
from appliance.pack.kaggle import (
    MANIFEST,
    check_folder,
    dataset_metadata,
    manifest_of,
    package_of,
)
from appliance.pack.kaggle_notebook import write_notebook
from appliance.sizing.costs.model_card import card_of_folder
from tests.fuzz.mutate import damaged
from tests.fuzz.reader import Reader
from tests.support.adapter_folders import save_adapter, save_base, weights
from tests.support.model_folder import write_model_folder

Folder = Callable[[Path], object]
"""Makes or reads a folder."""

SMALLEST = {
    **{"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1},
    **{"vocab_size": 16, "pad_token_id": 0, "eos_token_id": 2},
}
"""A model as small as one may be: most of the time goes into writing and reading files."""

TASK = {"train": [{"input": [[1, 2]], "output": [[2, 1]]}], "test": [{"input": [[3, 4]]}]}
FAMILY = {"task_id": "007bbfb7", "pairs": [["707/770", "77/07"], ["1", "2"]]}
CARD = {
    "style": "output-from-examples-v1",
    "encoder": "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
    "program_style": "code-from-examples-v2",
    "strategies": ["transduction"],
    "program_tokens": 900,
}


def make_model(folder: Path) -> None:
    """With all that may lie in one; the weights are one shard with its index."""
    write_model_folder(folder, **SMALLEST)
    (folder / "appliance.json").write_text(json.dumps(CARD))
    said = {"eos_token_id": [2, 3], "pad_token_id": 0, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(said))
    shard = "model-00001-of-00001.safetensors"
    (folder / SINGLE_FILE).rename(folder / shard)
    names = names_in(folder / shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
    (folder / INDEX_FILE).write_text(json.dumps(index))


def make_single(folder: Path) -> None:
    write_model_folder(folder, **SMALLEST)


def names_in(path: Path) -> list[str]:
    """Names of the tensors of a good safetensors file."""
    data = path.read_bytes()
    return list(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))


def read_model(folder: Path) -> None:
    """Each by itself: none leans on what another has refused."""
    for read in (examine_files, card_of_folder, has_own_head, stop_ids, num_embedding_rows):
        with contextlib.suppress(ApplianceError):
            read(folder)


def make_adapter(folder: Path) -> None:
    """An adapter and, beside it, its base."""
    save_base(folder / "base", num_layers=1)
    save_adapter(folder / "adapter", weights(1))
    write_record(folder / "adapter", {})


def read_adapter(folder: Path) -> None:
    examine_adapter(folder / "adapter", folder / "base")


def make_tasks(folder: Path) -> None:
    for name in ("007bbfb7", "00d62c1b"):
        (folder / f"{name}.json").write_text(json.dumps(TASK))


def make_package(folder: Path) -> None:
    """As `appliance pack kaggle` leaves it, without wheels."""
    dataset, kernel = folder / "dataset", folder / "notebook"
    dataset.mkdir()
    kernel.mkdir()
    (dataset / "requirements.txt").write_text("numpy==2.0\n")
    wheel = "arc_appliance-0.2.0-py3-none-any.whl"
    written = {
        dataset / "dataset-metadata.json": dataset_metadata("someone", "ARC solver"),
        dataset / MANIFEST: manifest_of(dataset, ("3.12",), wheel, "1a2b3c4d5e6f"),
    }
    for path, value in written.items():
        path.write_text(json.dumps(value))

    config = {"machine": {"num_gpus": 1}, "dataset": "someone/arc-solver", "competition": "arc"}
    bound = {**config, "package": package_of(dataset)}
    write_notebook(kernel, "someone", "ARC solver", bound)


def make_corpus(folder: Path) -> None:
    make_tasks(folder)
    pairs = [pair for family in read_task_pairs(str(folder)) for pair in family.pairs]
    module = FamilyPairs("module", pairs, "def transform(g):\n    return g", True, True)
    families = [*read_task_pairs(str(folder)), module]
    save_corpus(assemble(families), folder / "corpus", sources=["x"])


def read_corpus(folder: Path) -> None:
    """And every pair of it."""
    corpus = load_corpus(folder / "corpus")
    corpus.digest(), corpus.pair_tokens()
    for index in range(len(corpus.shapes)):
        corpus.pair(index)
    assert len(corpus.families) == len(corpus.programs) == len(corpus.first_pair) - 1
    assert corpus.modules | corpus.tasks <= set(range(len(corpus.families)))


def damaged_weights(rng: Random, seed: bytes) -> bytes:
    """Its header, with or without its length put right, or its values."""
    size = int.from_bytes(seed[:8], "little")
    header, values = seed[8 : 8 + size], seed[8 + size :]
    way = rng.random()
    if way < 0.1:
        return damaged(rng, seed)
    if way < 0.2:
        at = rng.randrange(len(values))
        return seed[: 8 + size] + values[:at] + b"\xff" * 4 + values[at + 4 :]
    changed = damaged(rng, header)
    length = len(changed) if way < 0.95 else rng.choice((0, size, len(seed), 2**63, 10**8))
    return length.to_bytes(8, "little") + changed + values


def one_of(
    name: str,
    make: Folder,
    file: str,
    read: Folder,
    *,
    damage: Callable[[Random, bytes], bytes] = damaged,
    share: float = 0.5,
) -> Reader:
    """The reader of a folder of which this file is damaged."""

    @cache
    def good() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            return (Path(folder) / file).read_bytes()

    def read_folder(path: Path) -> None:
        folder = path.parent / "folder"
        if not folder.is_dir():  # once for all inputs of a process
            folder.mkdir()
            make(folder)
        path.replace(folder / file)
        read(folder)

    return Reader(name, good, read_folder, damage=damage, share=share)


FOLDER_READERS = (
    one_of("task folder", make_tasks, "007bbfb7.json", lambda p: load_tasks(str(p))),
    one_of("model config", make_model, "config.json", read_model),
    one_of("model card", make_model, "appliance.json", read_model),
    one_of("generation config", make_model, "generation_config.json", read_model),
    one_of("weights index", make_model, INDEX_FILE, read_model),
    one_of("model weights", make_single, SINGLE_FILE, read_model, damage=damaged_weights),
    one_of("adapter config", make_adapter, "adapter/adapter_config.json", read_adapter),
    one_of("adapter record", make_adapter, "adapter/appliance.json", read_adapter),
    one_of("adapter weights", make_adapter, f"adapter/{WEIGHTS_FILE}", read_adapter,
           damage=damaged_weights),
    one_of("package manifest", make_package, f"dataset/{MANIFEST}", check_folder),
    one_of("dataset metadata", make_package, "dataset/dataset-metadata.json", check_folder),
    one_of("kernel metadata", make_package, "notebook/kernel-metadata.json", check_folder),
    one_of("corpus manifest", make_corpus, "corpus/manifest.json", read_corpus),
    one_of("corpus programs", make_corpus, "corpus/programs.json", read_corpus),
    one_of("corpus shapes", make_corpus, "corpus/shapes.npy", read_corpus),
    one_of("corpus families", make_corpus, "corpus/first_pair.npy", read_corpus),
    one_of("corpus cells", make_corpus, "corpus/cells.npy", read_corpus),
    Reader("RE-ARC", lambda: json.dumps(FAMILY).encode(), lambda p: assemble(read_re_arc(p))),
)  # fmt: skip
