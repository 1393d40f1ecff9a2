"""What a program finds in its interpreter.

Modules are already imported, the DSL has its short name, and nothing differs from run to run by
accident.
"""

from __future__ import annotations

import _thread
import importlib
import importlib.util
import itertools
import json
import os
import random
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from typing import Any

import numpy as np

STANDARD = (
    "abc", "array", "ast", "bisect", "builtins", "cmath", "collections.abc", "contextlib", "copy",
    "ctypes", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "gc",
    "hashlib", "heapq", "inspect", "itertools", "json", "math", "numbers", "operator", "pprint",
    "queue", "random", "re", "statistics", "string", "struct", "textwrap", "threading", "time",
    "traceback", "types", "typing", "uuid", "warnings", "numpy.linalg", "numpy.fft", "numpy.ma",
    "numpy.random", "numpy.lib.stride_tricks", "numpy.typing",
)  # fmt: skip
"""Modules that every program may import."""
LIBRARIES = ("scipy.ndimage", "common")
"""Modules for programs that name one of them; other programs do not pay for their memory."""
ALIASES = {"dsl": "appliance.program.dsl", "common": "appliance.program.common"}
"""Our own modules, by the name under which programs import them."""


def preload(modules: tuple[str, ...]) -> list[str]:
    """Imports the standard set, the DSL and these modules (`common` is ours).

    Returns the names that could not be imported.
    """
    missing = []
    for name in STANDARD + tuple(m for m in modules if m not in ALIASES):
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - whatever a module raises, it cannot be imported
            missing.append(name)

    for alias in ("dsl", *(m for m in modules if m in ALIASES)):
        name = ALIASES[alias]
        importlib.import_module(name)
        for loaded in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
            sys.modules[alias + loaded.removeprefix(name)] = sys.modules[loaded]

    _complete_for_star_imports()
    _touch()
    return missing


def _complete_for_star_imports() -> None:
    """Makes `from numpy import *` and its like work for everything that is imported.

    Packages list submodules in `__all__` that they import at first use, which is too late here. An
    empty module stands for each; to import one by its own name still fails.
    """
    for name, package in tuple(sys.modules.items()):
        for part in getattr(package, "__all__", ()) if hasattr(package, "__path__") else ():
            if part not in vars(package):
                loaded = sys.modules.get(f"{name}.{part}")
                setattr(package, part, loaded or _lazy(package, part))


def _lazy(package: types.ModuleType, part: str) -> Any:
    """What the package gives under that name without importing more; else an empty module."""
    full_name = f"{package.__name__}.{part}"
    if importlib.util.find_spec(full_name) is None and hasattr(package, part):
        return getattr(package, part)
    return types.ModuleType(full_name)


def _touch() -> None:
    """Uses what initialises itself at first use: later no file can be opened."""
    np.linalg.inv(np.eye(2))
    str(np.zeros((2, 2)))
    json.dumps([1.5])
    "".encode("latin-1"), "".encode("ascii"), "".encode("idna")
    try:
        raise ValueError
    except ValueError:
        traceback.format_exc()


def remove_chance(seed: int) -> None:
    """Makes the same program give the same answer.

    Generators are seeded, clocks count, ids are given in order, fresh memory is zeroed. A program
    that insists (the clock by ctypes, the order of a set of plain objects) can still differ; a
    second run shows it.
    """
    random.seed(seed)
    np.random.seed(seed)
    seeded = random.Random.seed

    def seed_always(self: random.Random, a: Any = None, version: int = 2) -> None:
        seeded(self, seed if a is None else a, version)

    _replace(random.Random, "seed", seed_always)
    _replace(random, "seed", random._inst.seed)
    source = random.Random(seed)
    for place, name in ((os, "urandom"), (random, "_urandom"), (os, "getrandom")):
        _replace(place, name, lambda size, flags=0: source.randbytes(size))

    _replace(np.random.bit_generator, "randbits", lambda bits: seed)
    for name in ("empty", "empty_like"):
        _replace(np, name, getattr(np, name.replace("empty", "zeros")))

    _replace(importlib.import_module("builtins"), "id", _ids())
    sys.modules["time"] = _counted_time()
    _replace(os, "getpid", lambda: 2)
    _replace(os, "getppid", lambda: 1)
    for place in (threading, _thread):
        _replace(place, "get_native_id", lambda: 2)


def _replace(place: Any, name: str, value: Any) -> None:
    setattr(place, name, value)


def _counted_time() -> types.ModuleType:
    """A `time` whose clocks move a millisecond per look.

    Modules that hold the real one already keep it.
    """
    fake = types.ModuleType("time")
    vars(fake).update(vars(time))
    ticks_ns = itertools.count(1_700_000_000_000_000_000, 1_000_000)

    for name in ("time", "perf_counter", "monotonic", "process_time", "thread_time"):
        _replace(fake, name, lambda: next(ticks_ns) / 1e9)
        _replace(fake, name + "_ns", lambda: next(ticks_ns))

    return fake


def _ids() -> Callable[[object], int]:
    """`id` that numbers objects in the order in which they are asked for, not by their address."""
    address, numbers = id, dict[int, int]()

    def deal(obj: object, /) -> int:
        return numbers.setdefault(address(obj), 1 + len(numbers))

    return deal
