"""Turn a recipe's passes into a model folder: the upload itself, a cached build, or the work of a child."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optimizer.backends.start_cache import processor
from optimizer.codec import digest, from_jsonable, to_jsonable
from optimizer.passes import optimization_pass
from optimizer.passes.build_key import build_key
from optimizer.passes.child import CHECKPOINTS, PROGRESS
from optimizer.passes.external import ExternalTool
from optimizer.pipeline.builds import Build, BuildCache, check_files, digest_folder
from optimizer.pipeline.subject import Subject, result_of
from optimizer.sandbox import ChildJob, Sandbox
from optimizer.specs import ModelCard, PassNeeds, Recipe, TaskKind

ENTRY = "optimizer.pipeline.build_child:apply_recipe"
PREPARE = "optimizer.pipeline.prepare_child:prepare"
WORDS_AT_MOST = 200


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
    found = cache.find(key)
    if found is not None:
        return found
    count = _steps_to_share(recipe)
    if not count:
        return _build(key, recipe, begun=as_uploaded(subject), subject=subject, cache=cache, sandbox=sandbox)
    begun = _rewritten(replace(recipe, passes=recipe.passes[:count]), subject=subject, cache=cache, sandbox=sandbox)
    return _build(key, replace(recipe, passes=recipe.passes[count:]), begun=begun, subject=subject, cache=cache, sandbox=sandbox)


def _steps_to_share(recipe: Recipe) -> int:
    """How many first steps are built on their own because training them is dear: up to the last that trains, if others follow.

    Passes that try forms compare with the untouched model and need the whole chain in one child.
    """
    trains = [index for index, step in enumerate(recipe.passes, start=1) if optimization_pass(step.name).needs is PassNeeds.TRAINING]
    return trains[-1] if trains and trains[-1] < len(recipe.passes) and not _needs(recipe, PassNeeds.EVALUATION) else 0


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


def _held_to(subject: Subject) -> Any:
    """The yardstick without how many sealed examples the time holds: a search that goes on with less time left keeps its builds."""
    return subject.yardstick and to_jsonable(replace(subject.yardstick, sealed_examples=0))


def _data_digest(recipe: Recipe, subject: Subject) -> str:
    """Calibration examples; where forms are tried out, also what they are held to; where a model is trained, what it learns.

    Both depend on the instruction sets they were made with.
    """
    parts: list[Any] = [subject.calibration.digest if subject.calibration else ""]
    if _needs(recipe, PassNeeds.EVALUATION) and subject.choosing is not None:
        parts += [subject.choosing.digest, _held_to(subject), sorted(subject.hardware.instruction_sets)]
    if _needs(recipe, PassNeeds.TRAINING) and subject.training is not None:
        parts += [subject.training.digest, _task(subject), subject.seed, sorted(subject.hardware.instruction_sets)]
    return digest(parts) if len(parts) > 1 else str(parts[0])


def _needs(recipe: Recipe, what: PassNeeds) -> bool:
    return any(optimization_pass(step.name).needs is what for step in recipe.passes)


def _task(subject: Subject) -> TaskKind:
    return subject.yardstick.task if subject.yardstick else subject.card.task


@dataclass(frozen=True, slots=True)
class _Extras:
    """What the child gets beyond the model so that passes can try forms, or train; nothing when none does."""

    params: dict[str, Any] = field(default_factory=dict)
    binds: dict[str, Path] = field(default_factory=dict)


def _evaluation(recipe: Recipe, subject: Subject) -> _Extras:
    if not _needs(recipe, PassNeeds.EVALUATION) or subject.choosing is None or subject.yardstick is None:
        return _Extras()
    params = {
        "yardstick": to_jsonable(subject.yardstick),
        "backend": recipe.backend,
        "names": [tensor.name for tensor in subject.card.inputs],
        "indices": list(range(subject.choosing.n)),
    }
    return _Extras(params, {"inputs": subject.choosing.folder})


def _training(recipe: Recipe, subject: Subject, *, earlier: Path) -> _Extras:
    if not _needs(recipe, PassNeeds.TRAINING) or subject.training is None:
        return _Extras()
    binds = {"training": subject.training.folder, **({"checkpoint": earlier} if earlier.is_dir() else {})}
    return _Extras({"task": _task(subject), "seed": subject.seed}, binds)


def _build(key: str, recipe: Recipe, *, begun: Build, subject: Subject, cache: BuildCache, sandbox: Sandbox) -> Build:
    """The recipe's passes applied to what is ``begun``."""
    earlier = subject.workspace / "checkpoints" / key
    evaluation, training = _evaluation(recipe, subject), _training(recipe, subject, earlier=earlier)
    job = ChildJob(
        entry=ENTRY,
        params={
            **evaluation.params,
            **training.params,
            "entry": begun.entry,
            "passes": [to_jsonable(step) for step in recipe.passes],
            "card": to_jsonable(begun.card),
            "hardware": to_jsonable(subject.hardware),
            "shapes": subject.shapes,
        },
        binds={
            "model": begun.folder,
            **({"calibration": subject.calibration.folder} if subject.calibration else {}),
            **evaluation.binds,
            **training.binds,
        },
        limits=subject.limits,
        tools=any(isinstance(optimization_pass(step.name), ExternalTool) for step in recipe.passes),
    )
    outcome = sandbox.run(job, cancelled=subject.cancelled, heard=lambda reply: subject.heard(_words(reply)))
    try:
        if not outcome.ok:
            _keep_checkpoints(outcome.out_dir / CHECKPOINTS, earlier)
        result = result_of(outcome)
        card = from_jsonable(ModelCard, result["card"])
        build = cache.store(
            key, produced=outcome.out_dir / "model", entry=str(result["entry"]), card=card, facts=[*begun.facts, *result["facts"]]
        )
        shutil.rmtree(earlier, ignore_errors=True)
        return build
    finally:
        shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)


def _words(reply: dict[str, Any]) -> str:
    """What a child says of its progress, short and printable."""
    return "".join(one for one in str(reply.get(PROGRESS, "")) if one.isprintable())[:WORDS_AT_MOST]


def _keep_checkpoints(made: Path, kept: Path) -> None:
    """What an interrupted training had reached lies ready for the next attempt at the same build."""
    if not made.is_dir() or not any(made.iterdir()):
        return
    check_files(made)
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, kept)
