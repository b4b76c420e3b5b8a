"""Synthetic inputs: values that a model accepts, drawn from a seed by the role of each input."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from optimizer.formats.roles import InputRole, role_of
from optimizer.specs import ModelCard, TensorSpec

UNKNOWN_VOCABULARY = 100
SAMPLE_RATE_HZ = 16_000
FACTOR_NAME = re.compile(r"scale|rate|temperature|speed|threshold|strength|alpha")
Array = np.ndarray[Any, Any]
Shapes = dict[str, tuple[int, ...]]


def synthetic_feeds(card: ModelCard, shapes: Shapes, *, seed: int, index: int) -> dict[str, Array]:
    """One example; the same seed and index give the same values."""
    rng = np.random.default_rng([seed, index])
    return {tensor.name: synthetic_value(card, tensor, shapes, rng=rng) for tensor in card.inputs}


def synthetic_value(card: ModelCard, tensor: TensorSpec, shapes: Shapes, *, rng: np.random.Generator) -> Array:
    """A value for one input by its role; inputs that only steer (state, masks, positions) are the same in every example."""
    shape, role = shapes[tensor.name], role_of(card, tensor)
    fixed = steering_value(card, tensor, shapes)
    if fixed is not None:
        return fixed
    if role is InputRole.TEXT:
        return np.array([f"text {value}" for value in rng.integers(0, 1_000, size=shape).reshape(-1)]).reshape(shape)
    if role is InputRole.TOKENS:
        rows = card.vocabularies.get(tensor.name, UNKNOWN_VOCABULARY)
        return rng.integers(min(1, rows - 1), rows, size=shape).astype(tensor.dtype)
    if tensor.dtype == "uint8":
        return rng.integers(0, 256, size=shape).astype(np.uint8)
    if role.is_image:
        return ((rng.random(shape) - 0.5) / 0.5).astype(tensor.dtype)
    if role is InputRole.AUDIO:
        return np.clip(rng.normal(0, 0.1, shape), -1, 1).astype(tensor.dtype)
    if len(shape) < 2 and FACTOR_NAME.search(tensor.name.lower()):
        return rng.uniform(0.5, 1.0, shape).astype(tensor.dtype)
    return rng.normal(0, 1, shape).astype(tensor.dtype)


def steering_value(card: ModelCard, tensor: TensorSpec, shapes: Shapes) -> Array | None:
    """The value of an input that follows from the others, or None for one that carries data."""
    shape, role = shapes[tensor.name], role_of(card, tensor)
    if role is InputRole.MASK:
        return np.full(shape, 0 if "padding" in tensor.name.lower() else 1, tensor.dtype)
    if role is InputRole.POSITIONS:
        row = np.arange(shape[-1] if shape else 1) % card.vocabularies.get(tensor.name, 1 << 30)
        return np.broadcast_to(row if shape else row[0], shape).astype(tensor.dtype)
    if role in (InputRole.SEGMENTS, InputRole.STATE, InputRole.FLAG):
        return np.zeros(shape, tensor.dtype)
    if role is InputRole.SAMPLE_RATE:
        return np.full(shape, SAMPLE_RATE_HZ, tensor.dtype)
    if role is InputRole.LENGTH:
        return np.full(shape, _longest(card, shapes), tensor.dtype)
    return np.ones(shape, tensor.dtype) if role is InputRole.INTEGER else None


def _longest(card: ModelCard, shapes: Shapes) -> int:
    """Length of the sequence that a length input speaks of: the second dim of the first data input."""
    lengths = [shapes[tensor.name][1] for tensor in card.inputs if len(shapes[tensor.name]) > 1]
    return lengths[0] if lengths else 1
