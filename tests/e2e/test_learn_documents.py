"""Documents as models read them: both writers agree, styles ask for what they say, all fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.arc.encode import get_encoder
from appliance.arc.prompt import get_style
from appliance.engine.tokens import Codec
from appliance.engine.training.packing import Rows, TokenSequence
from appliance.errors import InputError
from appliance.learn.data.corpus import Corpus, FamilyPairs, assemble, open_source
from appliance.learn.data.documents import DocumentSampler, Mixture, batch_of, passes_of
from appliance.learn.data.styles import StyleWriter, TinyWriter, make_writer
from appliance.models.vocabularies import GRID_TOKENS_V1, GRID_TOKENS_V2, VOCABULARIES, Vocabulary
from tests.support.small_lm import byte_tokenizer

pytestmark = pytest.mark.engine
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tiny_codec() -> Codec:
    from appliance.learn.new_model import tokenizer

    return Codec(tokenizer())


@pytest.fixture(scope="module")
def own_codecs(tiny_codec: Codec) -> dict[str, Codec]:
    """The tokenizers of our own vocabularies, by name."""
    from appliance.learn.new_model import tokenizer

    return {
        GRID_TOKENS_V1.name: tiny_codec,
        GRID_TOKENS_V2.name: Codec(tokenizer(GRID_TOKENS_V2)),
    }


@pytest.fixture(scope="module")
def chat_codec() -> Codec:
    return Codec(byte_tokenizer())


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Two families of flips with their program, one of copies without."""
    rng = np.random.default_rng(0)
    grids = [rng.integers(0, 10, (2, 3)).astype(np.int8) for _ in range(12)]
    flips = [(g, g[:, ::-1].copy()) for g in grids]
    copies = [(g, g) for g in grids]

    return assemble(
        [
            FamilyPairs("flip", flips, "return flip_h(grid)\n"),
            FamilyPairs("copy", copies),
        ]
    )


def style_writer(style: str, codec: Codec, encoder: str = "minimal") -> StyleWriter:
    return StyleWriter(get_style(style), get_encoder(encoder), codec)


def text_and_answer(document: TokenSequence, codec: Codec) -> tuple[str, str]:
    ids = [int(i) for i in document.ids]
    answer = [i for i, target in zip(ids, document.is_target, strict=True) if target]
    return codec.text(tuple(ids)), codec.text(tuple(answer))


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=lambda v: v.name)
def test_both_writers_write_the_same(
    vocabulary: Vocabulary, corpus: Corpus, own_codecs: dict[str, Codec]
) -> None:
    pairs = [corpus.pair(i) for i in range(4)]
    rng = np.random.default_rng(0)
    fast = TinyWriter(vocabulary).write(pairs, "", max_tokens=512, rng=rng)
    slow = style_writer(vocabulary.name, own_codecs[vocabulary.name], vocabulary.encoder).write(
        pairs, "", max_tokens=512, rng=rng
    )

    assert fast is not None and slow is not None
    assert np.array_equal(fast.ids, slow.ids)
    assert np.array_equal(fast.is_target, slow.is_target)


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=lambda v: v.name)
def test_both_writers_write_the_same_program(
    vocabulary: Vocabulary, corpus: Corpus, own_codecs: dict[str, Codec]
) -> None:
    pairs, program = [corpus.pair(i) for i in range(3)], corpus.programs[0]
    rng = np.random.default_rng(0)
    fast = TinyWriter(vocabulary).write(pairs, program, max_tokens=512, rng=rng)
    writer = style_writer("dsl-program-v1", own_codecs[vocabulary.name], vocabulary.encoder)
    slow = writer.write(pairs, writer.as_answer(program), max_tokens=512, rng=rng)

    assert fast is not None and slow is not None
    words = slow.ids[slow.is_target]
    assert np.array_equal(fast.ids[-words.size :], words)


