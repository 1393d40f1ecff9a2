"""What a training shows, and what of a recipe makes it another run."""

from __future__ import annotations

import json

import pytest

from appliance.clock import VirtualClock
from appliance.commands.arguments import DISPLAYS
from appliance.learn.recipe import Recipe
from appliance.learn.show import make_display
from appliance.learn.training_loop import StepReport

LINE = StepReport(
    50, 0.5, 1.0, 1e-3, "outputs", tokens=50_000, tokens_per_s=1000.0, share_done=50 / 110
)
FIGURES = {"accuracy": 0.25, "vote_2": 0.5}


@pytest.mark.parametrize("name", DISPLAYS)
def test_a_display_says_speed_and_time_left(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    display = make_display(name, max_steps=110, clock=VirtualClock())
    display.show(LINE)
    display.show_figures(50, FIGURES)
    display.close()
    text = capsys.readouterr().out
    if name == "none":
        assert not text
    elif name == "json":
        assert [json.loads(line)["step"] for line in text.splitlines()] == [50, 50]
    else:
        assert {"rich": "1,000 tokens/s", "plain": "1000 tokens/s"}[name] in text
        assert "1 min" in text  # 60 steps of 1,000 tokens
        assert "vote_2 0.5000" in text


def test_where_data_lie_is_no_part_of_a_run_but_what_they_hold_is() -> None:
    def identity(source: str, corpus: str) -> dict[str, str]:
        recipe = Recipe.model_validate({"data": {"datasets": {"a": {"source": source}}}})
        return recipe.identity(corpus=corpus, base="", adapter="")

    assert identity("here", "x") == identity("there", "x")
    assert identity("here", "x") != identity("here", "y")
