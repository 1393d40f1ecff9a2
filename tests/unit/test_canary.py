"""The canary tells a right adapter from a wrong, missing or stale one, at the noise it measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from appliance.engine.adapter.canary import (
    NUM_PROMPTS,
    Heard,
    Verdict,
    canary_prompts,
    judge,
)

BASE = np.log(np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]))
TRAINER = np.log(np.array([[0.6, 0.2, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]]))
NEAR = BASE + 0.1 * (TRAINER - BASE)  # a weak adapter: 0.1 nats from the base
SIGNS = np.array([[1.0, -1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0]])
TYPES = [("float32", 1e-4), ("float16", 0.05), ("bfloat16", 0.2)]
"""Each type with noise that is usual in it."""

Served = Sequence[Mapping[int, float]]


def served(values: np.ndarray, noise: float = 0.0) -> list[dict[int, float]]:
    return [{i: float(v) for i, v in enumerate(row)} for row in values + noise * SIGNS]


def verdict(said: Served, trainer: np.ndarray, noise: float, *more: Heard) -> Verdict:
    """After the base was heard with so much noise, and more."""
    base = Heard(served(BASE, noise), BASE)
    return judge(Heard(said, trainer), earlier=[base, *more], dtype="bfloat16")


@pytest.mark.parametrize(("dtype", "noise"), TYPES)
def test_the_trainers_answers_pass_with_the_noise_of_the_type(dtype: str, noise: float) -> None:
    base = Heard(served(BASE, noise), BASE)
    assert judge(base, earlier=[], dtype=dtype).is_right
    assert verdict(served(TRAINER, -2 * noise), TRAINER, noise).is_right


@pytest.mark.parametrize(("dtype", "noise"), TYPES)
def test_a_weak_adapter_passes_although_the_noise_is_larger_than_what_it_changes(
    dtype: str, noise: float
) -> None:
    weak = BASE + 0.1 * noise
    assert verdict(served(weak, -noise), weak, noise).is_right


@pytest.mark.parametrize(("dtype", "noise"), TYPES)
def test_an_engine_that_left_the_adapter_out_is_caught(dtype: str, noise: float) -> None:
    assert not verdict(served(BASE, noise), TRAINER, noise).is_right
    assert not verdict(served(BASE, -noise), TRAINER, noise).is_right


@pytest.mark.parametrize(("dtype", "noise"), TYPES)
def test_an_adapter_put_on_twice_is_caught(dtype: str, noise: float) -> None:
    twice = TRAINER + (TRAINER - BASE)
    assert not verdict(served(twice, noise), TRAINER, noise).is_right


def test_the_noise_is_what_the_base_showed() -> None:
    said = served(NEAR, 0.15)
    assert verdict(said, NEAR, 0.1).is_right
    found = verdict(said, NEAR, 0.01)
    assert not found.is_right and not found.is_stale
    assert "0.15 nats from the trainer" in str(found)


def test_a_small_adapter_left_out_is_caught_although_it_is_within_the_noise() -> None:
    found = verdict(served(BASE, 0.2), NEAR, 0.2)
    assert found.is_stale and not found.is_right
    assert "answers as before" in str(found)


def test_an_adapter_of_an_earlier_load_is_caught_although_it_is_within_the_noise() -> None:
    last = Heard(served(NEAR, 0.2), NEAR)
    other = NEAR + 0.1 * SIGNS
    assert not verdict(last.served, other, 0.2, last).is_right
    assert verdict(served(other, 0.2), other, 0.2, last).is_right


def test_what_is_nearer_to_an_earlier_load_is_caught_although_it_moved() -> None:
    """The engine has an older adapter, and rounds anew."""
    last = Heard(served(TRAINER, 0.02), TRAINER)
    other = TRAINER + 0.1 * SIGNS
    found = verdict(served(TRAINER, -0.03), other, 0.02, last)
    assert found.is_stale and not found.is_right
    assert verdict(served(other, -0.03), other, 0.02, last).is_right


def test_what_the_noise_does_not_explain_must_be_nearer_to_the_trainer_than_to_the_base() -> None:
    half = BASE + 0.4 * (TRAINER - BASE)  # as if most of the adapter's layers were left out
    less = BASE + 0.3 * (TRAINER - BASE)
    assert not verdict(served(half - (half - BASE) * 0.6), half, 0.05).is_right
    assert verdict(served(less, 0.1), less, 0.05).is_right


def test_an_adapter_that_changes_nothing_here_is_no_fault() -> None:
    assert verdict(served(BASE), BASE, 0.0).is_right


def test_an_engine_with_other_base_weights_does_not_start() -> None:
    assert judge(Heard(served(BASE), BASE), earlier=[], dtype="float32").is_right
    for dtype in ("float32", "float16", "bfloat16"):
        assert not judge(Heard(served(TRAINER), BASE), earlier=[], dtype=dtype).is_right


def test_numbers_that_are_none_are_caught() -> None:
    nan = float("nan")
    assert not verdict([{0: nan}, {0: nan}], TRAINER, 0.2).is_right
    assert not verdict([*served(TRAINER)[:1], {2: nan}], TRAINER, 0.2).is_right


def test_the_prompts_are_the_same_for_every_adapter_and_leave_special_tokens_out() -> None:
    assert canary_prompts(320) == canary_prompts(320)
    assert len(set(canary_prompts(320))) == NUM_PROMPTS
    assert min(min(ids) for ids in canary_prompts(16)) >= 4
    assert {i for ids in canary_prompts(2) for i in ids} == {1}
