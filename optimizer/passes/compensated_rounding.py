"""Rounds a layer's weights so that its outputs, not its weights, change least: each rounding error is made up for by the weights
that are still to be rounded (the second-order scheme of Frantar et al., GPTQ, 2022). Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
DAMPING = 0.01
"""Of the mean power of the inputs; keeps directions that the examples hardly show from being used to hide errors."""
BLOCK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """``weights`` [groups, outputs, inputs] after rounding; power of the outputs' error with it, and with each weight at its nearest value."""

    weights: Array
    error: float
    plain_error: float


def round_compensated(weights: Array, grams: Array, rounded: Callable[[Array], Array]) -> Rounding:
    """``weights`` [groups, outputs, inputs] on the grid of ``rounded``; ``grams`` [groups, inputs, inputs] are second moments of inputs.

    An output that the nearest values serve better, by the same second moments, keeps those. Inputs that were not finite tell nothing:
    the nearest values, and no error known.
    """
    plain = rounded(weights)
    if not np.isfinite(grams).all():
        return Rounding(weights=plain, error=0.0, plain_error=0.0)
    plain_errors = output_errors(weights, plain, grams)
    order = np.argsort(-np.diagonal(grams, axis1=1, axis2=2), axis=1, kind="stable")
    factors = _factors(np.take_along_axis(np.take_along_axis(grams, order[:, :, None], 1), order[:, None, :], 2))
    if factors is None:
        return Rounding(weights=plain, error=float(plain_errors.sum()), plain_error=float(plain_errors.sum()))
    compensated = _compensated(np.take_along_axis(weights, order[:, None, :], 2), factors, rounded)
    compensated = np.take_along_axis(compensated, np.argsort(order, axis=1)[:, None, :], 2)
    errors = output_errors(weights, compensated, grams)
    better = errors < plain_errors
    return Rounding(
        weights=np.where(better[:, :, None], compensated, plain),
        error=float(np.where(better, errors, plain_errors).sum()),
        plain_error=float(plain_errors.sum()),
    )


def output_errors(weights: Array, changed: Array, grams: Array) -> Array:
    """Power of what the change does to each output [groups, outputs], over the inputs behind ``grams``."""
    change = weights.astype(np.float64) - changed
    return np.asarray(((change @ grams) * change).sum(axis=2))


def _compensated(weights: Array, factors: Array, rounded: Callable[[Array], Array]) -> Array:
    """Column after column; what a block of columns hands on to those behind it is one matrix product."""
    left, found = weights.astype(np.float64), np.empty(weights.shape)
    columns = left.shape[2]
    for first in range(0, columns, BLOCK):
        last = min(first + BLOCK, columns)
        errors = np.empty((*left.shape[:2], last - first))
        for column in range(first, last):
            found[:, :, column] = rounded(left[:, :, column])
            error = (left[:, :, column] - found[:, :, column]) / factors[:, None, column, column]
            errors[:, :, column - first] = error
            left[:, :, column + 1 : last] -= error[:, :, None] * factors[:, None, column, column + 1 : last]
        left[:, :, last:] -= errors @ factors[:, first:last, last:]
    return found


def _factors(grams: Array) -> Array | None:
    """Upper Cholesky factors of the damped inverses; None where rounding makes one of them impossible."""
    powers = np.diagonal(grams, axis1=1, axis2=2).mean(axis=1)
    floors = np.where(powers > 0, DAMPING * powers, 1.0)
    damped = grams + floors[:, None, None] * np.eye(grams.shape[1])
    try:
        backwards = np.linalg.cholesky(damped[:, ::-1, ::-1])
    except np.linalg.LinAlgError:
        return None
    return np.asarray(np.linalg.inv(backwards[:, ::-1, ::-1]))
