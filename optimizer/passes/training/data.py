"""The examples that a training pass may learn from, and those of them on which it picks its best moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.passes.base import PassContext
from optimizer.passes.errors import PassFailed
from optimizer.passes.examples import INPUTS_FILE

Array = np.ndarray[Any, Any]
LABEL = "label"
VALIDATION_SHARE, VALIDATION_AT_MOST, VALIDATION_AT_LEAST = 0.15, 400, 16
NO_EXAMPLES = "It needs training examples: a dataset with at least 200 more examples than the search and the final check use."


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """``arrays`` in the order of the model's inputs, each [n, *shape of one call]; ``labels`` [n] where the dataset has them."""

    arrays: tuple[Array, ...]
    labels: Array | None

    def __len__(self) -> int:
        return len(self.arrays[0])

    def chosen(self, indices: Array) -> Examples:
        labels = None if self.labels is None else self.labels[indices]
        return Examples(arrays=tuple(array[indices] for array in self.arrays), labels=labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Disjoint: ``training`` changes weights, ``validation`` only says which state was the best."""

    training: Examples
    validation: Examples


def training_material(context: PassContext) -> Material:
    """The context's training examples, divided by the seed. Raises ``pass.failed`` when there are none."""
    if context.training is None:
        raise PassFailed(NO_EXAMPLES)
    with np.load(context.training / INPUTS_FILE, allow_pickle=False) as stored:
        arrays = tuple(stored[tensor.name] for tensor in context.card.inputs)
        labels = stored[LABEL] if LABEL in stored.files else None
    whole = Examples(arrays=arrays, labels=labels if labels is not None and labels.dtype.kind in "iu" else None)
    order = np.random.default_rng(context.seed).permutation(len(whole))
    held_back = min(VALIDATION_AT_MOST, round(VALIDATION_SHARE * len(whole)))
    if held_back < VALIDATION_AT_LEAST:
        raise PassFailed(NO_EXAMPLES)
    return Material(training=whole.chosen(order[held_back:]), validation=whole.chosen(order[:held_back]))
