"""Seeds and generators derived by SHA-256 from what they are for; never `hash()`, never a global seed."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(*parts: object) -> int:
    """A 63-bit seed for (run seed, task, stage, ...): the same parts give the same seed on every machine."""
    return (
        int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "little")
        >> 1
    )


def generator(*parts: object) -> np.random.Generator:
    """An own NumPy generator seeded by `seed_of`."""
    return np.random.default_rng(seed_of(*parts))
