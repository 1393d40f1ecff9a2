"""What a recipe may ask for: its trainer, its evaluation, its optimizer; and what it is kept as."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from appliance.errors import ApplianceError, PrerequisiteError, UsageError
from appliance.learn import adapt, optimize
from appliance.learn.adapt import choose_trainer
from appliance.learn.optimize import check_optimizer
from appliance.learn.provenance import readme_of, recipe_values
from appliance.learn.recipe import Optimization, Recipe
from appliance.machine.software import checkout
from appliance.yaml_text import parse_yaml, to_yaml
from tests.support.cases import REPOSITORY

LORA = {"start_from": "arc-mini", "adaptation": {"method": "lora"}}


def recipe_of(**values: Any) -> Recipe:
    return Recipe.model_validate(LORA | values)


@pytest.fixture(params=["4.0", None], ids=["installed", "missing"])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the packages of this test are there."""
    for module in (adapt, optimize):
        monkeypatch.setattr(module, "version_of", lambda name: request.param)
    return request.param is not None


# The trainer.


@pytest.mark.parametrize("has_gpu", [True, False])
def test_unsloth_is_chosen_on_a_gpu_where_it_is_installed(has_gpu: bool, installed: bool) -> None:
    expected = "unsloth" if has_gpu and installed else "peft"
    assert choose_trainer(recipe_of(), has_gpu=has_gpu, num_processes=1) == expected
    plain = recipe_of(trainer="peft")
    assert choose_trainer(plain, has_gpu=has_gpu, num_processes=1) == "peft"


CANNOT: dict[str, tuple[dict[str, Any], int]] = {
    "adaptation.method full": ({"adaptation": {"method": "full"}}, 1),
    "adaptation.dora": ({"adaptation": {"method": "lora", "dora": True}}, 1),
    "4 processes": ({}, 4),
    "loop: fast": ({"loop": "fast"}, 1),
    "target_modules other than": (
        {"adaptation": {"method": "lora", "target_modules": ["lm_head"]}},
        1,
    ),
}


@pytest.mark.parametrize("what", CANNOT)
def test_what_unsloth_cannot_is_refused_by_name_and_left_to_peft_by_auto(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "version_of", lambda name: "4.0")
    values, processes = CANNOT[what]
    with pytest.raises(UsageError, match=what):
        asked = recipe_of(**values, trainer="unsloth")
        choose_trainer(asked, has_gpu=True, num_processes=processes)
    by_itself = choose_trainer(recipe_of(**values), has_gpu=True, num_processes=processes)
    assert by_itself == "peft"


def test_unsloth_that_is_asked_for_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, "version_of", lambda name: None)
    with pytest.raises(PrerequisiteError, match="not installed"):
        choose_trainer(recipe_of(trainer="unsloth"), has_gpu=True, num_processes=1)


def test_auto_leaves_a_family_without_kernels_to_peft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "version_of", lambda name: "4.0")
    for family, expected in (("qwen2", "unsloth"), ("gpt_neox", "peft")):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
        recipe = recipe_of(start_from=str(tmp_path))
        assert choose_trainer(recipe, has_gpu=True, num_processes=1) == expected


# The optimizer.


@pytest.mark.parametrize("has_gpu", [True, False])
@pytest.mark.parametrize("name", ["adamw", "muon", "adamw_8bit", "paged_adamw_8bit"])
def test_an_optimizer_that_cannot_be_had_is_refused(
    name: Any, has_gpu: bool, installed: bool
) -> None:
    plan = Optimization(optimizer=name)
    can = not name.endswith("8bit") or (installed and (has_gpu or not name.startswith("paged")))
    if can:
        check_optimizer(plan, has_gpu=has_gpu)
    else:
        with pytest.raises(ApplianceError, match=name):
            check_optimizer(plan, has_gpu=has_gpu)


# The evaluation.


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"evaluation": {}}, "tasks, datasets or both"),
        ({"loop": "fast", "evaluation": {"datasets": {"a": {}}}}, "not on datasets"),
        (
            {"loop": "fast", "evaluation": {"tasks": "t", "datasets": {"a": {}}}},
            "not on datasets",
        ),
    ],
)
def test_an_evaluation_that_cannot_be_is_told(values: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Recipe.model_validate(values)


def test_datasets_that_are_judged_by_do_not_make_another_run() -> None:
    with_loss = recipe_of(evaluation={"datasets": {"held": {"source": "x"}}})
    given_digests = {"corpus": "a", "base": "b", "adapter": "c"}
    assert with_loss.identity(**given_digests) == recipe_of().identity(**given_digests)
    assert set(with_loss.sources()) == {".", "evaluation held"}


# What is kept.


def test_what_is_kept_is_the_same_recipe_on_another_machine() -> None:
    recipe = recipe_of(optimization={"max_steps": 7}, card={"note": "1e3"})
    kept = recipe_values(recipe)
    assert kept["start_from"] == "arc-mini"
    assert Recipe.model_validate(parse_yaml(to_yaml(kept), place="")) == recipe


TEXTS = st.sampled_from(["1e3", "010", "0o17", "yes", "null", "~", "", "<<", "11:30", ".inf"])
NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.text(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(VALUES)
def test_values_are_the_same_after_they_were_written_as_yaml(value: Any) -> None:
    assert parse_yaml(to_yaml(value), place="") == value


def test_the_page_of_an_adapter_says_base_data_and_use() -> None:
    recipe = recipe_of(data={"datasets": {"re-arc": {"weight": 3}}})
    page = readme_of(recipe, base_sha="1234", style="a-style", encoder="an-encoder")
    for part in ("`arc-mini`", "1234", "- `re-arc` in `a-style`, weight 3", "--adapter", "rank 32"):
        assert part in page


def test_the_revision_is_that_of_the_checkout() -> None:
    if not (REPOSITORY / ".git").exists():
        assert checkout() is None
        return
    head = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    found = checkout()
    assert found is not None and found["revision"] == head.stdout.strip()
