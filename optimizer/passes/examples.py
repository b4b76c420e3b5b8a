"""Inputs a pass may look at: the calibration examples when there are some, otherwise a few made up from the bound shapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.passes.base import PassContext
from optimizer.specs import TensorSpec

Feeds = dict[str, np.ndarray[Any, Any]]
INPUTS_FILE = "inputs.npz"
SYNTHETIC_EXAMPLES = 3


def calibration_feeds(context: PassContext, *, at_most: int) -> Iterator[Feeds]:
    """The context's calibration examples; nothing when it has none."""
    if context.calibration is None:
        return
    with np.load(examples_file(context.calibration), allow_pickle=False) as stored:
        arrays = {tensor.name: stored[tensor.name] for tensor in context.card.inputs if tensor.name in stored.files}
    count = min((len(array) for array in arrays.values()), default=0)
    indices = context.calibration_indices or range(count)
    for index in itertools.islice(indices, at_most):
        yield {name: array[index] for name, array in arrays.items()}


def examples_file(folder: Path) -> Path:
    """The .npz of an InputSet, one array per input, first axis counting examples."""
    return folder / INPUTS_FILE if folder.is_dir() else folder


def synthetic_feeds(context: PassContext) -> Iterator[Feeds]:
    """Seeded feeds: normal floats, zeros and ones for whole numbers (safe as token ids, masks and flags)."""
    for seed in range(SYNTHETIC_EXAMPLES):
        rng = np.random.default_rng(seed)
        yield {tensor.name: _made_up(tensor, context.shapes.get(tensor.name), rng=rng) for tensor in context.card.inputs}


def _made_up(tensor: TensorSpec, bound: tuple[int, ...] | None, *, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = bound if bound is not None else tuple(dim if isinstance(dim, int) else 1 for dim in tensor.shape)
    if tensor.dtype.startswith("float"):
        return np.asarray(rng.normal(size=shape), np.dtype(tensor.dtype))
    if tensor.dtype == "string":
        return np.full(shape, "a", object)
    return np.asarray(rng.integers(0, 2, shape), np.dtype(tensor.dtype))
