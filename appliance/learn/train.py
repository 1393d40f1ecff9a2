"""A training from its recipe to the folder of its result, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from appliance.arc.encode import get_encoder
from appliance.arc.prompt import get_style
from appliance.arc.source import load_tasks
from appliance.clock import Clock, SystemClock
from appliance.engine.environment import hide_flashinfer, take_one_card
from appliance.engine.training.unsloth_trainer import import_unsloth
from appliance.errors import UsageError
from appliance.learn.adapt import choose_trainer
from appliance.learn.data.corpus import Corpus, open_source
from appliance.learn.data.documents import DocumentSampler, Mixture
from appliance.learn.data.styles import make_writer
from appliance.learn.data.validation import Validation
from appliance.learn.examine import Examiner
from appliance.learn.fast.datasets import open_samplers
from appliance.learn.fast.decoder import Decoder
from appliance.learn.fast.likelihood import Examination
from appliance.learn.fast.trainer import train_fast
from appliance.learn.optimize import check_optimizer
from appliance.learn.processes import Processes, join_processes
from appliance.learn.provenance import Provenance
from appliance.learn.recipe import JUDGED, Dataset, Recipe
from appliance.learn.show import TrainingDisplay, make_display
from appliance.learn.start import Start, language_of, make_start, style_of
from appliance.learn.training_loop import MIN_PASS_TOKENS, Figures, Hooks, StepReport, train
from appliance.machine.host import Host
from appliance.machine.machine import find_machine
from appliance.record.tracking import check_service, open_tracking
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
    clock = SystemClock()
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    machine = find_machine()
    has_gpu = bool(machine.gpus)

    # All that can be refused is refused before a model is loaded.
    check_service(recipe.tracking)
    check_optimizer(recipe.optimization, has_gpu=has_gpu)
    trainer = choose_trainer(recipe, has_gpu=has_gpu, num_processes=num_processes)
    if recipe.loop == "fast" and num_processes > 1:
        raise UsageError(
            f"loop fast in {num_processes} processes",
            expected="one process: one GPU is enough for a model of this size",
            remedy="start it without accelerate or torchrun, or set loop: stock",
        )
    corpora = {
        name: open_source(dataset.source or name.removeprefix(JUDGED), corpus_dir)
        for name, dataset in recipe.sources().items()
    }
    plan, examiner, judged = recipe.evaluation, None, None
    if plan and plan.tasks:
        judged = load_tasks(plan.tasks)
        if recipe.loop == "stock":
            examiner = Examiner.of(plan, judged, seed=recipe.seed)

    if num_processes == 1:
        take_one_card(machine)
    scratch_dir = out / "scratch"
    if trainer == "unsloth":
        hide_flashinfer()
        # It changes transformers and peft, so it comes before them.
        import_unsloth(scratch_dir, device="cuda" if has_gpu else "cpu")
    import torch

    processes = join_processes(is_gpu=torch.cuda.is_available())
    device = f"cuda:{processes.local_rank}" if torch.cuda.is_available() else "cpu"
    start = make_start(recipe, device=device, trainer=trainer, scratch_dir=scratch_dir)

    shown = make_display(
        display if processes.is_first else "none",
        max_steps=recipe.optimization.max_steps,
        clock=clock,
    )
    provenance = Provenance(
        out,
        recipe,
        given={
            "base_sha": start.base_sha,
            "adapter_sha": start.adapter_sha,
            "data": {name: corpus.digest() for name, corpus in corpora.items()},
            "tasks": {plan.tasks: judged.digest()} if plan and judged else {},
        },
        session={
            "device": _device_name(device, machine.host),
            "processes": processes.world_size,
            "trainer": trainer,
            "precision": start.autocast_dtype or "float32",
        },
        clock=clock,
    )
    evaluate = _evaluation(recipe, examiner, corpora, start, clock, processes)
    tracker = open_tracking(
        recipe.tracking if processes.is_first else "none",
        out / "tracking",
        run=out.resolve().name,
        config=recipe.model_dump(mode="json"),
        note=lambda text: print(f"appliance: {text}", file=sys.stderr),
    )

    def report(line: StepReport) -> None:
        shown.show(line)
        tracker.log(line.step, line.__dict__)

    def report_figures(step: int, figures: Figures) -> None:
        shown.show_figures(step, figures)
        tracker.log(step, figures)

    hooks = Hooks(
        report=report,
        evaluate=evaluate,
        report_figures=report_figures,
        reached=provenance.reached,
        is_interrupted=is_interrupted,
        processes=processes,
    )
    learned = {name: corpora[name] for name in recipe.data.datasets}
    identity = recipe.identity(
        corpus=_digest(learned), base=start.base_sha, adapter=start.adapter_sha, trainer=trainer
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
        if processes.is_first:
            shutil.rmtree(scratch_dir, ignore_errors=True)


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
    recipe: Recipe,
    examiner: Examiner | None,
    corpora: Mapping[str, Corpus],
    start: Start,
    clock: Clock,
    processes: Processes,
) -> Callable[[], Figures] | None:
    """Scores the model that is being trained: its answers, in the style that the result's card will
    name, and its loss on other documents. None where the recipe asks for neither.
    """
    plan = recipe.evaluation
    if plan is None or recipe.loop == "fast":
        return None

    style, encoder = language_of(recipe, start)
    max_positions = int(start.model.config.max_position_embeddings)
    language = Language(get_style(style), get_encoder(encoder), start.codec, max_positions)
    validation = Validation.of(
        [
            (name, _sampler(recipe, dataset, corpora[JUDGED + name], start))
            for name, dataset in plan.datasets.items()
        ],
        plan.documents,
    )

    def figures() -> Figures:
        scores: Figures = {}
        if examiner:
            with start.autocast():
                scores |= examiner.figures(start.model, language, clock=clock, processes=processes)
        if plan.datasets:
            scores |= validation.figures(
                start.read_loss,
                pad_id=start.codec.pad_id,
                max_tokens=recipe.data.pass_tokens,
                min_tokens=MIN_PASS_TOKENS[start.device.type],
                processes=processes,
            )
        return scores

    return figures


def _likelihood(recipe: Recipe, start: Start) -> Callable[[Decoder], Figures] | None:
    """Judges the model that is being trained by the right answers, without sampling."""
    plan = recipe.evaluation
    if plan is None or plan.tasks is None:
        return None
    return Examination.of(
        plan.tasks,
        start.style,
        max_tokens=recipe.data.document_tokens,
        pass_tokens=recipe.data.row_tokens,
        pad_id=start.codec.pad_id,
    ).figures


def _device_name(device: str, host: Host) -> str:
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return f"{host.cpu_model}, {host.num_cores} cores, {torch.get_num_threads()} threads"


def _digest(corpora: dict[str, Corpus]) -> str:
    text = "".join(f"{name} {corpus.digest()}" for name, corpus in corpora.items())
    return hashlib.sha256(text.encode()).hexdigest()