def test_the_fast_writer_keeps_to_the_length_it_was_given(corpus: Corpus) -> None:
    pairs = [corpus.pair(i) for i in range(4)]  # of 2 x 3 cells: 19 tokens each
    rng = np.random.default_rng(0)

    def num_tokens(max_tokens: int, program: str = "") -> int | None:
        document = TinyWriter().write(pairs, program, max_tokens=max_tokens, rng=rng)
        return None if document is None else len(document)

    assert [num_tokens(n) for n in (38, 39, 57, 58, 1000)] == [None, 39, 39, 58, 77]
    # The mark, "return", " ", "flip_h", "(", "grid", ")", the newline and the end.
    assert num_tokens(47, corpus.programs[0]) is None
    assert num_tokens(48, corpus.programs[0]) == 48


def test_the_fast_writer_is_taken_where_it_is_right_only(
    tiny_codec: Codec, chat_codec: Codec, own_codecs: dict[str, Codec]
) -> None:
    tokens, minimal = get_encoder("grid-tokens"), get_encoder("minimal")
    for vocabulary in VOCABULARIES.values():
        style, encoder = get_style(vocabulary.name), get_encoder(vocabulary.encoder)
        for name, codec in own_codecs.items():
            is_fast = isinstance(make_writer(style, encoder, codec), TinyWriter)
            assert is_fast is (name == vocabulary.name)
    assert isinstance(make_writer(get_style("grid-tokens-v1"), tokens, chat_codec), StyleWriter)
    assert isinstance(
        make_writer(get_style("output-from-examples-v1"), minimal, tiny_codec), StyleWriter
    )


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("output-from-examples-v1", "### Output\n\n{output}"),
        ("input-from-inputs-v1", "## New grid\n\n{input}"),
        ("output-from-outputs-v0", "## New grid\n\n{output}"),
        (
            "code-from-examples-v1",
            "from dsl import *\n\n\ndef task(grid):\n    return flip_h(grid)",
        ),
        ("dsl-program-v1", "return flip_h(grid)"),
    ],
)
def test_a_style_is_taught_what_it_asks_for(
    style: str, expected: str, corpus: Corpus, chat_codec: Codec
) -> None:
    pairs = [corpus.pair(i) for i in range(3)]
    rng = np.random.default_rng(0)
    writer = style_writer(style, chat_codec)
    answer = writer.as_answer(corpus.programs[0])
    document = writer.write(pairs, answer, max_tokens=4096, rng=rng)

    assert document is not None
    encoder = get_encoder("minimal")
    grid_in, grid_out = (encoder.encode(g) for g in pairs[-1])
    _, answer = text_and_answer(document, chat_codec)
    assert expected.format(input=grid_in, output=grid_out) in answer
    if style != "dsl-program-v1":  # it learns to stop
        last_target = np.flatnonzero(document.is_target)[-1]
        assert document.ids[last_target] == chat_codec.eos_id


def test_demonstrations_are_dropped_until_a_document_fits(
    corpus: Corpus, chat_codec: Codec
) -> None:
    writer = style_writer("output-from-examples-v1", chat_codec)
    pairs = [corpus.pair(i) for i in range(8)]
    rng = np.random.default_rng(0)
    whole = writer.write(pairs, "", max_tokens=4096, rng=rng)

    assert whole is not None
    shorter = writer.write(pairs, "", max_tokens=len(whole) - 1, rng=rng)
    assert shorter is not None and len(shorter) < len(whole)
    text, _ = text_and_answer(shorter, chat_codec)
    assert "Example 6" in text and "Example 7" not in text
    assert text_and_answer(shorter, chat_codec)[1] == text_and_answer(whole, chat_codec)[1]
    assert writer.write(pairs, "", max_tokens=60, rng=rng) is None


def test_programs_are_asked_of_families_that_have_one(corpus: Corpus, chat_codec: Codec) -> None:
    sampler = DocumentSampler(
        corpus, style_writer("code-from-examples-v1", chat_codec), max_tokens=4096
    )
    for seed in range(10):
        document = sampler.document(np.random.default_rng(seed))
        assert "flip_h" in text_and_answer(document, chat_codec)[1]


