"""What was measured and what it proves: values with intervals, targets, verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from optimizer.errors import InputError
from optimizer.kpis import Direction, kpi


class Validity(StrEnum):
    VALID = "VALID"
    VALID_WITH_WARNINGS = "VALID_WITH_WARNINGS"
    INVALID = "INVALID"
    INSUFFICIENT_SAMPLES = "INSUFFICIENT_SAMPLES"


class Provenance(StrEnum):
    """Origin of a number, strongest first."""

    MEASURED = "measured"
    DERIVED = "derived"
    USER_ENTERED = "user_entered"
    CATALOG_DEFAULT = "catalog_default"
    MODELED = "modeled"

    @property
    def is_estimate(self) -> bool:
        """Estimates are displayed as such and prove nothing."""
        return self in (Provenance.CATALOG_DEFAULT, Provenance.MODELED)


def weakest(*provenances: Provenance) -> Provenance:
    """A KPI takes the weakest provenance of its inputs."""
    order = list(Provenance)
    return max(provenances, key=order.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A value with its interval, counts, validity and origin. An open end of the interval is None."""

    kpi: str
    value: float | None
    unit: str
    ci_low: float | None = None
    ci_high: float | None = None
    confidence: float = 0.95
    n: int = 0
    n_eff: int = 0
    starts: int = 0
    method: str = ""
    validity: Validity = Validity.VALID
    reasons: tuple[str, ...] = ()
    provenance: Provenance = Provenance.MEASURED
    samples_sha256: str = ""


class Operator(StrEnum):
    AT_MOST = "<="
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiTarget:
    """A limit on one KPI; ``relative`` makes ``value`` a fraction of the baseline's measured value."""

    kpi: str
    value: float
    relative: bool = False
    op: Operator | None = None

    def __post_init__(self) -> None:
        metric = kpi(self.kpi)
        if not metric.targetable:
            raise InputError("target.not_targetable", f"{metric.title} cannot carry a target.")
        if not math.isfinite(self.value):
            raise InputError("target.not_finite", f"The target for {metric.title} must be a finite number.")
        if self.value <= 0 and not (self.kpi == "accuracy_delta_pp" and not self.relative):
            raise InputError("target.not_positive", f"The target for {metric.title} must be above zero.")
        natural = Operator.AT_MOST if metric.direction is Direction.LOWER else Operator.AT_LEAST
        if self.op is None:
            object.__setattr__(self, "op", natural)
        elif self.op is not natural:
            raise InputError("target.direction", f"{metric.title} is better when {metric.direction}; write {natural} instead of {self.op}.")


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNPROVEN = "unproven"


class Effect(StrEnum):
    """Decision of a comparison at its margin."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
