"""A module that answers like pynvml for a machine that is described: no card is needed.

`fake_nvml` makes one for a test, `as_pynvml` puts one in place of pynvml for whole processes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from appliance.machine.gpu import GIB
from tests.support.cases import read_case

MACHINES: Mapping[str, dict[str, Any]] = read_case("nvml.json")
"""By name: driver, newest CUDA of its library, cards."""


class FakeError(Exception):
    pass


def nvml_of(name: str) -> ModuleType:
    """NVML on one of the MACHINES."""
    machine = MACHINES[name]
    return fake_nvml(*machine["cards"], driver=machine["driver"], cuda=machine["cuda"])


def fake_nvml(
    *cards: Mapping[str, Any],
    driver: str = "580.95.05",
    cuda: int | None = 13000,
    fails: Collection[str] | Mapping[str, str] = (),
) -> ModuleType:
    """NVML on a machine with those cards.

    A card has the keys name, gib, used_gib, capability, pids, slices and lost (the error of a card
    that cannot be reached). cuda: None where the library does not tell it. fails: functions that
    raise, with their message.
    """
    module = ModuleType("fake_nvml")

    def answer(name: str, value: Any) -> None:
        def call(*args: Any) -> Any:
            if name in fails:
                told = fails[name] if isinstance(fails, Mapping) else "not supported"
                raise FakeError(f"{name} {told}")
            return value(*args) if callable(value) else value

        setattr(module, name, call)

    def handle(index: int) -> dict[str, Any]:
        card = {"uuid": f"GPU-{index}{index}{index}{index}-aa", **cards[index]}
        if "lost" in card:
            raise FakeError(card["lost"])
        return card

    def child(card: dict[str, Any], position: int) -> dict[str, Any]:
        if position >= len(card.get("slices", ())):
            raise FakeError("not found")
        return {**card, **card["slices"][position]}

    def newest_cuda() -> int:
        if cuda is None:
            raise FakeError("not supported")
        return cuda

    answer("nvmlInit", None)
    answer("nvmlShutdown", None)
    answer("nvmlDeviceGetCount", len(cards))
    answer("nvmlSystemGetDriverVersion", driver.encode())
    answer("nvmlSystemGetCudaDriverVersion_v2", newest_cuda)
    answer("nvmlDeviceGetHandleByIndex", handle)
    answer("nvmlDeviceGetName", lambda c: c["name"].encode())
    answer("nvmlDeviceGetUUID", lambda c: c["uuid"])
    answer(
        "nvmlDeviceGetMemoryInfo",
        lambda c: SimpleNamespace(
            total=int(c["gib"] * GIB), free=int((c["gib"] - c.get("used_gib", 0)) * GIB)
        ),
    )
    answer("nvmlDeviceGetCudaComputeCapability", lambda c: tuple(c.get("capability", (8, 9))))
    answer("nvmlDeviceGetMigMode", lambda c: (int("slices" in c), int("slices" in c)))
    answer("nvmlDeviceGetMaxMigDeviceCount", 7)
    answer("nvmlDeviceGetMigDeviceHandleByIndex", child)
    answer(
        "nvmlDeviceGetComputeRunningProcesses",
        lambda c: [SimpleNamespace(pid=p) for p in c.get("pids", ())],
    )
    module.NVMLError = FakeError  # type: ignore[attr-defined]
    return module


def as_pynvml(folder: Path, name: str) -> None:
    """Put one of the MACHINES in place of pynvml: for processes that look here first."""
    (folder / "pynvml.py").write_text(
        "from tests.support.nvml_machines import nvml_of\n"
        f"globals().update(vars(nvml_of({name!r})))\n"
    )
