"""Smaller students of a network, and their training: where pruning, distillation and quantization-aware training meet.

Imports torch: import this where it is needed only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from optimizer.passes.base import PassContext
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.onnx_files import load, save
from optimizer.passes.training.blocks import residual_blocks, without_blocks
from optimizer.passes.training.budgeting import by_worth, evenly, operations
from optimizer.passes.training.calls import arrays_of, calls_of
from optimizer.passes.training.channels import channel_groups, prepared, read_axis, silenced, without_channels
from optimizer.passes.training.data import Array, Material, training_material
from optimizer.passes.training.fitting import Fitted, Terms, fit, resumed
from optimizer.passes.training.losses import Objective, scores_output
from optimizer.passes.training.module import GraphModule, as_tensors, run_batch
from optimizer.passes.training.worth import channel_worth
from optimizer.passes.verify import plain_session
from optimizer.rounding import agrees_to_rounding
from optimizer.specs import Json, TaskKind

PARITY_EXAMPLES = 8
TIMED_EXAMPLES, TIMED_RUNS = 32, 3
SECONDS = 60.0
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """The teacher with what is needed to train a student of it. ``shapes`` are those of every value of one call."""

    model: onnx.ModelProto
    teacher: GraphModule
    shapes: Shapes
    material: Material
    objective: Objective
    context: PassContext
    deadline_s: float
    steps: int

    def terms(self, *, name: str, rate: float, mixed: bool = False) -> Terms:
        folder = self.context.checkpoints
        return Terms(
            deadline_s=self.deadline_s, rate=rate, seed=self.context.seed, steps=self.steps, mixed=mixed,
            checkpoint=None if folder is None else folder / f"{name}.onnx", say=self.context.say,
        )  # fmt: skip


def open_studio(source: Path, params: dict[str, Json], context: PassContext) -> Studio:
    """Raises ``pass.failed``: no examples, an operator without counterpart, outputs that differ from ONNX Runtime's."""
    deadline_s = time.monotonic() + float(params.get("seconds", SECONDS))
    torch.set_num_threads(max(1, context.hardware.cores))
    model = prepared(load(source))
    material = training_material(context)
    teacher = GraphModule(model)
    outputs = _checked_outputs(teacher, source, material, context)
    _settle_threads(teacher, material)
    with torch.no_grad():
        values = teacher.values(*(one[0] for one in as_tensors(list(material.training.chosen(np.arange(1)).arrays))))
    objective = Objective(scores=scores_output(outputs) if context.task is TaskKind.CLASSIFICATION else None)
    return Studio(
        model=model,
        teacher=teacher,
        shapes={name: tuple(value.shape) for name, value in values.items()},
        material=_usable(material, objective, outputs),
        objective=objective,
        context=context,
        deadline_s=deadline_s,
        steps=int(params.get("steps", 0)),
    )


def _settle_threads(teacher: GraphModule, material: Material) -> None:
    """Keep one thread where more are no faster: small networks, busy hosts."""
    few = as_tensors(list(material.training.chosen(np.arange(min(len(material.training), TIMED_EXAMPLES))).arrays))
    all_threads = torch.get_num_threads()
    spent = {}
    for threads in (all_threads, 1):
        torch.set_num_threads(threads)
        times = []
        for _ in range(TIMED_RUNS):
            begin_s = time.monotonic()
            with torch.no_grad():
                run_batch(teacher, few)
            times.append(time.monotonic() - begin_s)
        spent[threads] = sum(times[1:])
    torch.set_num_threads(min(spent, key=lambda threads: spent[threads]))


def _checked_outputs(teacher: GraphModule, source: Path, material: Material, context: PassContext) -> tuple[torch.Tensor, ...]:
    """The teacher's outputs on a few examples at once, proven equal to ONNX Runtime's on one after the other."""
    few = material.training.chosen(np.arange(PARITY_EXAMPLES))
    try:
        with torch.no_grad():
            outputs = run_batch(teacher, as_tensors(list(few.arrays)))
    except RuntimeError as error:
        raise PassFailed(f"PyTorch cannot run this graph on several examples at once: {' '.join(str(error).split())[:300]}") from error
    session = plain_session(source)
    names = [tensor.name for tensor in context.card.inputs]
    for index in range(len(few)):
        wanted = session.run(None, {name: array[index] for name, array in zip(names, few.arrays, strict=True)})
        for number, (ours, theirs) in enumerate(zip(outputs, wanted, strict=True)):
            if not agrees_to_rounding(theirs, ours[index].numpy()):
                raise PassFailed(
                    f"Output {number} of the graph in PyTorch differs from ONNX Runtime's, so it cannot be trained faithfully."
                )
    return outputs


def _usable(material: Material, objective: Objective, outputs: Sequence[torch.Tensor]) -> Material:
    """Without labels where they say nothing about the scores."""
    classes = 0 if objective.scores is None else outputs[objective.scores].shape[-1]
    if all(_are_classes(part.labels, classes) for part in (material.training, material.validation)):
        return material
    return Material(training=replace(material.training, labels=None), validation=replace(material.validation, labels=None))


def _are_classes(labels: Array | None, classes: int) -> bool:
    return labels is not None and len(labels) > 0 and bool(labels.min() >= 0 and labels.max() < classes)


