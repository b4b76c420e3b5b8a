"""The registry of metrics (measurement.md 2, 16 "Schema")."""

from __future__ import annotations

import pytest

from optimizer.errors import InputError
from optimizer.kpis import KPIS, Direction, Evidence, kpi
from optimizer.specs import KpiTarget, Operator

SUFFIXES = {
    "ms": ("_ms",),
    "s": ("_s",),
    "inf/s": ("_per_s",),
    "bytes": ("_bytes",),
    "×": ("_ratio",),
    "ratio": ("_ratio",),
    "fraction": ("_fraction",),
    "$/h": ("_usd_per_hour",),
    "$/1M": ("_usd_per_million_inferences",),
    "W": ("_w",),
    "J": ("_j_per_inference",),
    "pp": ("_pp",),
    "dB": ("_db",),
    "abs": ("_abs_error",),
}


@pytest.mark.parametrize("name", KPIS)
def test_every_kpi_names_its_unit_last_and_has_title_and_definition(name: str) -> None:
    metric = kpi(name)
    assert name.endswith(SUFFIXES[metric.unit])
    assert metric.title
    assert metric.definition.endswith(".")


@pytest.mark.parametrize("name", [name for name in KPIS if KPIS[name].percentile is not None])
def test_percentiles_agree_with_their_names(name: str) -> None:
    assert f"_p{round(100 * (kpi(name).percentile or 0))}_" in name


@pytest.mark.parametrize("name", [name for name in KPIS if KPIS[name].targetable])
def test_a_target_takes_the_direction_of_its_kpi(name: str) -> None:
    natural = Operator.AT_MOST if kpi(name).direction is Direction.LOWER else Operator.AT_LEAST
    assert KpiTarget(kpi=name, value=1.0).op is natural


def test_what_is_timed_needs_starts_what_is_compared_needs_examples_and_a_file_size_needs_nothing() -> None:
    assert kpi("latency_p50_ms").evidence is Evidence.STARTS
    assert kpi("cost_usd_per_million_inferences").evidence is Evidence.STARTS
    assert kpi("accuracy_delta_pp").evidence is Evidence.EXAMPLES
    assert kpi("fidelity_cosine_p01_ratio").evidence is Evidence.EXAMPLES
    assert kpi("model_size_bytes").evidence is Evidence.EXACT


def test_an_unknown_kpi_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="latency_p50_ms"):
        kpi("speed")
