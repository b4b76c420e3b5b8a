"""Turn a recipe's passes into a model folder: the upload itself, a cached build, or the work of a child."""

from __future__ import annotations

import shutil

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.passes.build_key import build_key
from optimizer.pipeline.builds import Build, BuildCache, digest_folder
from optimizer.pipeline.subject import Subject, result_of
from optimizer.sandbox import ChildJob, Sandbox
from optimizer.specs import ModelCard, Recipe

ENTRY = "optimizer.passes.child:apply_recipe"


def materialise(recipe: Recipe, *, subject: Subject, cache: BuildCache, sandbox: Sandbox) -> Build:
    """The recipe's model. Raises StepFailed (``pass.*``, ``child.*``)."""
    if not recipe.passes:
        return as_uploaded(subject)
    key = key_of(recipe, subject)
    return cache.find(key) or _build(key, recipe, subject=subject, cache=cache, sandbox=sandbox)


def as_uploaded(subject: Subject) -> Build:
    """The untouched upload."""
    sha256, size_bytes = digest_folder(subject.model_dir)
    return Build(
        key=subject.card.sha256, folder=subject.model_dir, entry=subject.entry, card=subject.card, sha256=sha256, size_bytes=size_bytes
    )


def key_of(recipe: Recipe, subject: Subject) -> str:
    """Build key: model, passes, calibration examples, bound shapes, tool versions."""
    calibration = subject.calibration.digest if subject.calibration else ""
    return build_key(subject.card.sha256, recipe.passes, calibration_digest=calibration, shapes=subject.inputs.shapes)


def _build(key: str, recipe: Recipe, *, subject: Subject, cache: BuildCache, sandbox: Sandbox) -> Build:
    job = ChildJob(
        entry=ENTRY,
        params={
            "entry": subject.entry,
            "passes": [to_jsonable(step) for step in recipe.passes],
            "card": to_jsonable(subject.card),
            "hardware": to_jsonable(subject.hardware),
            "shapes": subject.shapes,
        },
        binds={"model": subject.model_dir, **({"calibration": subject.calibration.folder} if subject.calibration else {})},
        limits=subject.limits,
    )
    outcome = sandbox.run(job, cancelled=subject.cancelled)
    try:
        result = result_of(outcome)
        card = from_jsonable(ModelCard, result["card"])
        return cache.store(key, produced=outcome.out_dir / "model", entry=str(result["entry"]), card=card, facts=list(result["facts"]))
    finally:
        shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)
