"""Latency and throughput of fresh starts as Measurements; the door to the statistics of this package (measurement.md 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from optimizer.errors import EngineFault
from optimizer.kpis import kpi
from optimizer.measure.estimate import Estimate
from optimizer.measure.means import exact, mean_interval, prediction_interval
from optimizer.measure.percentile import (
    Samples,
    early_stopping_minimum,
    early_stopping_passes,
    early_stopping_rank,
    floor_samples,
    independent_percentile_interval,
    order_statistic_ranks,
    percentile_interval,
)
from optimizer.measure.proportions import examples_to_prove, tango, wilson
from optimizer.measure.throughput import start_throughput
from optimizer.specs import Measurement, Validity
from optimizer.units import NS_PER_MS

__all__ = [
    "Estimate",
    "early_stopping_minimum",
    "early_stopping_passes",
    "early_stopping_rank",
    "exact",
    "examples_to_prove",
    "floor_samples",
    "independent_percentile_interval",
    "latency_measurements",
    "mean_interval",
    "order_statistic_ranks",
    "percentile_interval",
    "percentile_measurement",
    "prediction_interval",
    "start_throughput",
    "tango",
    "wilson",
]

LATENCY_PERCENTILES = ("latency_p50_ms", "latency_p90_ms", "latency_p95_ms", "latency_p99_ms")


def latency_measurements(
    starts: Sequence[Samples],
    *,
    batch: int = 1,
    error: float = 0.05,
    calls_per_sample: int = 1,
    in_flight: int = 1,
    samples_sha256: str = "",
    validity: Validity = Validity.VALID,
    reasons: tuple[str, ...] = (),
) -> tuple[Measurement, ...]:
    """p50, p90, p95, p99, mean and throughput of equally measured fresh starts.

    Each start is either durations in ns, shape [n], or (issued_ns, completed_ns), shape [n, 2], in order of completion.
    A row covers ``calls_per_sample`` calls of ``batch`` items, ``in_flight`` at once; grouped calls give means only, so that their percentiles
    are *not measured*. Below its floor a percentile reads "slowest of n" (``INSUFFICIENT_SAMPLES``); failed calls are +inf.
    """
    durations = [durations_ns(start) for start in starts]
    if not durations or not all(len(start) for start in durations):
        raise EngineFault("statistics.no_samples", "Every start needs at least one measured call.")
    calls = sum(len(start) for start in durations) * calls_per_sample
    means = mean_interval([float(np.mean(start)) / calls_per_sample for start in durations], error=error, n=calls)
    throughputs = [start_throughput(start, batch=batch, calls_per_sample=calls_per_sample, in_flight=in_flight) for start in starts]
    rates = mean_interval(throughputs, error=error, n=calls)
    percentiles = (
        tuple(percentile_measurement(durations, name, error=error, validity=validity, reasons=reasons) for name in LATENCY_PERCENTILES)
        if calls_per_sample == 1
        else tuple(_grouped(name, n=calls, starts=len(starts)) for name in LATENCY_PERCENTILES)
    )
    plain = (
        means.measurement("latency_mean_ms", scale=1 / NS_PER_MS, validity=validity, reasons=reasons),
        rates.measurement("throughput_per_s", validity=validity, reasons=reasons),
    )
    return tuple(_with_samples(one, samples_sha256) for one in (*percentiles, *plain))


def percentile_measurement(
    starts: Sequence[Samples], name: str, *, error: float = 0.05, validity: Validity = Validity.VALID, reasons: tuple[str, ...] = ()
) -> Measurement:
    """One latency percentile of durations in ns; below its floor the value is the slowest sample, the interval stays."""
    percentile = kpi(name).percentile
    if percentile is None:
        raise EngineFault("statistics.not_a_percentile", f"{name} is not a percentile.")
    estimate = percentile_interval(starts, percentile, error=error)
    if estimate.n >= floor_samples(percentile) or validity is Validity.INVALID:
        return estimate.measurement(name, scale=1 / NS_PER_MS, validity=validity, reasons=reasons)
    slowest = max(float(np.max(start)) for start in starts)
    shown = Estimate(
        value=slowest,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        n_eff=estimate.n_eff,
        starts=estimate.starts,
        error=error,
        method="slowest_of_n",
    )
    because = f"slowest of {estimate.n}; the percentile needs {floor_samples(percentile)} samples"
    return shown.measurement(name, scale=1 / NS_PER_MS, validity=Validity.INSUFFICIENT_SAMPLES, reasons=(*reasons, because))


def durations_ns(start: Samples) -> Samples:
    """Duration of every sample of a start, shape [n]."""
    rows = np.asarray(start)
    return rows if rows.ndim == 1 else rows[:, 1] - rows[:, 0]


def _grouped(name: str, *, n: int, starts: int) -> Measurement:
    because = "calls are too short to time one by one; groups of calls give a mean, not percentiles"
    return Measurement(kpi=name, value=None, unit=kpi(name).unit, n=n, starts=starts, validity=Validity.INVALID, reasons=(because,))


def _with_samples(measurement: Measurement, samples_sha256: str) -> Measurement:
    return replace(measurement, samples_sha256=samples_sha256)
