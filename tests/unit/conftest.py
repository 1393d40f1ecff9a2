"""What unit tests of the verbs share."""

from __future__ import annotations

import pytest

from appliance.commands import submit
from appliance.run.launch import Launch


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """Runs that were about to begin, in place of running them."""
    launches: list[Launch] = []

    def note(start: Launch) -> int:
        launches.append(start)
        return 0

    monkeypatch.setattr(submit, "launch", note)
    return launches
