"""What an agent claims must be plausible: pure checks of a stage report and of an outcome, each refusing with ``result.invalid``."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

from optimizer.kpis import KPIS
from optimizer.specs import Decision, Measurement, SearchOutcome, StageReport, StageStatus
from optimizer.units import NS_PER_MS, NS_PER_S
from parka.core.errors import Refused

PERCENTILES = ("latency_p50_ms", "latency_p90_ms", "latency_p95_ms", "latency_p99_ms")
SIGNED = {"accuracy_delta_pp", "fidelity_snr_db", "fidelity_cosine_p01_ratio", "fidelity_rank_correlation_ratio"}
LARGEST = 1e18
THROUGHPUT_SLACK = 1.10
WALL_SLACK_S = 1.0
ORDER_SLACK = 1e-9


def check_report(report: StageReport, *, elapsed_s: float, batch: int = 1) -> None:
    """Refuse numbers that cannot be true.

    ``elapsed_s`` is the attempt's age by the server's clock, ``batch`` the most inferences one call can complete.
    Raises Refused ``result.invalid`` naming the first reason.
    """
    for reason in _doubts(report, elapsed_s=elapsed_s, batch=batch):
        raise Refused("result.invalid", reason)


def check_outcome(outcome: SearchOutcome, *, trials: Collection[int]) -> None:
    """The outcome may only name trials that were reported. Raises Refused ``result.invalid``."""
    raced = {*(duel.trial for duel in outcome.duels), *(shape.trial for shape in outcome.shapes)}
    named = {outcome.winner, outcome.nearest, *outcome.picks.values(), *raced} - {None}
    if missing := sorted(trial for trial in named if trial is not None and trial not in trials):
        raise Refused("result.invalid", f"The outcome names trial {missing[0]}, which was never reported.")
    if (outcome.decision is Decision.WINNER) != (outcome.winner is not None):
        raise Refused("result.invalid", "A winner is named exactly when the decision is winner.")
    for speedup in (*(duel.speedup for duel in outcome.duels), *(shape.speedup for shape in outcome.shapes)):
        for reason in _measurement_doubts(speedup):
            raise Refused("result.invalid", reason)
    if not all(0 < shape.share <= 1 for shape in outcome.shapes):
        raise Refused("result.invalid", "Shares of the traffic lie above 0 and at most at 1.")
    for duel in outcome.duels:
        if not all(math.isfinite(ratio) and 0 < ratio < LARGEST for ratio in duel.ratios):
            raise Refused("result.invalid", "A race's ratios must be finite and above zero.")
    check_finite(outcome.elapsed_s)
    first = outcome.first_proven
    if first is not None and not (first.trial in trials and first.forms > 0 and 0 <= first.seconds <= outcome.elapsed_s):
        raise Refused("result.invalid", "The form found first is one of the trials, found before the search ended.")


def check_finite(value: object) -> None:
    """No NaN or infinity anywhere in JSON. Raises Refused ``result.invalid``."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise Refused("result.invalid", "Numbers must be finite.")
        if isinstance(item, Mapping):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)


def _doubts(report: StageReport, *, elapsed_s: float, batch: int) -> Iterator[str]:
    if (report.status is StageStatus.FAILED) != (report.failure is not None):
        yield "A failed stage carries an error, a stage that is ok carries none."
    for measurement in report.measurements:
        yield from _measurement_doubts(measurement)
    values = {one.kpi: one.value for one in report.measurements if one.value is not None}
    yield from _order_doubts(values)
    settings = report.recipe.settings
    yield from _throughput_doubts(values, calls=batch * max(1, settings.streams) * max(1, settings.batch))
    yield from _wall_doubts(report.measurements, wall_s=elapsed_s * max(1, settings.streams))
    check_finite(report.detail)
    check_finite(report.environment)


def _measurement_doubts(measurement: Measurement) -> Iterator[str]:
    name = measurement.kpi
    if name not in KPIS:
        yield f"There is no KPI named {name[:60]}."
    for number in (measurement.value, measurement.ci_low, measurement.ci_high):
        if number is None:
            continue
        if not math.isfinite(number) or abs(number) > LARGEST:
            yield f"{name}: {number} is not a plausible number."
        if number < 0 and name not in SIGNED:
            yield f"{name}: {number} is below zero."
    if min(measurement.n, measurement.n_eff, measurement.starts) < 0:
        yield f"{name}: a count is below zero."
    if name in PERCENTILES and measurement.value is not None and (measurement.value <= 0 or measurement.n < 1):
        yield f"{name}: a latency needs at least one sample and lies above zero."


def _order_doubts(values: Mapping[str, float]) -> Iterator[str]:
    present = [(name, values[name]) for name in PERCENTILES if name in values]
    for (low, below), (high, above) in pairwise(present):
        if below > above * (1 + ORDER_SLACK):
            yield f"{low} = {below} lies above {high} = {above}."


def _throughput_doubts(values: Mapping[str, float], *, calls: int) -> Iterator[str]:
    mean, throughput = values.get("latency_mean_ms"), values.get("throughput_per_s")
    if mean and throughput and throughput * mean * NS_PER_MS / NS_PER_S > calls * THROUGHPUT_SLACK:
        yield f"throughput_per_s = {throughput} does not fit latency_mean_ms = {mean}."


def _wall_doubts(measurements: tuple[Measurement, ...], *, wall_s: float) -> Iterator[str]:
    for one in measurements:
        if one.kpi == "latency_mean_ms" and one.value is not None and one.value * one.n * NS_PER_MS / NS_PER_S > wall_s + WALL_SLACK_S:
            yield f"{one.n} samples of {one.value} ms are more than the {wall_s:.0f} s that have passed."


def largest_batch(card: Mapping[str, Any] | None, bindings: Mapping[str, int]) -> int:
    """The most inferences one call can complete: the largest bound leading dimension of the model's inputs, at least 1."""
    sizes = [1]
    for tensor in (card or {}).get("inputs", []):
        lead = tensor["shape"][0] if tensor["shape"] else 1
        sizes.append(bindings.get(lead, 1) if isinstance(lead, str) else int(lead or 1))
    return max(sizes)
