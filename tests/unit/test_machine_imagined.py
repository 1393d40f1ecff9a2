"""Machines that are planned for and not here: their cards, and the computer around them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.config import profile_names
from appliance.errors import UsageError
from appliance.machine.catalogue import CARDS
from appliance.machine.finding import Status
from appliance.machine.gpu import GIB
from appliance.machine.imagined import imagined, split_count, with_cards
from appliance.machine.machine import Machine, find_machine
from appliance.machine.profile_check import check_expectation, profile_expectation


def other_computer() -> Machine:
    """A large one, unlike that of the test."""
    here = find_machine({})
    host = replace(here.host, num_cores=96, memory_bytes=512 * GIB, isa=("amx-bf16", "avx512"))
    return replace(here, host=host)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("T4x2", ("T4", 2)),
        ("2xT4", ("T4", 2)),
        ("RTX3090", ("RTX3090", 1)),
        ("rtx-3090x4", ("rtx-3090", 4)),
        ("L4 x 4", ("L4", 4)),
    ],
)
def test_counts_of_cards_are_read_from_names(text: str, parts: tuple[str, int]) -> None:
    assert split_count(text) == parts


def test_this_machine_can_be_imagined_with_other_cards() -> None:
    machine = find_machine({})
    assert len(imagined(machine, "T4x2").gpus) == 2
    assert imagined(machine, "none").gpus == ()
    with pytest.raises(UsageError, match="0 cards"):
        imagined(machine, "T4x0")


@pytest.mark.parametrize("gpu", ["L4x4", "T4x2", "A6000", "H100x8"])
def test_an_imagined_machine_is_the_same_wherever_it_is_imagined(gpu: str) -> None:
    assert imagined(find_machine({}), gpu) == imagined(other_computer(), gpu)


@pytest.mark.parametrize(("gpu", "cores", "memory_gib"), [("L4x4", 48, 192), ("T4x2", 4, 31)])
def test_kaggles_machines_have_their_own_hosts(gpu: str, cores: int, memory_gib: int) -> None:
    host = imagined(find_machine({}), gpu).host
    assert host.num_cores == cores
    assert host.memory_bytes == host.memory_free_bytes == memory_gib * GIB
    assert host.cores_reason.startswith("imagined: Kaggle's machine with")
    assert not host.can_bf16


@pytest.mark.parametrize("card", [card.name for card in CARDS])
def test_any_card_gets_a_usual_host_that_grows_with_their_number(card: str) -> None:
    one, eight = (imagined(find_machine({}), f"{card}x{n}").host for n in (1, 8))
    assert one.num_cores == 8 and eight.num_cores == 64
    assert eight.memory_bytes > 7.9 * one.memory_bytes
    assert one.memory_reason == f"imagined: a usual host of 1 x {card}"


def test_the_machine_of_a_profile_is_imagined_as_large_as_the_profile_asks() -> None:
    profiles = {name: profile_expectation(name) for name in profile_names()}
    for name, expectation in profiles.items():
        if expectation.gpu:
            machine = imagined(find_machine({}), f"{expectation.gpu}x{expectation.num_gpus}")
            statuses = {c.status for c in check_expectation(machine, expectation)}
            assert statuses == {Status.PASS}, name


def test_the_summary_says_that_the_machine_is_imagined() -> None:
    here = find_machine({})
    assert imagined(here, "L4x4").summary() == (
        "4 x L4 (22.0 GiB, capability 8.9), 48 cores, 192.0 GiB, "
        "imagined: Kaggle's machine with four L4"
    )
    assert "imagined" not in here.summary()


def test_without_gpus_the_host_found_here_stays() -> None:
    here = find_machine({})
    assert imagined(here, "none").host == here.host
    assert imagined(here, "none").summary().endswith("its GPUs left out")


def test_cards_alone_can_be_put_into_a_known_host() -> None:
    other = other_computer()
    machine = with_cards(other, "T4x2")
    assert len(machine.gpus) == 2
    assert machine.host == other.host
