"""The command line as a newcomer meets it: help without torch, clear errors, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from appliance import cli
from appliance.errors import EXIT_USAGE

HEAVY = ("torch", "transformers", "peft", "unsloth", "vllm", "bitsandbytes")


def fresh_modules(code: str) -> set[str]:
    """Top-level modules that a new interpreter holds after running the code."""
    script = (
        f"{code}\nimport sys; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy() -> None:
    loaded = fresh_modules("from appliance import cli; cli.main(['--help'])")
    assert not loaded & {*HEAVY, "numpy", "pydantic"}


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_of_a_verb_imports_no_engine(verb: str) -> None:
    call = f"from appliance import cli\ntry:\n    cli.main([{verb!r}, '--help'])"
    code = call + "\nexcept SystemExit as done:\n    assert done.code == 0"
    assert not fresh_modules(code) & set(HEAVY)


def test_no_verb_shows_the_overview_and_counts_as_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == EXIT_USAGE
    assert "submit" in capsys.readouterr().out


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sumbit"]) == EXIT_USAGE
    assert "did you mean submit?" in capsys.readouterr().err


def test_every_verb_can_be_imported_and_has_its_two_functions() -> None:
    import importlib

    for module_name, _ in cli.VERBS.values():
        module = importlib.import_module(module_name)
        assert callable(module.add_arguments)
        assert callable(module.run)
