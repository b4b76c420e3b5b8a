"""Child entry that applies the passes of a recipe, one after the other, to a copy of the model."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineError, InputError
from optimizer.formats import inspect_model
from optimizer.passes import conversions, optimization_pass
from optimizer.passes.base import No, PassContext
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.evaluator import Evaluator
from optimizer.passes.onnx_files import LARGEST_FILE_BYTES
from optimizer.sandbox.context import ChildContext
from optimizer.specs import HardwareProfile, ModelCard, PassAccuracy, PassStep, TaskKind

MODEL_FOLDER = "model"
CHECKPOINTS = "checkpoints"
PROGRESS = "progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """The model after some steps: its entry file, and one fact sheet per step."""

    entry: Path
    facts: list[dict[str, Any]]


def apply_recipe(context: ChildContext, *, evaluator: Evaluator | None = None) -> dict[str, Any]:
    """Binds ``model`` (folder) and, for verification and calibration, ``calibration`` (InputSet folder); for training ``training``
    (InputSet folder) and, after an interrupted attempt, ``checkpoint`` (folder).

    Params ``entry passes card hardware shapes`` and optionally ``calibration_indices task seed``. The result lies in ``out_dir/model``,
    the best state of a training meanwhile in ``out_dir/checkpoints``; replies ``{"progress": words}`` tell how far it is.
    A cleaning step that finds nothing to do is noted and skipped; ``pass.no_change`` is raised when the whole chain, or a step
    that was to change the arithmetic, leaves the model as it was.
    """
    params = context.params
    steps = [from_jsonable(PassStep, step) for step in params["passes"]]
    card = from_jsonable(ModelCard, params["card"])
    work = context.out_dir / "work"
    pass_context = _pass_context(context, card=card, work_dir=work, evaluator=evaluator)
    source = context.path(MODEL_FOLDER) / params["entry"]
    rewritten = rewrite(source, steps, context=pass_context)
    target = context.out_dir / MODEL_FOLDER
    shutil.move(rewritten.entry.parent, target)
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(context.out_dir / CHECKPOINTS, ignore_errors=True)
    entry = target / rewritten.entry.name
    result = _described(entry, bindings=card.bindings)
    return {"entry": entry.name, "facts": rewritten.facts, "card": to_jsonable(result)}


def _described(entry: Path, *, bindings: dict[str, int]) -> ModelCard:
    """The result's card; dims that a pass has fixed have nothing left to bind."""
    card = inspect_model(entry)
    left = {symbol: size for symbol, size in bindings.items() if symbol in card.symbols}
    return inspect_model(entry, bindings=left) if left else card


def _pass_context(context: ChildContext, *, card: ModelCard, work_dir: Path, evaluator: Evaluator | None) -> PassContext:
    params = context.params
    return PassContext(
        card=card,
        hardware=from_jsonable(HardwareProfile, params["hardware"]),
        work_dir=work_dir,
        shapes={name: tuple(shape) for name, shape in (params.get("shapes") or {}).items()},
        calibration=_optional_path(context, "calibration"),
        calibration_indices=tuple(int(index) for index in params.get("calibration_indices") or ()),
        evaluator=evaluator,
        training=_optional_path(context, "training"),
        task=TaskKind(params.get("task") or card.task),
        seed=int(params.get("seed", 1)),
        checkpoints=_checkpoints(context),
        say=lambda words: context.reply({PROGRESS: words}),
    )


def _checkpoints(context: ChildContext) -> Path:
    """A folder with what an earlier attempt left."""
    folder, earlier = context.out_dir / CHECKPOINTS, _optional_path(context, "checkpoint")
    folder.mkdir()
    for file in earlier.iterdir() if earlier is not None else ():
        shutil.copyfile(file, folder / file.name)
    return folder


def _optional_path(context: ChildContext, name: str) -> Path | None:
    try:
        return context.path(name)
    except EngineError:
        return None


def rewrite(source: Path, steps: list[PassStep], *, context: PassContext) -> Rewritten:
    """Apply the steps in order, each into a fresh folder below ``context.work_dir``.

    Raises ``pass.not_applicable``, ``pass.no_change``, ``pass.failed``, ``pass.changed_outputs``.
    """
    entry, facts = source, []
    for index, step in enumerate(steps):
        one = optimization_pass(step.name)
        answer = one.applicable(context.card, context.hardware)
        if isinstance(answer, No):
            raise InputError("pass.not_applicable", f"{one.title} does not apply to this model: {answer.reason}.")
        begin = time.perf_counter_ns()
        try:
            result = one.apply(entry, context.work_dir / str(index), step.params, context)
            check_structure(result.entry, before=entry)
            entry, noted = result.entry, result.facts
            if step.name in conversions():
                context = replace(context, card=_described(entry, bindings=context.card.bindings))
        except NoChange as nothing:
            if one.accuracy is PassAccuracy.SENSITIVE or len(steps) == 1:
                raise
            noted = {"changed": False, "why": nothing.message}
        facts.append({"pass": step.name, "params": step.params, "seconds": (time.perf_counter_ns() - begin) / 1e9, **noted})
    if entry == source:
        raise NoChange("No step of the recipe changed the model.")
    return Rewritten(entry=entry, facts=facts)


def check_structure(entry: Path, *, before: Path) -> None:
    """ONNX's own checker on the result. A source that fails it too says nothing about the pass."""
    if entry.suffix != ".onnx" or sum(file.stat().st_size for file in entry.parent.iterdir()) > LARGEST_FILE_BYTES:
        return
    try:
        onnx.checker.check_model(str(entry))
    except Exception as error:  # the checker raises anything
        if before.suffix != entry.suffix or _is_sound(before):
            raise PassFailed(f"The rewritten graph is not valid ONNX: {' '.join(str(error).split())[:300]}") from error


def _is_sound(model: Path) -> bool:
    try:
        onnx.checker.check_model(str(model))
    except Exception:
        return False
    return True
