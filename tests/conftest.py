"""For every test: no deadline for Hypothesis (machines differ), no settings from the shell, and a
foreign exception is seen as it is."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from appliance.config import CPU_BF16_VARIABLE
from appliance.process.guard import DEBUG_VARIABLE

# Helpers assert, too; pytest shows the values of a failed assertion only where it was told to.
pytest.register_assert_rewrite("tests.support")

settings.register_profile("appliance", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("appliance")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings in the developer's shell must not reach a test; what it says of the machine may."""
    for name in list(os.environ):
        if name.startswith("APPLIANCE_") and name != CPU_BF16_VARIABLE:
            monkeypatch.delenv(name)
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
