"""The load of cards, asked of a stand-in for NVML."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest

from appliance.machine.load import CardLoad, LoadMeter


class NVMLError(Exception):
    """As that of pynvml."""


def nvml(**functions: object) -> ModuleType:
    """A driver with one card, whose functions can be replaced."""
    module = ModuleType("pynvml")
    working: dict[str, object] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3, total=8),
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=75),
    }
    module.__dict__.update(working | functions)
    return module


def fails(fault: Exception) -> object:
    def function(*_: object) -> None:
        raise fault

    return function


def test_a_card_tells_its_share_and_its_memory() -> None:
    assert LoadMeter(["GPU-1"], nvml=nvml()).cards() == {"GPU-1": CardLoad(0.75, 3, 8)}


def test_a_slice_of_a_card_tells_its_memory_alone() -> None:
    driver = nvml(nvmlDeviceGetUtilizationRates=fails(NVMLError("not supported")))
    assert LoadMeter(["GPU-1"], nvml=driver).cards() == {"GPU-1": CardLoad(None, 3, 8)}


@pytest.mark.parametrize("fault", [NVMLError("lost"), AttributeError("old"), TypeError("bytes")])
@pytest.mark.parametrize(
    "function", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetMemoryInfo"]
)
def test_whatever_a_driver_raises_there_is_no_figure_and_no_error(
    function: str, fault: Exception
) -> None:
    assert LoadMeter(["GPU-1"], nvml=nvml(**{function: fails(fault)})).cards() == {}


def test_machine_memory_is_told_without_a_card() -> None:
    load = LoadMeter().host()
    assert 0 < load.used_bytes < load.total_bytes and 0 <= load.cpu_share <= 1
