"""One sandbox for all hostile programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from appliance.program.sandbox import Sandbox
from tests.support.sandbox_host import ATTACK_MODULES, SECRET, Host, num_processes


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    folder.chmod(0o777)
    (folder / "canary").write_text("sings")
    (folder / "canary").chmod(0o666)
    (folder / "solutions.json").write_text(SECRET)
    os.environ["SECRET_TOKEN"] = SECRET

    with Sandbox(workers=1, preload=ATTACK_MODULES) as sandbox:
        fresh = Host(sandbox, folder)
        control = fresh.run_control()
        assert control.count('["ok"') == 2, control
        yield replace(fresh, control=control, num_processes=num_processes())
    del os.environ["SECRET_TOKEN"]
