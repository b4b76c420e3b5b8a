"""When two outputs are the same up to rounding: the one rule that rewrites are verified and recipes are called invariant by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ROUNDING_SNR_DB = 60.0
ROUNDING_OF_SCALE = 1e-3


def is_float(array: Array) -> bool:
    """Floats of any width; ``ml_dtypes`` kinds count too."""
    return array.dtype.kind == "f" or array.dtype.name in ("bfloat16",)


def signal_to_noise_db(reference: Array, candidate: Array) -> float:
    """10·log10(Σref² / Σ(ref − out)²); infinity for equal arrays, minus infinity when only the reference is zero."""
    exact = reference.astype(np.float64)
    signal, noise = float(np.square(exact).sum()), float(np.square(exact - candidate.astype(np.float64)).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def largest_difference(reference: Array, candidate: Array) -> float:
    """Largest absolute difference; 0 for empty arrays."""
    if reference.size == 0:
        return 0.0
    return float(np.abs(reference.astype(np.float64) - candidate.astype(np.float64)).max())


def agrees_to_rounding(reference: Array, candidate: Array) -> bool:
    """Same shape and kind; integers and booleans equal; floats within 0.1 % of the output's scale and at least 60 dB apart from noise.

    NaN and infinity must stand at the same places.
    """
    if reference.shape != candidate.shape or is_float(reference) != is_float(candidate):
        return False
    if not is_float(reference):
        return bool(np.array_equal(reference, candidate))
    finite = np.isfinite(reference.astype(np.float64))
    if not np.array_equal(reference[~finite].astype(np.float64), candidate[~finite].astype(np.float64), equal_nan=True):
        return False
    kept, other = reference[finite], candidate[finite]
    if not np.isfinite(other.astype(np.float64)).all():
        return False
    scale = float(np.abs(kept.astype(np.float64)).max()) if kept.size else 0.0
    if largest_difference(kept, other) > max(ROUNDING_OF_SCALE * scale, 1e-7):
        return False
    return scale <= 1e-7 or signal_to_noise_db(kept, other) >= ROUNDING_SNR_DB


def all_agree(reference: Sequence[Array], candidate: Sequence[Array]) -> bool:
    """Every output agrees to rounding, and there are equally many."""
    return len(reference) == len(candidate) and all(agrees_to_rounding(a, b) for a, b in zip(reference, candidate, strict=True))