def test_data_and_length_that_do_not_go_together_are_refused(
    corpus: Corpus, chat_codec: Codec
) -> None:
    writer = style_writer("output-from-examples-v1", chat_codec)
    with pytest.raises(InputError, match="no family"):
        DocumentSampler(corpus, writer, max_tokens=30)
    with pytest.raises(InputError, match="in a row are longer"):
        DocumentSampler(corpus, writer, max_tokens=100).document(np.random.default_rng(0))


def test_a_deformed_share_is_another_task(corpus: Corpus) -> None:
    plain = DocumentSampler(corpus, TinyWriter(), max_tokens=1000)
    other = DocumentSampler(corpus, TinyWriter(), max_tokens=1000, deform_share=1.0)

    def mean_length(sampler: DocumentSampler) -> float:
        documents = [sampler.document(np.random.default_rng(seed)) for seed in range(60)]
        return float(np.mean([len(document) for document in documents]))

    # Padding, upscaling and mirroring make grids larger.
    assert mean_length(other) > 1.3 * mean_length(plain)


def test_weights_are_shares_of_steps(corpus: Corpus, chat_codec: Codec) -> None:
    outputs = DocumentSampler(
        corpus, style_writer("output-from-examples-v1", chat_codec), max_tokens=1024
    )
    inputs = DocumentSampler(
        corpus, style_writer("input-from-inputs-v1", chat_codec), max_tokens=1024
    )
    mixture = Mixture([("outputs", outputs, 3.0), ("inputs", inputs, 1.0)])
    names = []
    for step in range(40):
        name, documents = batch_of(mixture, seed=0, step=step, row_tokens=1024, num_rows=1)
        assert all(document.is_target.any() for document in documents)
        names.append(name)

    assert 20 <= names.count("outputs") <= 38


def test_a_source_may_be_a_pack_or_plain_tasks(challenges: Path) -> None:
    tasks = open_source(str(challenges), None)
    assert tasks.families[0] == "copy0"
    assert len(tasks.shapes) == 6 * 4  # three demonstrations and one answered test input each
    with pytest.raises(InputError, match="not a packed corpus"):
        open_source("nowhere", None)


def test_passes_hold_every_document_once_and_keep_to_their_sizes(corpus: Corpus) -> None:
    sampler = DocumentSampler(corpus, TinyWriter(), max_tokens=200, min_pairs=2, deform_share=0.5)
    documents = sorted((sampler.document(np.random.default_rng(i)) for i in range(40)), key=len)
    passes = list(passes_of(documents, pad_id=0, max_tokens=600, min_tokens=100))
    rows = [
        (ids[: np.flatnonzero(ids)[-1] + 1], labels)
        for p in passes
        for ids, labels in zip(p.ids, p.labels, strict=True)
    ]

    assert [tuple(ids) for ids, _ in rows] == [tuple(d.ids) for d in documents]
    assert sum(p.num_targets() for p in passes) == sum(int(d.is_target.sum()) for d in documents)
    assert max(p.ids.size for p in passes if len(p.ids) > 1) <= 600
    assert sum(p.ids.size for p in passes) < 1.15 * sum(map(len, documents))


def test_rows_of_a_pass_give_the_losses_of_documents_alone(
    corpus: Corpus, tiny_model: Path
) -> None:
    import torch

    from appliance.engine.load_model import load_causal_lm
    from appliance.engine.training.loss import answer_loss

    model = load_causal_lm(tiny_model, dtype="float32", device="cpu")
    sampler = DocumentSampler(corpus, TinyWriter(), max_tokens=300, min_pairs=2, deform_share=0.5)
    documents = sorted((sampler.document(np.random.default_rng(i)) for i in range(5)), key=len)
    device = torch.device("cpu")

    def total(passes: list[Rows]) -> float:
        with torch.inference_mode():
            return sum(
                float(answer_loss(model, p, device=device)) * p.num_targets() for p in passes
            )

    together = list(passes_of(documents, pad_id=0, max_tokens=10_000, min_tokens=10_000))
    alone = [
        rows for d in documents for rows in passes_of([d], pad_id=0, max_tokens=1, min_tokens=1)
    ]
    assert (len(together), len(alone)) == (1, 5)
    assert total(together) == pytest.approx(total(alone), rel=1e-5)
