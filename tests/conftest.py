"""For every test: no deadline for Hypothesis (machines differ), and no settings from the shell."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Helpers assert, too; pytest shows the values of a failed assertion only where it was told to.
pytest.register_assert_rewrite("tests.support")

settings.register_profile("appliance", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("appliance")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings in the developer's shell must not reach a test."""
    for name in list(os.environ):
        if name.startswith("APPLIANCE_"):
            monkeypatch.delenv(name)
