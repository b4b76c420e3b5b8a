"""A finished search as its stage reports, to be scored in tests."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from optimizer.kpis import kpi
from optimizer.measure.means import exact
from optimizer.score.cost import MachinePrice
from optimizer.specs import (
    BackendSettings,
    Budget,
    Decision,
    Duel,
    Effect,
    InputSource,
    KpiTarget,
    Measurement,
    Precision,
    Provenance,
    Recipe,
    SearchOutcome,
    SearchSpec,
    Stage,
    StageReport,
    Verdict,
)

BASELINE = Recipe(backend="onnxruntime")
CANDIDATE = Recipe(backend="openvino", settings=BackendSettings(precision=Precision.BF16))
CATALOG_PRICE = MachinePrice(key="vcpu.x86_64", usd_per_hour=Decimal("0.1008"), source="skypilot-catalog-v8", dated="2026", vcpus=2)
TEAM_PRICE = replace(CATALOG_PRICE, key="rack-4", source="team", dated="2026-11-01", provenance=Provenance.USER_ENTERED)
FASTER = {"latency_p50_ms": 4.2, "latency_p90_ms": 4.1, "latency_p99_ms": 3.9, "latency_mean_ms": 4.15, "throughput_per_s": 4.15}


def measured(name: str, value: float, *, half: float = 0.02, n: int = 1_440, starts: int = 16) -> Measurement:
    """A value with a ±2% interval."""
    return Measurement(
        kpi=name, value=value, unit=kpi(name).unit, ci_low=value * (1 - half), ci_high=value * (1 + half), n=n, n_eff=n // 2, starts=starts
    )


def race_report(trial: int, recipe: Recipe, *, p50_ms: float = 26.0) -> StageReport:
    """Race Measurements of a trial whose median takes ``p50_ms``."""
    values = {
        "latency_p50_ms": p50_ms,
        "latency_p90_ms": 1.05 * p50_ms,
        "latency_p99_ms": 1.2 * p50_ms,
        "latency_mean_ms": 1.02 * p50_ms,
        "throughput_per_s": 1000 / (1.02 * p50_ms),
        "load_time_ms": 400.0,
        "first_inference_ms": 2 * p50_ms,
        "cold_start_ms": 400.0 + 2 * p50_ms,
        "memory_peak_host_bytes": 300e6,
    }
    measurements = tuple(measured(name, value) for name, value in values.items())
    return StageReport(
        trial=trial, stage=Stage.RACE, recipe=recipe, measurements=measurements, environment={"sandbox_level": "A", "kernel": "6.12"}
    )


def confirm_report(trial: int, recipe: Recipe, *, verdict: Verdict = Verdict.PASS, size_bytes: float = 90e6) -> StageReport:
    """Size, and for a candidate the sealed check."""
    size = exact(size_bytes).measurement("model_size_bytes")
    if trial == 0:
        return StageReport(trial=0, stage=Stage.CONFIRM, recipe=recipe, measurements=(size,))
    cosine = measured("fidelity_cosine_p01_ratio", 0.9987, half=0.0005, n=400, starts=0)
    return StageReport(
        trial=trial,
        stage=Stage.CONFIRM,
        recipe=recipe,
        measurements=(size, cosine),
        verdict=verdict,
        detail={"reason": "Every limit is met on 400 sealed inputs.", "limits": {"fidelity_cosine_p01_ratio": 0.99}},
    )


def screen_report(trial: int) -> StageReport:
    """Screening claims a speed that must never reach a scorecard."""
    return StageReport(trial=trial, stage=Stage.SCREEN, recipe=CANDIDATE, measurements=(measured("latency_p50_ms", 0.001),))


def duel(trial: int, name: str, value: float, *, low: float, high: float, effect: Effect) -> Duel:
    ratio = Measurement(kpi="speedup_ratio", value=value, unit="×", ci_low=low, ci_high=high, n=16, n_eff=16, starts=16)
    return Duel(trial=trial, kpi=name, speedup=ratio, effect=effect, blocks=16, looks=2)


def winning_duels(trial: int = 3) -> tuple[Duel, ...]:
    return tuple(duel(trial, name, value, low=value * 0.98, high=value * 1.02, effect=Effect.FASTER) for name, value in FASTER.items())


def reports_with(p50_ms: float = 26.0 / 4.2, *, trial: int = 3, verdict: Verdict = Verdict.PASS) -> tuple[StageReport, ...]:
    """Trial 0 and one raced candidate."""
    return (
        screen_report(trial),
        race_report(0, BASELINE),
        confirm_report(0, BASELINE),
        race_report(trial, CANDIDATE, p50_ms=p50_ms),
        confirm_report(trial, CANDIDATE, verdict=verdict),
    )


def won(**changes: object) -> SearchOutcome:
    facts: dict[str, object] = {
        "decision": Decision.WINNER,
        "reason": "Trial 3 beats the original in the race.",
        "winner": 3,
        "duels": winning_duels(),
        "input_source": InputSource.PROXY,
        "sealed_examples": 400,
    }
    return SearchOutcome(**(facts | changes))  # type: ignore[arg-type]


def kept(**changes: object) -> SearchOutcome:
    close = duel(3, "latency_p50_ms", 1.004, low=0.99, high=1.02, effect=Effect.EQUIVALENT)
    facts: dict[str, object] = {
        "decision": Decision.KEEP_ORIGINAL,
        "reason": "No candidate was faster by more than 3%.",
        "nearest": 3,
        "duels": (close,),
        "input_source": InputSource.PROXY,
        "sealed_examples": 400,
    }
    return SearchOutcome(**(facts | changes))  # type: ignore[arg-type]


def asked(*targets: KpiTarget, preset: str = "standard") -> SearchSpec:
    return SearchSpec(targets=targets, budget=Budget(preset=preset))
