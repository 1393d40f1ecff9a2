"""Damage of every kind, fast: random bytes, broken bytes, broken JSON, arbitrary JSON, pages."""

from __future__ import annotations

import json
from random import Random
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10, 31, 2**63, -(2**70), 1.5, -0.0, 1e308, float("nan")),
    *(float("inf"), float("-inf"), "", "x", "\ud800", "\0", "é" * 150, "../../x", "a" * 5000),
    *([], {}, [[]], [[[]]], [None], [[0]], [[10]], [[0] * 31], [[0], [0, 0]], [[True]], [["0"]]),
    *([[0.0]], {"train": []}, {"test": [{}]}, {"attempt_1": [[0]]}, [{"attempt_1": None}]),
)
"""Values that readers were seen to stumble over."""

DEEP = ("[" * 20_000, '{"a":' * 20_000, "[" * 20_000 + "]" * 20_000, "9" * 6000)
"""Texts that are no trouble to write and much to read."""

PAGE_BYTES = 4096


def damaged(rng: Random, seed: bytes) -> bytes:
    """Another input made from a good one."""
    way = rng.random()
    if way < 0.45:
        return broken_json(rng, seed)
    if way < 0.85:
        return broken_bytes(rng, seed)
    if way < 0.95:
        return json.dumps(arbitrary(rng)).encode("utf-8", "surrogatepass")
    if way < 0.97:
        return rng.choice(DEEP).encode()
    return rng.randbytes(rng.randrange(200))


def broken_bytes(rng: Random, seed: bytes) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.randint(1, 12)
        way = rng.randrange(5)
        if way == 0:
            data[at : at + 1] = rng.randbytes(1)
        elif way == 1:
            del data[at : at + length]
        elif way == 2:
            data[at:at] = data[at : at + length]
        elif way == 3:
            data[at:at] = rng.choice((b"\xff", b"\0", b"-", b"1e999", b"NaN", b'"', b"]", b"{"))
        else:
            del data[at:]
    return bytes(data)


def broken_json(rng: Random, seed: bytes) -> bytes:
    """One value of it, wherever it stands, is another one, or gone, or there twice."""
    try:
        value = json.loads(seed)
    except ValueError:
        return broken_bytes(rng, seed)
    for _ in range(rng.randint(1, 2)):
        value = _changed(rng, value)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def arbitrary(rng: Random, depth: int = 4) -> Any:
    """Any JSON value."""
    if not depth or rng.random() < 0.3:
        return rng.choice(STRANGE)
    values = [arbitrary(rng, depth - 1) for _ in range(rng.randrange(4))]
    if rng.random() < 0.5:
        return values
    return {rng.choice(("train", "test", "input", "output", "a", "attempt_1", "id", "")): v
            for v in values}  # fmt: skip


def damaged_pages(rng: Random, seed: bytes) -> bytes:
    """An SQLite file with bytes of some page changed, or cut off, or with a page of another."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 8)):
        page = rng.randrange(max(1, len(data) // PAGE_BYTES))
        at = page * PAGE_BYTES + rng.choice((0, 100, rng.randrange(PAGE_BYTES)))
        length = rng.choice((1, 4, 64, PAGE_BYTES))
        way = rng.randrange(4)
        if way < 2:
            data[at : at + length] = rng.randbytes(len(data[at : at + length]))
        elif way == 2:
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def _changed(rng: Random, value: Any) -> Any:
    """The value with one change, the deeper the likelier."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        way = rng.random()
        if way < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.2:
            return {**value, str(rng.choice(("x", "", "\ud800"))): rng.choice(STRANGE)}
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        way = rng.random()
        if way < 0.1:
            return value[:at] + value[at + 1 :]
        if way < 0.2:
            return [*value, *value[at:]]
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    return rng.choice(STRANGE)
