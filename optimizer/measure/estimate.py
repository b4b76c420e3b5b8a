"""A value with its interval, before it is given a KPI's name."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.kpis import kpi
from optimizer.specs import Measurement, Provenance, Validity


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """``value`` with a two-sided interval of error ``error``; an open end is None.

    ``n`` counts samples, ``n_eff`` what they are worth after clustering, ``starts`` fresh processes.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    n_eff: int
    starts: int
    error: float = 0.05
    method: str = ""

    def measurement(
        self,
        name: str,
        *,
        scale: float = 1.0,
        validity: Validity = Validity.VALID,
        reasons: tuple[str, ...] = (),
        provenance: Provenance = Provenance.MEASURED,
        samples_sha256: str = "",
    ) -> Measurement:
        """This estimate as a Measurement of KPI ``name``, its values multiplied by ``scale`` (unit conversion)."""
        return Measurement(
            kpi=name,
            value=self.value * scale,
            unit=kpi(name).unit,
            ci_low=None if self.low is None else self.low * scale,
            ci_high=None if self.high is None else self.high * scale,
            confidence=1 - self.error,
            n=self.n,
            n_eff=self.n_eff,
            starts=self.starts,
            method=self.method,
            validity=validity,
            reasons=reasons,
            provenance=provenance,
            samples_sha256=samples_sha256,
        )
