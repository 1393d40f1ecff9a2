"""The canary tells a right adapter from a wrong, missing or stale one, at each type's noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from appliance.engine.adapter_canary import Heard, Verdict, canary_prompt, judge

BASE = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
TRAINER = np.log(np.array([0.6, 0.2, 0.1, 0.1]))
NEAR = BASE + 0.1 * (TRAINER - BASE)  # a weak adapter: 0.18 nats from the base at most
SIGNS = np.array([1.0, -1.0, 1.0, -1.0])


def served(values: np.ndarray, noise: float = 0.0) -> dict[int, float]:
    return {i: float(v) for i, v in enumerate(values + noise * SIGNS)}


def verdict(said: Mapping[int, float], trainer: np.ndarray, dtype: str, *more: Heard) -> Verdict:
    """After the base was heard, and more."""
    return judge(Heard(said, trainer), earlier=[Heard(served(BASE), BASE), *more], dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "noise"), [("float32", 1e-4), ("float16", 0.05), ("bfloat16", 0.2)]
)
def test_the_trainers_answers_pass_with_the_noise_of_the_type(dtype: str, noise: float) -> None:
    assert verdict(served(TRAINER, noise), TRAINER, dtype).is_right


@pytest.mark.parametrize(
    ("dtype", "noise"), [("float32", 1e-4), ("float16", 0.045), ("bfloat16", 0.2)]
)
def test_a_weak_adapter_passes_although_the_noise_is_larger_than_what_it_changes(
    dtype: str, noise: float
) -> None:
    weak = BASE + 0.1 * noise
    assert verdict(served(weak, noise), weak, dtype).is_right


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_engine_that_left_the_adapter_out_is_caught(dtype: str) -> None:
    assert not verdict(served(BASE), TRAINER, dtype).is_right


def test_a_small_adapter_left_out_is_caught_although_it_is_within_the_noise_of_the_type() -> None:
    found = verdict(served(BASE), NEAR, "bfloat16")
    assert found.is_stale and not found.is_right
    assert "answers as before" in str(found)


def test_an_adapter_of_an_earlier_load_is_caught_although_it_is_within_the_noise() -> None:
    last = Heard(served(NEAR, 0.1), NEAR)
    other = NEAR + 0.1 * SIGNS
    assert not verdict(last.served, other, "bfloat16", last).is_right
    assert verdict(served(other, 0.1), other, "bfloat16", last).is_right


def test_what_the_noise_does_not_explain_must_be_nearer_to_the_trainer_than_to_the_base() -> None:
    half = BASE + 0.4 * (TRAINER - BASE)  # as if most of the adapter's layers were left out
    less = BASE + 0.3 * (TRAINER - BASE)
    assert not verdict(served(half - (half - BASE) * 0.6), half, "bfloat16").is_right
    assert verdict(served(less, 0.2), less, "bfloat16").is_right


def test_an_adapter_that_changes_nothing_here_is_no_fault() -> None:
    assert verdict(served(BASE), BASE, "float32").is_right


def test_the_first_answer_has_nothing_before_it() -> None:
    assert judge(Heard(served(BASE), BASE), earlier=[], dtype="float32").is_right
    assert not judge(Heard(served(TRAINER), BASE), earlier=[], dtype="float32").is_right


def test_numbers_that_are_none_are_caught() -> None:
    assert not verdict({0: float("nan")}, TRAINER, "bfloat16").is_right
    assert not verdict(served(TRAINER) | {2: float("nan")}, TRAINER, "bfloat16").is_right


def test_the_prompt_is_the_same_for_every_adapter_and_leaves_special_tokens_out() -> None:
    assert canary_prompt(320) == canary_prompt(320)
    assert min(canary_prompt(16)) >= 4
    assert set(canary_prompt(2)) == {1}
