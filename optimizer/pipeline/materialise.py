"""Turn a recipe's passes into a model folder: the upload itself, a cached build, or the work of a child."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimizer.backends.start_cache import processor
from optimizer.codec import digest, from_jsonable, to_jsonable
from optimizer.passes import optimization_pass
from optimizer.passes.build_key import build_key
from optimizer.pipeline.builds import Build, BuildCache, digest_folder
from optimizer.pipeline.subject import Subject, result_of
from optimizer.sandbox import ChildJob, Sandbox
from optimizer.specs import ModelCard, PassNeeds, Recipe

ENTRY = "optimizer.pipeline.build_child:apply_recipe"
PREPARE = "optimizer.pipeline.prepare_child:prepare"


def materialise(recipe: Recipe, *, subject: Subject, cache: BuildCache, sandbox: Sandbox) -> Build:
    """The recipe's model. Raises StepFailed (``pass.*``, ``child.*``, ``backend.*``)."""
    build = _rewritten(recipe, subject=subject, cache=cache, sandbox=sandbox)
    if not recipe.settings.cached:
        return build
    key = _prepared_key(build, recipe, subject)
    return cache.find(key) or _prepare(key, build, recipe, subject=subject, cache=cache, sandbox=sandbox)


def _rewritten(recipe: Recipe, *, subject: Subject, cache: BuildCache, sandbox: Sandbox) -> Build:
    if not recipe.passes:
        return as_uploaded(subject)
    key = key_of(recipe, subject)
    return cache.find(key) or _build(key, recipe, subject=subject, cache=cache, sandbox=sandbox)


def _prepared_key(build: Build, recipe: Recipe, subject: Subject) -> str:
    """What the runtime prepares holds for its own version, this processor, these settings and shapes alone."""
    return digest([build.sha256, recipe.backend, recipe.settings, subject.opened_shapes, subject.hardware.runtimes, processor()])


def _prepare(key: str, build: Build, recipe: Recipe, *, subject: Subject, cache: BuildCache, sandbox: Sandbox) -> Build:
    params = {"entry": build.entry, "backend": recipe.backend, "settings": to_jsonable(recipe.settings), "shapes": subject.opened_shapes}
    job = ChildJob(entry=PREPARE, params=params, binds={"model": build.folder}, limits=subject.limits)
    outcome = sandbox.run(job, cancelled=subject.cancelled)
    try:
        facts = [*build.facts, {"pass": "start_cache", "files": dict(result_of(outcome)["files"])}]
        return cache.store(key, produced=outcome.out_dir / "model", entry=build.entry, card=build.card, facts=facts)
    finally:
        shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)


def as_uploaded(subject: Subject) -> Build:
    """The untouched upload."""
    sha256, size_bytes = digest_folder(subject.model_dir)
    return Build(
        key=subject.card.sha256, folder=subject.model_dir, entry=subject.entry, card=subject.card, sha256=sha256, size_bytes=size_bytes
    )


def key_of(recipe: Recipe, subject: Subject) -> str:
    """Build key: model, passes, the data they use, bound shapes, tool versions."""
    return build_key(subject.card.sha256, recipe.passes, data_digest=_data_digest(recipe, subject), shapes=subject.inputs.shapes)


def _data_digest(recipe: Recipe, subject: Subject) -> str:
    """Calibration examples; where forms are tried out, also what they are held to, and the instruction sets they were tried with."""
    calibration = subject.calibration.digest if subject.calibration else ""
    if not _tries_forms(recipe) or subject.choosing is None:
        return calibration
    return digest([calibration, subject.choosing.digest, to_jsonable(subject.yardstick), sorted(subject.hardware.instruction_sets)])


def _tries_forms(recipe: Recipe) -> bool:
    return any(optimization_pass(step.name).needs is PassNeeds.EVALUATION for step in recipe.passes)


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """What the child gets so that passes can try forms; nothing when none does."""

    params: dict[str, Any] = field(default_factory=dict)
    binds: dict[str, Path] = field(default_factory=dict)


def _evaluation(recipe: Recipe, subject: Subject) -> _Evaluation:
    if not _tries_forms(recipe) or subject.choosing is None or subject.yardstick is None:
        return _Evaluation()
    params = {
        "yardstick": to_jsonable(subject.yardstick),
        "backend": recipe.backend,
        "names": [tensor.name for tensor in subject.card.inputs],
        "indices": list(range(subject.choosing.n)),
    }
    return _Evaluation(params, {"inputs": subject.choosing.folder})


def _build(key: str, recipe: Recipe, *, subject: Subject, cache: BuildCache, sandbox: Sandbox) -> Build:
    evaluation = _evaluation(recipe, subject)
    job = ChildJob(
        entry=ENTRY,
        params={
            **evaluation.params,
            "entry": subject.entry,
            "passes": [to_jsonable(step) for step in recipe.passes],
            "card": to_jsonable(subject.card),
            "hardware": to_jsonable(subject.hardware),
            "shapes": subject.shapes,
        },
        binds={
            "model": subject.model_dir,
            **({"calibration": subject.calibration.folder} if subject.calibration else {}),
            **evaluation.binds,
        },
        limits=subject.limits,
    )
    outcome = sandbox.run(job, cancelled=subject.cancelled)
    try:
        result = result_of(outcome)
        card = from_jsonable(ModelCard, result["card"])
        return cache.store(key, produced=outcome.out_dir / "model", entry=str(result["entry"]), card=card, facts=list(result["facts"]))
    finally:
        shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)
