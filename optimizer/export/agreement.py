"""How outputs here compare with those that a bundle expects: the same up to rounding, close, or different."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from optimizer.measure.fidelity_tallies import cosine
from optimizer.rounding import Array, agrees_to_rounding, is_float, largest_difference

CLOSE_COSINE = 0.999
CLOSE_OF_SCALE = 0.05


class Agreement(StrEnum):
    """Worst last."""

    SAME = "same"
    CLOSE = "close"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputAgreement:
    """One output over all samples: the worst verdict, the least cosine and the largest error relative to the output's scale.

    The numbers are None where they say nothing: no floats, another shape, other non-finite places.
    """

    name: str
    agreement: Agreement
    cosine: float | None = None
    error_of_scale: float | None = None


def compare_samples(
    names: Sequence[str], expected: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]
) -> tuple[OutputAgreement, ...]:
    """One row per output; ``expected`` and ``found`` are [example][output]. Another number of outputs or examples is different."""
    if len(expected) != len(found) or any(len(one) != len(names) for one in (*expected, *found)):
        return tuple(OutputAgreement(name=name, agreement=Agreement.DIFFERENT) for name in names)
    return tuple(
        _worst([_compare(name, a[place], b[place]) for a, b in zip(expected, found, strict=True)]) for place, name in enumerate(names)
    )


def worst_of(outputs: Sequence[OutputAgreement]) -> Agreement:
    """The verdict over all outputs; without any output nothing was reproduced."""
    return max((one.agreement for one in outputs), key=list(Agreement).index, default=Agreement.DIFFERENT)


def _compare(name: str, expected: Array, found: Array) -> OutputAgreement:
    same = agrees_to_rounding(expected, found)
    if expected.shape != found.shape or not (is_float(expected) and is_float(found)):
        return OutputAgreement(name=name, agreement=Agreement.SAME if same else Agreement.DIFFERENT)
    finite = np.isfinite(expected) & np.isfinite(found)
    if not same and not np.array_equal(np.isfinite(expected), np.isfinite(found)):
        return OutputAgreement(name=name, agreement=Agreement.DIFFERENT)
    alike, error = _cosine(expected[finite], found[finite]), _error_of_scale(expected[finite], found[finite])
    if same:
        return OutputAgreement(name=name, agreement=Agreement.SAME, cosine=alike, error_of_scale=error)
    close = _same_infinities(expected, found) and alike >= CLOSE_COSINE and error <= CLOSE_OF_SCALE
    return OutputAgreement(name=name, agreement=Agreement.CLOSE if close else Agreement.DIFFERENT, cosine=alike, error_of_scale=error)


def _same_infinities(expected: Array, found: Array) -> bool:
    special = ~np.isfinite(expected)
    return bool(np.array_equal(expected[special], found[special], equal_nan=True))


def _cosine(a: Array, b: Array) -> float:
    return cosine(a.astype(np.float64).ravel(), b.astype(np.float64).ravel())


def _error_of_scale(expected: Array, found: Array) -> float:
    scale = float(np.abs(expected.astype(np.float64)).max(initial=0.0))
    return largest_difference(expected, found) / max(scale, 1e-7)


def _worst(rows: Sequence[OutputAgreement]) -> OutputAgreement:
    cosines = [one.cosine for one in rows if one.cosine is not None and math.isfinite(one.cosine)]
    errors = [one.error_of_scale for one in rows if one.error_of_scale is not None]
    return OutputAgreement(
        name=rows[0].name, agreement=worst_of(rows), cosine=min(cosines, default=None), error_of_scale=max(errors, default=None)
    )
