"""The one registry of metrics: name, unit, direction, display name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from optimizer.errors import InputError


class Direction(StrEnum):
    """Which way is better."""

    LOWER = "lower"
    HIGHER = "higher"


class Evidence(StrEnum):
    """The unit of evidence behind a metric: what must be repeated to prove it."""

    STARTS = "starts"
    EXAMPLES = "examples"
    EXACT = "exact"


def _evidence_of(name: str) -> Evidence:
    if name.startswith(("accuracy_", "fidelity_")):
        return Evidence.EXAMPLES
    return Evidence.EXACT if name == "model_size_bytes" else Evidence.STARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """One metric of ``measurement.md`` section 2; ``name`` carries its unit last."""

    name: str
    title: str
    unit: str
    direction: Direction
    definition: str
    targetable: bool = True
    percentile: float | None = None

    @property
    def evidence(self) -> Evidence:
        """Fresh process starts for what is timed, examples for accuracy and fidelity, nothing for file sizes."""
        return _evidence_of(self.name)


def _kpi(
    name: str, title: str, unit: str, direction: Direction, definition: str, *, targetable: bool = True, percentile: float | None = None
) -> Kpi:
    return Kpi(name=name, title=title, unit=unit, direction=direction, definition=definition, targetable=targetable, percentile=percentile)


LOWER, HIGHER = Direction.LOWER, Direction.HIGHER

KPIS: dict[str, Kpi] = {
    kpi.name: kpi
    for kpi in (
        _kpi(
            "latency_p50_ms", "p50 latency", "ms", LOWER, "Median latency, nearest rank; closed loop: completion − issue.", percentile=0.5
        ),
        _kpi("latency_p90_ms", "p90 latency", "ms", LOWER, "90th percentile of latency, nearest rank.", percentile=0.9),
        _kpi("latency_p95_ms", "p95 latency", "ms", LOWER, "95th percentile of latency, nearest rank.", percentile=0.95),
        _kpi(
            "latency_p99_ms",
            "p99 latency",
            "ms",
            LOWER,
            "99th percentile of latency, nearest rank; shown from 662 samples.",
            percentile=0.99,
        ),
        _kpi("latency_mean_ms", "Mean latency", "ms", LOWER, "Arithmetic mean of latency."),
        _kpi("throughput_per_s", "Throughput", "inf/s", HIGHER, "Completed inferences / steady seconds; a batch of 8 counts 8."),
        _kpi("load_time_ms", "Load time", "ms", LOWER, "Process start to model ready."),
        _kpi("first_inference_ms", "First inference", "ms", LOWER, "Duration of the first request after load."),
        _kpi("cold_start_ms", "Cold start", "ms", LOWER, "Load time + first inference."),
        _kpi("time_to_steady_s", "Time to steady", "s", LOWER, "Process start to the steady window.", targetable=False),
        _kpi("memory_peak_host_bytes", "Peak memory", "bytes", LOWER, "cgroup memory peak, else peak resident set."),
        _kpi("model_size_bytes", "Model size", "bytes", LOWER, "Bytes of all deployable files."),
        _kpi("speedup_ratio", "Speed-up", "×", HIGHER, "Baseline time / candidate time; above 1 is better."),
        _kpi("cost_usd_per_hour", "Cost per hour", "$/h", LOWER, "All-in hourly cost of the machine.", targetable=False),
        _kpi("cost_usd_per_million_inferences", "Cost", "$/1M", LOWER, "Hourly cost × 10⁶ / (3600 × throughput × utilization)."),
        _kpi("power_w", "Power", "W", LOWER, "Mean gross power over the steady window."),
        _kpi("energy_j_per_inference", "Energy", "J", LOWER, "Gross energy of the steady window / inferences in it."),
        _kpi("accuracy_top1_fraction", "Top-1 accuracy", "fraction", HIGHER, "Share of labelled examples whose top class is right."),
        _kpi("accuracy_delta_pp", "Accuracy change", "pp", HIGHER, "Candidate − baseline on the same labelled examples."),
        _kpi(
            "fidelity_top1_agreement_fraction",
            "Top-1 agreement",
            "fraction",
            HIGHER,
            "Share of inputs whose top class equals the baseline's.",
        ),
        _kpi("fidelity_cosine_p01_ratio", "Cosine p01", "ratio", HIGHER, "1st percentile of cosine similarity to the baseline's output."),
        _kpi("fidelity_snr_db", "SNR", "dB", HIGHER, "10·log10(Σref² / Σ(ref − out)²) against the baseline."),
        _kpi(
            "fidelity_rank_correlation_ratio",
            "Similarity rank correlation",
            "ratio",
            HIGHER,
            "Spearman correlation of all pairwise similarities.",
        ),
        _kpi(
            "fidelity_nearest_agreement_fraction",
            "Nearest-neighbour agreement",
            "fraction",
            HIGHER,
            "Share of inputs whose nearest neighbour is the baseline's.",
            targetable=False,
        ),
        _kpi(
            "fidelity_character_agreement_fraction",
            "Character agreement",
            "fraction",
            HIGHER,
            "1 − edit distance of the greedily decoded strings from the baseline's / characters of the baseline's, at least 0.",
        ),
        _kpi(
            "fidelity_sequence_exact_fraction",
            "Decoded sequence exact",
            "fraction",
            HIGHER,
            "Share of inputs whose greedily decoded sequence equals the baseline's.",
        ),
        _kpi(
            "fidelity_step_agreement_fraction",
            "Step agreement",
            "fraction",
            HIGHER,
            "Share of output steps whose top class equals the baseline's.",
        ),
        _kpi(
            "fidelity_detection_f1_fraction",
            "Detection F1",
            "fraction",
            HIGHER,
            "2 × boxes that match the baseline's (same class, IoU at least 0.5) / boxes of both; score at least 0.25, after suppression.",
        ),
        _kpi(
            "fidelity_max_abs_error",
            "Largest difference",
            "abs",
            LOWER,
            "Largest absolute output difference to the baseline.",
            targetable=False,
        ),
    )
}


def kpi(name: str) -> Kpi:
    """The registered metric of that name.

    Raises InputError ``kpi.unknown``.
    """
    try:
        return KPIS[name]
    except KeyError:
        raise InputError("kpi.unknown", f"There is no KPI named {name!r}; choose one of: {', '.join(sorted(KPIS))}.") from None
