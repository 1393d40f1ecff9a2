"""Base weights in nf4 in vLLM, by its plug-in, which a process loads once: so in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cases import REPOSITORY

pytestmark = pytest.mark.engine
for package in ("torch", "vllm", "bitsandbytes", "vllm_bnb_plugin"):
    pytest.importorskip(package)

SERVED = """
import json, sys
from dataclasses import replace
from pathlib import Path
from appliance.engine.environment import prepare_process
prepare_process()
from appliance.arc.encode import get_encoder
from appliance.arc.prompt import get_style
from appliance.arc.source import load_tasks
from appliance.engine.base import EngineSpec, Request
from appliance.engine.registry import make_server, make_trainer
from appliance.engine.tokens import Codec
from appliance.solve.language import Language
from tests.support.tuning import SETTINGS, in_seconds, tune

model, tasks, scratch = map(Path, sys.argv[1:])
spec = EngineSpec(model, scratch, autocast_dtype="bfloat16", quantization="nf4", max_rank=8,
                  max_seq_tokens=1024, max_num_seqs=4, kv_cache_bytes=16 << 20,
                  serving="on-the-fly")
codec = Codec.load(model)
language = Language(get_style("grid-tokens-v1"), get_encoder("grid-tokens"), codec, 1024)
trainer = make_trainer("peft", spec, codec)
server = make_server("vllm", spec, codec, trainer)
told = []

for number, task in enumerate(load_tasks(str(tasks)).tasks[:3]):
    settings = replace(SETTINGS, learning_rate=2e-2)
    outcome = tune(trainer, task, language, scratch / f"adapter-{number}", settings, seed=number)
    with server.serve(trainer, adapter_dir=outcome.adapter_dir, batch_tokens=4096) as served:
        request = Request(language.prompt_ids(task, 0), max_new_tokens=10)
        found = [c for b in served.sampler.sample([request], deadline=in_seconds(60)) for c in b]
        told.append({"how": served.how, "refused": served.refused, "answers": len(found)})
print(json.dumps(told))
"""


def test_adapters_on_weights_in_nf4_pass_the_canary(
    tiny_model: Path, challenges: Path, tmp_path: Path
) -> None:
    folders = [str(tiny_model), str(challenges), str(tmp_path)]
    command = [sys.executable, "-c", SERVED, *folders]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == [{"how": "vllm on-the-fly", "refused": [], "answers": 1}] * 3
