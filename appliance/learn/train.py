"""A training from its recipe to the folder of its result, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from appliance.arc.encode import get_encoder
from appliance.arc.prompt import get_style
from appliance.clock import Clock, SystemClock
from appliance.errors import UsageError
from appliance.learn.data.corpus import Corpus, open_source
from appliance.learn.data.documents import DocumentSampler, Mixture
from appliance.learn.data.styles import make_writer
from appliance.learn.examine import Examiner
from appliance.learn.fast.datasets import open_samplers
from appliance.learn.fast.decoder import Decoder
from appliance.learn.fast.likelihood import Examination
from appliance.learn.fast.trainer import train_fast
from appliance.learn.processes import Processes, join_processes
from appliance.learn.recipe import Dataset, Recipe
from appliance.learn.show import Tracker, TrainingDisplay, make_display
from appliance.learn.start import Start, language_of, make_start, style_of
from appliance.learn.training_loop import Figures, Hooks, StepReport, train
from appliance.solve.language import Language


def train_recipe(
    recipe: Recipe,
    *,
    corpus_dir: Path | None,
    out: Path,
    display: str | TrainingDisplay | None = None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Path:
    """Train as the recipe says; the folder of the result, or of the last checkpoint.

    display: one of our own, or its name.

    Raises what `training_loop.train` raises, and InputError for data or a model that cannot be
    read.
    """
    import torch

    clock = SystemClock()
    processes = join_processes(is_gpu=torch.cuda.is_available())
    device = f"cuda:{processes.local_rank}" if torch.cuda.is_available() else "cpu"

    if recipe.loop == "fast" and processes.world_size > 1:
        raise UsageError(
            f"loop fast in {processes.world_size} processes",
            expected="one process: one GPU is enough for a model of this size",
            remedy="start it without accelerate or torchrun, or set loop: stock",
        )

    corpora = {
        name: open_source(d.source or name, corpus_dir) for name, d in recipe.data.datasets.items()
    }
    samples = recipe.evaluation if recipe.loop == "stock" else None
    examiner = Examiner.of(samples, seed=recipe.seed) if samples else None
    start = make_start(recipe, device=device)

    shown = make_display(
        display if processes.is_first else "none",
        max_steps=recipe.optimization.max_steps,
        clock=clock,
    )
    config = recipe.model_dump(mode="json")
    tracker = Tracker(
        recipe.tracking if processes.is_first else "none", project="arc-appliance", config=config
    )

    def report(line: StepReport) -> None:
        shown.show(line)
        tracker.log(line.step, line.__dict__)

    def report_figures(step: int, figures: Figures) -> None:
        shown.show_figures(step, figures)
        tracker.log(step, figures)

    hooks = Hooks(
        report=report,
        evaluate=_evaluation(recipe, examiner, start, clock, processes) if examiner else None,
        report_figures=report_figures,
        is_interrupted=is_interrupted,
        processes=processes,
    )
    identity = recipe.identity(
        corpus=_digest(corpora), base=start.base_sha, adapter=start.adapter_sha
    )

    try:
        if recipe.loop == "fast":
            return train_fast(
                recipe,
                start,
                partial(open_samplers, recipe, corpus_dir, start.style),
                identity,
                out=out,
                clock=clock,
                hooks=hooks,
                evaluate=_likelihood(recipe, start),
            )

        mixture = Mixture(
            [
                (name, _sampler(recipe, dataset, corpora[name], start), dataset.weight)
                for name, dataset in recipe.data.datasets.items()
            ]
        )
        return train(recipe, start, mixture, identity, out=out, clock=clock, hooks=hooks)
    finally:
        shown.close()
        tracker.close()


def _sampler(recipe: Recipe, dataset: Dataset, corpus: Corpus, start: Start) -> DocumentSampler:
    encoder = get_encoder(dataset.encoder or start.encoder)
    return DocumentSampler(
        corpus,
        make_writer(style_of(dataset, start), encoder, start.codec),
        max_tokens=recipe.data.document_tokens,
        min_pairs=dataset.min_pairs,
        max_pairs=dataset.max_pairs,
        keep_colours=dataset.keep_colours,
        deform_share=dataset.deform,
    )


def _evaluation(
    recipe: Recipe, examiner: Examiner, start: Start, clock: Clock, processes: Processes
) -> Callable[[], Figures]:
    """Scores the model that is being trained, in the style that the result's card will name."""
    import torch

    style, encoder = language_of(recipe, start)
    max_positions = int(start.model.config.max_position_embeddings)
    language = Language(get_style(style), get_encoder(encoder), start.codec, max_positions)
    dtype = getattr(torch, start.autocast_dtype or "float32")
    device_type = next(start.model.parameters()).device.type

    def figures() -> Figures:
        with torch.autocast(device_type, dtype, enabled=start.autocast_dtype is not None):
            return examiner.figures(start.model, language, clock=clock, processes=processes)

    return figures


def _likelihood(recipe: Recipe, start: Start) -> Callable[[Decoder], Figures] | None:
    """Judges the model that is being trained by the right answers, without sampling."""
    if recipe.evaluation is None:
        return None
    return Examination.of(
        recipe.evaluation.tasks,
        start.style,
        max_tokens=recipe.data.document_tokens,
        pass_tokens=recipe.data.row_tokens,
        pad_id=start.codec.pad_id,
    ).figures


def _digest(corpora: dict[str, Corpus]) -> str:
    text = "".join(f"{name} {corpus.digest()}" for name, corpus in corpora.items())
    return hashlib.sha256(text.encode()).hexdigest()
