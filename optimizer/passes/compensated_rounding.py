"""Rounds a layer's weights so that its outputs, not its weights, change least: each rounding error is made up for by the weights
that are still to be rounded (the second-order scheme of Frantar et al., GPTQ, 2022). Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg

Array = np.ndarray[Any, Any]
DAMPING = 0.01
"""Of the mean power of the inputs; keeps directions that the examples hardly show from being used to hide errors."""
BLOCK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """``weights`` [outputs, inputs] after rounding; power of the outputs' error with it, and with every weight at its nearest value."""

    weights: Array
    error: float
    plain_error: float


def round_compensated(weights: Array, gram: Array, rounded: Callable[[Array], Array]) -> Rounding:
    """``weights`` [outputs, inputs] on the grid of ``rounded``, for inputs with these second moments ``gram`` [inputs, inputs].

    An output that plain rounding serves better, by the same second moments, keeps the nearest values.
    """
    plain = rounded(weights)
    plain_errors = output_error(weights, plain, gram)
    order = np.argsort(-np.diag(gram), kind="stable")
    factor = _factor(gram[np.ix_(order, order)])
    if factor is None:
        return Rounding(weights=plain, error=float(plain_errors.sum()), plain_error=float(plain_errors.sum()))
    compensated = _compensated(weights[:, order], factor, rounded)[:, np.argsort(order)]
    errors = output_error(weights, compensated, gram)
    better = errors < plain_errors
    return Rounding(
        weights=np.where(better[:, None], compensated, plain),
        error=float(np.where(better, errors, plain_errors).sum()),
        plain_error=float(plain_errors.sum()),
    )


def _compensated(weights: Array, factor: Array, rounded: Callable[[Array], Array]) -> Array:
    """Column after column; what a block of columns hands on to those behind it is one matrix product."""
    left, found = weights.astype(np.float64), np.empty(weights.shape)
    for first in range(0, left.shape[1], BLOCK):
        block = slice(first, min(first + BLOCK, left.shape[1]))
        errors = np.empty((len(left), block.stop - first))
        for column in range(first, block.stop):
            found[:, column] = rounded(left[:, column])
            error = errors[:, column - first] = (left[:, column] - found[:, column]) / factor[column, column]
            left[:, column + 1 : block.stop] -= np.outer(error, factor[column, column + 1 : block.stop])
        left[:, block.stop :] -= errors @ factor[block, block.stop :]
    return found


def output_error(weights: Array, changed: Array, gram: Array) -> Array:
    """Power of what the change does to each output [outputs], over the inputs behind ``gram``."""
    change = weights.astype(np.float64) - changed
    return np.asarray(((change @ gram) * change).sum(axis=1))


def _factor(gram: Array) -> Array | None:
    """Upper Cholesky factor of the damped inverse; None where it has none (inputs that were always zero, or not finite)."""
    power = float(np.diag(gram).mean()) if gram.size else 0.0
    if not (np.isfinite(gram).all() and power > 0):
        return None
    damped = gram + DAMPING * power * np.eye(len(gram))
    try:
        backwards = linalg.cholesky(damped[::-1, ::-1], lower=True)
    except linalg.LinAlgError:
        return None
    return np.asarray(linalg.solve_triangular(backwards[::-1, ::-1], np.eye(len(gram))))
