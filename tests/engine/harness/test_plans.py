"""How long a start's stream is: examples may be shared among batches, the calls of a percentile may not."""

from __future__ import annotations

import pytest

from optimizer.measure.child import plan_of
from optimizer.pipeline import Pace
from optimizer.search.arms import min_iterations, percentile_calls
from optimizer.specs import KpiTarget, SearchSpec


@pytest.mark.parametrize(
    ("spec", "items", "calls"),
    [
        (SearchSpec(objective="throughput_per_s"), 1, 30),
        (SearchSpec(objective="throughput_per_s"), 16, 5),
        (SearchSpec(objective="latency_p90_ms"), 1, 64),
        (SearchSpec(objective="latency_p90_ms"), 16, 64),
        (SearchSpec(objective="throughput_per_s", targets=(KpiTarget(kpi="latency_p99_ms", value=0.9, relative=True),)), 16, 662),
    ],
)
def test_a_batched_form_makes_as_many_calls_as_its_percentiles_need(spec: SearchSpec, items: int, calls: int) -> None:
    pace = Pace(min_iterations=min_iterations(spec), percentile_calls=percentile_calls(spec))
    assert plan_of(pace.params(1), inputs=4, items=items).min_iterations == calls
