"""The canary tells a right adapter from a wrong, a missing and a broken one, at the noise of each type."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.engine.adapter_canary import canary_prompt, judge

BASE = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
TRAINER = np.log(np.array([0.6, 0.2, 0.1, 0.1]))


def served(values: np.ndarray, noise: float = 0.0) -> dict[int, float]:
    return {i: float(v) + noise for i, v in enumerate(values)}


@pytest.mark.parametrize(
    ("dtype", "noise"), [("float32", 1e-4), ("float16", 0.05), ("bfloat16", 0.2)]
)
def test_the_trainers_answers_pass_with_the_noise_of_the_type(dtype: str, noise: float) -> None:
    assert judge(served(TRAINER, noise), trainer=TRAINER, base=BASE, dtype=dtype).is_right


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_engine_that_left_the_adapter_out_is_caught(dtype: str) -> None:
    assert not judge(served(BASE), trainer=TRAINER, base=BASE, dtype=dtype).is_right


def test_a_small_adapter_left_out_is_caught_although_it_is_within_the_noise_of_the_type() -> None:
    near = BASE + 0.1 * (TRAINER - BASE)
    assert not judge(served(BASE), trainer=near, base=BASE, dtype="bfloat16").is_right


def test_an_adapter_that_changes_nothing_here_is_no_fault() -> None:
    assert judge(served(BASE), trainer=BASE, base=BASE, dtype="float32").is_right


def test_numbers_that_are_none_are_caught() -> None:
    assert not judge({0: float("nan")}, trainer=TRAINER, base=BASE, dtype="bfloat16").is_right


def test_the_prompt_is_the_same_for_every_adapter_and_leaves_special_tokens_out() -> None:
    assert canary_prompt(320) == canary_prompt(320)
    assert min(canary_prompt(16)) >= 4
    assert set(canary_prompt(2)) == {1}