def smaller_by_worth(studio: Studio, *, kept: float) -> onnx.ModelProto:
    """Without the channels that are worth least, until about ``kept`` of the operations are left."""
    return _narrowed(studio.model, studio.shapes, studio, share=kept, even=False)


def student_of(studio: Studio, *, width: float, depth: float) -> onnx.ModelProto:
    """With that share of every channel group and of the residual blocks; it begins with the teacher's weights."""
    model, shapes = studio.model, studio.shapes
    if depth < 1:
        blocks = residual_blocks(model, shapes)
        count = round((1 - depth) * len(blocks))
        if not count:
            raise NoChange("It has no residual blocks that a shallower student could leave out.")
        model = without_blocks(model, [blocks[index] for index in np.linspace(0, len(blocks) - 1, count).round().astype(int)])
    return model if width >= 1 else _narrowed(model, shapes, studio, share=width, even=True)


def _narrowed(model: onnx.ModelProto, shapes: Shapes, studio: Studio, *, share: float, even: bool) -> onnx.ModelProto:
    names = {name for call in calls_of(model) for name in (*call.inputs, *call.outputs)}
    shapes = {name: shape for name, shape in shapes.items() if name in names}
    groups = channel_groups(model, shapes)
    if not groups:
        raise NoChange("No channel of it can be removed: all lead straight to inputs, outputs or operators that need every one.")
    readers = {axis for call in calls_of(model) if (axis := read_axis(call))}
    module = GraphModule(model)
    worth = channel_worth(module, groups, readers, studio.material.training, studio.objective)
    removed = evenly(groups, worth, share=share) if even else by_worth(model, shapes, groups, worth, share=share)
    if not any(removed):
        raise NoChange("Its layers are so narrow already that none of their channels can go.")
    smaller = without_channels(model, shapes, groups, removed)
    _check_removal(silenced(model, groups, removed), smaller, studio.material)
    return smaller


def _check_removal(silent: onnx.ModelProto, smaller: onnx.ModelProto, material: Material) -> None:
    """The smaller graph does what the whole one does when nothing reads the removed channels. Raises ``pass.failed``."""
    examples = as_tensors(list(material.training.chosen(np.arange(2)).arrays))
    with torch.no_grad():
        wanted = run_batch(GraphModule(silent), examples)
        try:
            found = run_batch(GraphModule(smaller), examples)
        except RuntimeError as error:
            raise PassFailed(f"A size written into the graph does not follow its channels: {' '.join(str(error).split())[:200]}") from error
    if not all(agrees_to_rounding(one.numpy(), other.numpy()) for one, other in zip(wanted, found, strict=True)):
        raise PassFailed("The graph without the channels computes something else than the graph that ignores them.")


def trained(
    studio: Studio, smaller: onnx.ModelProto, target_dir: Path, *, name: str, rate: float, mixed: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Train the student in what time is left, and write it. An interrupted attempt's best state goes on from where it was."""
    terms = studio.terms(name=name, rate=rate, mixed=mixed)
    earlier = resumed(terms.checkpoint)
    student = GraphModule(smaller if earlier is None else earlier)
    found = fit(student, studio.teacher, studio.material, studio.objective, terms=terms)
    entry = save(student.to_model(), target_dir)
    return entry, {**size_of(studio, smaller), **report(found, studio), "resumed": earlier is not None}


def trained_rounded(
    studio: Studio, quantized: Path, target_dir: Path, *, name: str, rate: float, narrow: bool
) -> tuple[Path, dict[str, Any]]:
    """Train the weights of a QDQ graph through their rounding, from the float weights of the studio's model on."""
    terms = studio.terms(name=name, rate=rate)
    earlier = resumed(terms.checkpoint)
    exact = {} if earlier is not None else arrays_of(studio.model)
    student = GraphModule(prepared(load(quantized)) if earlier is None else earlier, narrow=narrow, exact=exact)
    found = fit(student, studio.teacher, studio.material, studio.objective, terms=terms)
    entry = save(student.to_model(), target_dir)
    return entry, {**report(found, studio), "resumed": earlier is not None}


def size_of(studio: Studio, smaller: onnx.ModelProto) -> dict[str, Any]:
    """Parameters and operations before and after."""
    return {
        "parameters_before": sum(array.size for array in arrays_of(studio.model).values()),
        "parameters_after": sum(array.size for array in arrays_of(smaller).values()),
        "operations_left_share": round(_operations_left(studio, smaller), 4),
    }


def _operations_left(studio: Studio, smaller: onnx.ModelProto) -> float:
    example = [one[0] for one in as_tensors(list(studio.material.training.chosen(np.arange(1)).arrays))]
    with torch.no_grad():
        shapes = {name: tuple(value.shape) for name, value in GraphModule(smaller).values(*example).items()}
    return operations(smaller, shapes, {}) / max(1.0, operations(studio.model, studio.shapes, {}))


def report(found: Fitted, studio: Studio) -> dict[str, Any]:
    """What the trial's page shows of a training."""
    facts: dict[str, Any] = {
        "training_examples": len(studio.material.training),
        "labels": studio.material.training.labels is not None,
        "steps": found.steps,
        "steps_planned": found.planned,
        "best_step": found.best_step,
        "threads": torch.get_num_threads(),
        "validation_loss": {"before": found.before.loss, "best": found.best.loss},
    }
    if studio.objective.scores is not None:
        facts["validation_right_share"] = {"teacher": found.teacher.right, "before": found.before.right, "best": found.best.right}
    return facts
