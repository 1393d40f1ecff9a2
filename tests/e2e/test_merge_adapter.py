"""`appliance merge-adapter` on adapters of every kind, trained a few steps on a small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.engine.folder.identity import weights_sha
from appliance.engine.load_model import load_causal_lm
from tests.support.small_lm import save_chat_model

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "rslora+dora": {"use_rslora": True, "use_dora": True},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("models") / "base")


def train_a_little(model: Any) -> None:
    ids = torch.arange(64).reshape(2, 32)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def make_adapter(base: Path, folder: Path, *, is_nf4: bool = False, **config: Any) -> Path:
    """An adapter of peft's own writing with the record that the appliance adds."""
    from peft import LoraConfig, get_peft_model

    quantization = "nf4" if is_nf4 else "none"
    loaded = load_causal_lm(base, dtype="float32", device="cpu", quantization=quantization)
    plan = LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **config
    )
    model = get_peft_model(loaded, plan)
    train_a_little(model)
    model.save_pretrained(str(folder))
    record = {"base_sha": weights_sha(base), "quantization": quantization}
    (folder / "appliance.json").write_text(json.dumps(record))
    return folder


def merge(*arguments: object, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main(["merge-adapter", *map(str, arguments), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(40)[None], use_cache=False).logits


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_answers_as_base_and_adapter(
    kind: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftModel

    adapter = make_adapter(base, tmp_path / "adapter", **KINDS[kind])
    done = merge(base, adapter, tmp_path / "merged", capsys=capsys)
    assert done["kind"] == kind
    assert done["effect"] > 0.05  # else the check below would hold for a merge that did nothing
    worn = PeftModel.from_pretrained(
        load_causal_lm(base, dtype="float32", device="cpu"), str(adapter)
    )
    merged = load_causal_lm(tmp_path / "merged", dtype="float32", device="cpu")
    torch.testing.assert_close(logits(merged), logits(worn), atol=1e-4, rtol=1e-3)


def test_an_adapter_of_an_nf4_base_is_merged_into_the_weights_that_it_saw(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftModel

    adapter = make_adapter(base, tmp_path / "adapter", is_nf4=True)
    done = merge(base, adapter, tmp_path / "merged", capsys=capsys)
    original = merge(base, adapter, tmp_path / "original", "--onto", "original", capsys=capsys)
    assert (done["quantization"], original["quantization"]) == ("nf4", "none")
    quantized = load_causal_lm(base, dtype="float32", device="cpu", quantization="nf4")
    trained = logits(PeftModel.from_pretrained(quantized, str(adapter)))
    merged = logits(load_causal_lm(tmp_path / "merged", dtype="float32", device="cpu"))
    torch.testing.assert_close(merged, trained, atol=1e-4, rtol=1e-3)
    other = logits(load_causal_lm(tmp_path / "original", dtype="float32", device="cpu"))
    assert (other - trained).abs().max() > 10 * (merged - trained).abs().max()


def test_fully_trained_weights_take_the_tokenizer_of_their_base(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from appliance.engine.tokens import Codec

    model = load_causal_lm(base, dtype="float32", device="cpu")
    train_a_little(model)
    model.save_pretrained(tmp_path / "full")
    done = merge(base, tmp_path / "full", tmp_path / "merged", "--dtype", "bfloat16", capsys=capsys)
    assert done["kind"] == "full"
    assert 0 < done["storage_error"] < 0.1
    assert Codec.load(tmp_path / "merged").eos_id == Codec.load(base).eos_id
    expected = {n: p.to(torch.bfloat16) for n, p in model.named_parameters()}
    merged = load_causal_lm(tmp_path / "merged", dtype="bfloat16", device="cpu")
    assert all(torch.equal(p, expected[n]) for n, p in merged.named_parameters())


def test_an_adapter_of_another_base_is_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    other = save_chat_model(tmp_path / "other", seed=1)
    assert cli.main(["merge-adapter", str(other), str(adapter), str(tmp_path / "merged")]) == 4
    assert "was trained on base" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_a_merge_that_is_not_exact_leaves_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check must catch a merge that scales wrongly, as another peft might."""
    from peft import LoraModel

    adapter = make_adapter(base, tmp_path / "adapter")
    right = LoraModel.merge_and_unload

    def wrong(self: Any) -> Any:
        for name, weight in self.named_parameters():
            if "lora_B" in name:
                weight.data *= 1.2
        return right(self)

    monkeypatch.setattr(LoraModel, "merge_and_unload", wrong)
    assert cli.main(["merge-adapter", str(base), str(adapter), str(tmp_path / "merged")]) == 1
    assert "merged logits differ" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()
