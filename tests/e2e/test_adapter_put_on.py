"""What PEFT reports of an adapter is read, and an adapter of any kind is sampled as PEFT has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.engine.adapter.examine import examine_adapter
from appliance.engine.folder.identity import weights_sha
from appliance.engine.load_model import load_causal_lm, open_adapter
from appliance.engine.training.peft_trainer import PeftTrainer
from appliance.errors import InputError
from tests.support.small_lm import save_chat_model

pytestmark = [
    pytest.mark.engine,
    # PEFT's advice on tied weights, which are never folded into here.
    pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model with .tie_word_embeddings:UserWarning"),
]
torch = pytest.importorskip("torch")

KINDS: dict[str, dict[str, Any]] = {
    "linear": {"target_modules": "all-linear"},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "whole head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [5, 7]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("models") / "base")


def save_adapter(base: Path, folder: Path, *, moved: float = 0.1, **config: Any) -> Path:
    """An adapter of PEFT's own writing; its head and embedding are tied to one another."""
    from peft import LoraConfig, get_peft_model

    model = load_causal_lm(base, dtype="float32", device="cpu")
    plan = LoraConfig(r=4, task_type="CAUSAL_LM", **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        adapted = get_peft_model(model, plan)
        with torch.no_grad():
            for weight in adapted.parameters():
                if weight.requires_grad and moved:
                    weight.add_(moved * torch.randn_like(weight))
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(40)[None], use_cache=False).logits.float()


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_any_kind_is_sampled_as_peft_has_it(
    kind: str, autocast: str | None, base: Path, tmp_path: Path
) -> None:
    """Folded into tied weights it would change head and embedding both."""
    from peft import PeftModel

    folder = save_adapter(base, tmp_path / "a", **KINDS[kind])
    assert examine_adapter(folder, base) == ()
    plain = load_causal_lm(base, dtype="float32", device="cpu")
    before = logits(plain)
    expected = logits(PeftModel.from_pretrained(plain, str(folder)))

    trainer = PeftTrainer(
        load_causal_lm(base, dtype="float32", device="cpu"),
        pad_id=0,
        base_sha=weights_sha(base),
        autocast_dtype=autocast,
        shipped_adapter=folder,
    )
    trainer.start_from_shipped()
    with trainer.merged() as model:
        found = logits(model)
    way = (expected - before).abs().max()
    assert (found - expected).abs().max() < (0.2 if autocast else 1e-3) * way
    assert (logits(trainer.adapted()) - expected).abs().max() < 0.2 * way


def test_slots_without_weights_are_refused(base: Path, tmp_path: Path) -> None:
    """By its full names an adapter looks whole; PEFT alone knows what "all-linear" means."""
    import json

    from safetensors.torch import load_file, save_file

    folder = save_adapter(base, tmp_path / "a", target_modules=["q_proj", "v_proj"])
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = "all-linear"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    path = folder / "adapter_model.safetensors"
    save_file({k: v.contiguous() for k, v in load_file(path).items()}, path)

    with pytest.warns(UserWarning, match="missing adapter keys"):
        refuse(base, folder, "20 with no weights")


def test_an_adapter_that_moves_no_logit_is_refused(base: Path, tmp_path: Path) -> None:
    """Its files do not tell: DoRA has vectors beside B, which is zero."""
    folder = save_adapter(base, tmp_path / "a", moved=0.0, target_modules=["q_proj"], use_dora=True)
    assert examine_adapter(folder, base) == ()
    refuse(base, folder, "changes nothing")


def refuse(base: Path, folder: Path, said: str) -> None:
    model = load_causal_lm(base, dtype="float32", device="cpu")
    with pytest.raises(InputError, match=said):
        open_adapter(model, folder, base_sha=weights_sha(base), remedy="pass another")
