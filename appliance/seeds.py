"""Seeds and generators, derived by SHA-256 from what they are for.

Never `hash()`, which differs from process to process, and never a global seed.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(*parts: object) -> int:
    """A 63-bit seed for (run seed, task, stage, ...), the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: object) -> np.random.Generator:
    """A NumPy generator of its own, seeded by `seed_of`."""
    return np.random.default_rng(seed_of(*parts))
