"""`doctor --deep` imports every engine that is installed, each in a process of its own."""

from __future__ import annotations

import pytest

from appliance.engine.import_checks import deep_checks
from appliance.machine.machine import find_machine
from appliance.machine.software import ENGINE_PACKAGES, version_of

pytestmark = pytest.mark.engine


def test_every_installed_engine_imports() -> None:
    found = {check.name: (check.status, check.found) for check in deep_checks(find_machine())}
    installed = [name for name in ENGINE_PACKAGES if version_of(name) is not None]
    assert set(found) == {f"import {name}" for name in installed}
    assert {name: check for name, check in found.items() if check[0] != "PASS"} == {}
