"""Guesses what a network does from its inputs and outputs, so that fidelity can be judged by the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optimizer.formats.roles import InputRole, role_of
from optimizer.specs import ModelCard, TaskKind

MAX_CLASSES = 25_000
MIN_EMBEDDING = 64
MIN_SEQUENCE_CLASSES = 20
GRID_STRIDES = (8, 16, 32)
SCORING = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
EMBEDDING_NAMES = ("embed", "pool", "sentence", "feature", "hidden_state")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """A float output: its name, its dims at the bound inputs, and the operator that makes it."""

    name: str
    dims: tuple[int, ...]
    maker: str


def guess_task(card: ModelCard, makers: Mapping[str, str], dims: Mapping[str, tuple[int, ...]]) -> TaskKind:
    """The task; generic when nothing speaks clearly. ``makers`` are the operators that make graph values, ``dims`` known shapes."""
    states = {target for _, target in card.state_pairs}
    outputs = [
        _Output(name=tensor.name, dims=_dims(tensor.name, tensor.shape, dims), maker=makers.get(tensor.name, ""))
        for tensor in card.outputs
        if tensor.dtype.startswith(("float", "bfloat")) and tensor.name not in states
    ]
    reads_tokens = any(role_of(card, tensor) is InputRole.TOKENS for tensor in card.inputs)
    if reads_tokens:
        return _text_task(card, outputs)
    if _finds_boxes(card, outputs, dims):
        return TaskKind.DETECTION
    if len(outputs) != 1:
        return TaskKind.GENERIC
    return _single_output_task(card, outputs[0])


def _finds_boxes(card: ModelCard, outputs: list[_Output], dims: Mapping[str, tuple[int, ...]]) -> bool:
    """An image in, and either boxes with scores and labels by name, or one output with as many anchors as the image has cells."""
    images = [tensor for tensor in card.inputs if role_of(card, tensor).is_image]
    if len(images) != 1:
        return False
    names = " ".join(tensor.name.lower() for tensor in card.outputs)
    if len(card.outputs) in (3, 4) and "box" in names and "score" in names and ("label" in names or "class" in names):
        return True
    if len(outputs) != 1 or len(outputs[0].dims) != 3:
        return False
    if card.metadata.get("task") == "detect":
        return True
    cells = _cells(_dims(images[0].name, images[0].shape, dims))
    _, first, second = outputs[0].dims
    has_anchors = (second == cells and 5 <= first < second) or (first in (cells, 3 * cells) and 5 < second < first)
    return cells > 0 and has_anchors


def _cells(image: tuple[int, ...]) -> int:
    """Cells of the usual three grids (every 8, 16 and 32 pixels) over an image [batch, 3, height, width]; 0 for another layout."""
    if len(image) != 4 or min(image[2:]) < 32 or any(size % 32 for size in image[2:]):
        return 0
    return sum((image[2] // stride) * (image[3] // stride) for stride in GRID_STRIDES)


def _dims(name: str, declared: tuple[int | str | None, ...], known: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    return known.get(name) or tuple(dim if isinstance(dim, int) else -1 for dim in declared)


def _text_task(card: ModelCard, outputs: list[_Output]) -> TaskKind:
    """Token ids in: scores over the vocabulary, scores over classes, or vectors."""
    vocabulary = max(card.vocabularies.values(), default=0)
    for output in outputs:
        name, last = output.name.lower(), output.dims[-1] if output.dims else -1
        if len(output.dims) == 3 and ("logits" in name or (vocabulary and last == vocabulary) or output.maker in SCORING):
            return TaskKind.SEQUENCE
        scores = "logits" in name or output.maker in SCORING or 2 <= last < MIN_EMBEDDING
        if len(output.dims) == 2 and scores and not any(part in name for part in EMBEDDING_NAMES):
            return TaskKind.CLASSIFICATION
    vectors = [output for output in outputs if len(output.dims) in (2, 3) and output.dims[-1] >= 2]
    return TaskKind.EMBEDDING if vectors else TaskKind.GENERIC


def _single_output_task(card: ModelCard, output: _Output) -> TaskKind:
    dims, name = output.dims, output.name.lower()
    if len(dims) == 2 and any(part in name for part in EMBEDDING_NAMES):
        return TaskKind.EMBEDDING
    if len(dims) == 2 and 2 <= dims[1] <= MAX_CLASSES and not card.state_pairs:
        return TaskKind.CLASSIFICATION
    reads_text = "character" in card.metadata or output.maker in SCORING
    if len(dims) == 3 and dims[2] >= MIN_SEQUENCE_CLASSES and reads_text:
        return TaskKind.SEQUENCE
    return TaskKind.GENERIC
