"""Boxes out of a detector's outputs, and how far two detectors' boxes agree (measurement.md 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from optimizer.rounding import is_float

Array = np.ndarray[Any, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]

LEAST_SCORE = 0.25
SUPPRESSION_IOU, MATCH_IOU = 0.45, 0.5
MOST_BOXES = 1_000
"""Boxes of one image that are looked at, best first: a broken candidate may call every anchor a thing."""

TOLERANCE = 1e-3
FEWEST_CHANNELS = 5
EXAMPLES_READ = 16


class Layout(StrEnum):
    """How boxes lie in one output: anchors last without objectness, anchors first with objectness, or finished rows."""

    ANCHORS_LAST = "anchors_last"
    ANCHORS_FIRST = "anchors_first"
    ROWS = "rows"
    SEPARATE = "separate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How to read a detector: its layout, and the outputs (by index) that hold it: one, or boxes, scores and labels."""

    layout: Layout
    outputs: tuple[int, ...]

    def counted_axis(self, output: int) -> int | None:
        """The axis of an output whose size is the number of boxes found; None where the size is fixed."""
        if self.layout is Layout.ROWS:
            return -2 if output in self.outputs else None
        if self.layout is not Layout.SEPARATE or output not in self.outputs:
            return None
        return -2 if output == self.outputs[0] else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Boxes [n, 4] as two corners, their scores [n] and classes [n], best first."""

    boxes: Floats
    scores: Floats
    classes: Floats


def reading_of(outputs: Sequence[Array]) -> Reading | None:
    """How one example's outputs hold boxes; None unless shapes and values both say so."""
    separate = _separate(outputs)
    if separate is not None:
        return separate
    for index, output in enumerate(outputs):
        if is_float(output) and output.ndim == 3:
            layout = _layout(output.astype(np.float64))
            if layout is not None:
                return Reading(layout=layout, outputs=(index,))
    return None


def first_reading(examples: Sequence[Sequence[Array]]) -> Reading | None:
    """The reading of the first of a few examples that tells; an image without boxes may not."""
    return next((found for index in range(min(len(examples), EXAMPLES_READ)) if (found := reading_of(examples[index]))), None)


def _separate(outputs: Sequence[Array]) -> Reading | None:
    """Boxes [.., n, 4], scores [.., n] and whole-number labels [.., n] as three outputs."""
    boxes = [i for i, one in enumerate(outputs) if is_float(one) and one.ndim in (2, 3) and one.shape[-1] == 4]
    if len(boxes) != 1:
        return None
    beside = [i for i, one in enumerate(outputs) if one.shape == outputs[boxes[0]].shape[:-1] and one.dtype.kind in "iuf"]
    labels = [i for i in beside if not is_float(outputs[i])] or [i for i in beside if _is_whole(outputs[i])]
    scores = [i for i in beside if i not in labels and is_float(outputs[i]) and _are_shares(outputs[i])]
    if len(labels) != 1 or len(scores) != 1:
        return None
    return Reading(layout=Layout.SEPARATE, outputs=(boxes[0], scores[0], labels[0]))


def _layout(output: Floats) -> Layout | None:
    _, rows, columns = output.shape
    if columns == 6 and _is_whole(output[..., 5]) and _are_shares(output[..., 4]) and (output[..., 2:4] >= output[..., :2]).all():
        return Layout.ROWS
    if FEWEST_CHANNELS <= rows < columns and (output[:, 2:4] >= 0).all() and _are_shares(output[:, 4:]):
        return Layout.ANCHORS_LAST
    if FEWEST_CHANNELS < columns < rows and (output[..., 2:4] >= 0).all() and _are_shares(output[..., 4:]):
        return Layout.ANCHORS_FIRST
    return None


def _is_whole(values: Array) -> bool:
    return bool((values == np.round(values)).all())


def _are_shares(values: Array) -> bool:
    return bool(((values >= -TOLERANCE) & (values <= 1 + TOLERANCE)).all())


