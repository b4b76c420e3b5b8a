"""Several examples in one call: feeds joined along the first axis, outputs parted again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.errors import InputError
from optimizer.specs import ModelCard

Array = np.ndarray[Any, Any]
Example = Mapping[str, Array]
Shapes = Mapping[str, tuple[int, ...]]


def is_batch_free(card: ModelCard, shapes: Shapes) -> bool:
    """Whether one call may take several examples: every tensor leads with an open dim, bound to one example; no state, no If or Loop.

    What the outputs' first dim really counts shows only when they are compared example by example.
    """
    leads = [tensor.shape[0] if tensor.shape else 1 for tensor in (*card.inputs, *card.outputs)]
    unnamed = {f"{tensor.name}[0]" for tensor in card.inputs}
    symbols = {tensor.shape[0] for tensor in card.inputs if tensor.shape and isinstance(tensor.shape[0], str)} - unnamed
    is_open = bool(leads) and not any(isinstance(lead, int) for lead in leads) and len(symbols) <= 1
    is_single = all(shapes.get(tensor.name, (0,))[:1] == (1,) for tensor in card.inputs)
    return is_open and is_single and not (card.state_pairs or card.control_flow or card.data_dependent_shapes or card.random)


def batched_shapes(shapes: Shapes, batch: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a call of ``batch`` examples."""
    return {name: (shape[0] * batch, *shape[1:]) if shape and batch > 1 else tuple(shape) for name, shape in shapes.items()}


def in_batches(examples: Sequence[Example], batch: int) -> list[Example]:
    """Every ``batch`` consecutive examples as one call; the last is filled up with the first examples again."""
    if batch == 1:
        return list(examples)
    count = len(examples)
    return [joined([examples[(first + step) % count] for step in range(batch)]) for first in range(0, count, batch)]


def joined(examples: Sequence[Example]) -> dict[str, Array]:
    """One call of these examples."""
    return {name: np.concatenate([example[name] for example in examples]) for name in examples[0]}


def parted(outputs: Sequence[Array], batch: int) -> list[list[Array]]:
    """The outputs of each example of a call. Raises InputError ``batch.not_separable``."""
    if batch == 1:
        return [list(outputs)]
    for output in outputs:
        if not output.shape or output.shape[0] % batch:
            raise InputError(
                "batch.not_separable",
                f"An output of shape {list(output.shape)} does not count {batch} examples along its first axis; run the model with batch 1.",
            )
    parts = [np.split(output, batch) for output in outputs]
    return [list(example) for example in zip(*parts, strict=True)]