def boxes_of(outputs: Sequence[Array], reading: Reading) -> list[Found]:
    """The boxes of every image of one call, after suppression of doubles where the model does not do it itself."""
    parts = [outputs[index].astype(np.float64) for index in reading.outputs]
    if reading.layout is Layout.SEPARATE:
        boxes, scores, labels = parts
        rows = np.concatenate([boxes, scores[..., None], labels[..., None]], axis=-1)
        return [_kept(*_columns(image)) for image in (rows if rows.ndim == 3 else rows[None])]
    if reading.layout is Layout.ROWS:
        return [_kept(*_columns(image)) for image in parts[0]]
    if reading.layout is Layout.ANCHORS_LAST:
        return [suppressed(_kept(*_decoded(image[:, :4], image[:, 4:]))) for image in parts[0].swapaxes(1, 2)]
    return [suppressed(_kept(*_decoded(image[:, :4], image[:, 5:] * image[:, 4:5]))) for image in parts[0]]


def _columns(rows: Floats) -> tuple[Floats, Floats, Floats]:
    return rows[:, :4], rows[:, 4], rows[:, 5]


def _decoded(centred: Floats, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Centre and size [n, 4] and scores per class [n, classes] as corners, best score and its class."""
    middle, half = centred[:, :2], centred[:, 2:] / 2
    return np.concatenate([middle - half, middle + half], axis=1), scores.max(axis=1), scores.argmax(axis=1).astype(np.float64)


def _kept(boxes: Floats, scores: Floats, classes: Floats) -> Found:
    """Those with the least score, best first."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= LEAST_SCORE][:MOST_BOXES]
    return Found(boxes=boxes[order], scores=scores[order], classes=classes[order])


def suppressed(found: Found) -> Found:
    """Without boxes that a better one of the same class covers (greedy non-maximum suppression)."""
    left, kept = np.ones(len(found.scores), bool), []
    for best in range(len(found.scores)):
        if left[best]:
            kept.append(best)
            covers = overlaps(found.boxes[best], found.boxes) > SUPPRESSION_IOU
            left &= ~(covers & (found.classes == found.classes[best]))
    return Found(boxes=found.boxes[kept], scores=found.scores[kept], classes=found.classes[kept])


def overlaps(box: Floats, others: Floats) -> Floats:
    """Intersection over union of a box [4] with others [n, 4]; boxes without an area overlap nothing."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = np.clip(others[:, 2:] - others[:, :2], 0, None).prod(axis=1) + float(np.clip(box[2:] - box[:2], 0, None).prod())
    return np.asarray(np.divide(shared, areas - shared, out=np.zeros_like(shared), where=areas > shared))


def matches(reference: Found, candidate: Found) -> int:
    """How many boxes of the candidate, best first, find one of the original's of equal class that no other has taken."""
    free = np.ones(len(reference.scores), bool)
    count = 0
    for box, kind in zip(candidate.boxes, candidate.classes, strict=True):
        shares = np.where(free & (reference.classes == kind), overlaps(box, reference.boxes), 0.0)
        if shares.size and shares.max() >= MATCH_IOU:
            free[int(shares.argmax())] = False
            count += 1
    return count


@dataclass(slots=True, kw_only=True)
class Boxes:
    """Boxes per example in both, and twice those that match: their quotient is F1."""

    reading: Reading
    matched_twice: list[int] = field(default_factory=list)
    boxes: list[int] = field(default_factory=list)

    def add(self, reference: Sequence[Array], candidate: Sequence[Array]) -> None:
        pairs = list(zip(boxes_of(reference, self.reading), boxes_of(candidate, self.reading), strict=True))
        self.matched_twice.append(2 * sum(matches(ours, theirs) for ours, theirs in pairs))
        self.boxes.append(sum(len(ours.scores) + len(theirs.scores) for ours, theirs in pairs))
