"""Was the host quiet during a block? Blind to results: only this may invalidate a block (measurement.md 6)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from optimizer.hardware.cores import allowed_cores
from optimizer.measure.control_job import ControlJob
from optimizer.measure.host_signals import HostCounters, read_counters

CONTROL_LIMIT = 0.10
QUIET_PROBES = 6
QUIET_PAUSE_S = 0.25
"""A block whose control job already deviates would be repeated: a disturbance is waited out for up to about two seconds first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Above ``warn`` the block is marked, above ``invalidate`` (None: never) it is repeated."""

    signal: str
    unit: str
    warn: float
    invalidate: float | None


THRESHOLDS = (
    Threshold(signal="control_job_deviation", unit="of its median", warn=0.03, invalidate=CONTROL_LIMIT),
    Threshold(signal="steal_fraction", unit="of CPU time", warn=0.005, invalidate=0.02),
    Threshold(signal="other_cpu_cores", unit="cores", warn=0.05, invalidate=0.20),
    Threshold(signal="throttled_fraction", unit="of time", warn=0.0, invalidate=0.01),
    Threshold(signal="pressure_memory_fraction", unit="of time", warn=0.05, invalidate=0.20),
    Threshold(signal="pressure_io_fraction", unit="of time", warn=0.05, invalidate=0.20),
    Threshold(signal="frequency_drop_fraction", unit="below block 1", warn=0.05, invalidate=0.15),
    Threshold(signal="swapped_pages", unit="pages", warn=0.0, invalidate=None),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTelemetry:
    """Signals of one block; a signal that this host cannot give is absent and named in ``unavailable``."""

    valid: bool
    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    signals: dict[str, float] = field(default_factory=dict)
    unavailable: tuple[str, ...] = ()


class Telemetry:
    """Around each block: ``start()`` before, ``stop()`` after. It reads counters at both ends and nothing in between."""

    def __init__(self, control_job: ControlJob | None = None) -> None:
        self.control_job = control_job or ControlJob()
        self._begin = self._last = HostCounters()
        self._begin_ns = 0
        self._control_ns = 0
        self._first_frequency_mhz: float | None = None

    def start(self) -> None:
        self._control_ns = self._quiet_control_ns()
        self._begin = self._last = read_counters()
        self._first_frequency_mhz = self._first_frequency_mhz or self._begin.frequency_mhz
        self._begin_ns = time.perf_counter_ns()

    def _quiet_control_ns(self) -> int:
        """The control job before the block, run again after a pause while it deviates."""
        duration_ns = self.control_job.probe()
        for _ in range(QUIET_PROBES - 1):
            if abs(self.control_job.deviation(duration_ns)) <= CONTROL_LIMIT:
                break
            time.sleep(QUIET_PAUSE_S)
            duration_ns = self.control_job.probe()
        return duration_ns

    @property
    def own_cpu_s(self) -> float:
        """Processor time of this process and all its children, ended ones too, when last read."""
        return self._last.own_s or 0.0

    def stop(self) -> BlockTelemetry:
        elapsed_s = (time.perf_counter_ns() - self._begin_ns) / 1e9
        end = self._last = read_counters()
        deviation = max(abs(self.control_job.deviation(value)) for value in (self._control_ns, self.control_job.probe()))
        signals = {
            "control_job_deviation": deviation,
            **differences(self._begin, end, elapsed_s=elapsed_s, cores=allowed_cores()),
            "frequency_drop_fraction": drop(end.frequency_mhz, self._first_frequency_mhz),
        }
        return judge_block(signals)


def differences(begin: HostCounters, end: HostCounters, *, elapsed_s: float, cores: int) -> dict[str, float | None]:
    """Rates over the block, stolen time as a share of all cores' time; None where a counter is missing at either end."""
    elapsed_s = max(elapsed_s, 1e-6)

    def rate(name: str, *, scale: float = 1.0) -> float | None:
        first, last = getattr(begin, name), getattr(end, name)
        return None if first is None or last is None else max(0.0, (last - first) / scale / elapsed_s)

    busy, own, steal = rate("busy_s"), rate("own_s"), rate("steal_s", scale=max(1, cores))
    swapped = rate("swapped_pages")
    return {
        "steal_fraction": steal,
        "other_cpu_cores": None if busy is None or own is None else max(0.0, busy - own),
        "throttled_fraction": rate("throttled_s"),
        "pressure_memory_fraction": rate("pressure_memory_us", scale=1e6),
        "pressure_io_fraction": rate("pressure_io_us", scale=1e6),
        "swapped_pages": None if swapped is None else swapped * elapsed_s,
    }


def drop(now_mhz: float | None, first_mhz: float | None) -> float | None:
    """How far the frequency lies below that of block 1."""
    return None if not now_mhz or not first_mhz else max(0.0, 1.0 - now_mhz / first_mhz)


def judge_block(signals: dict[str, float | None]) -> BlockTelemetry:
    """Hold the signals against the thresholds; a missing signal is unavailable and never invalidates."""
    warnings: list[str] = []
    reasons: list[str] = []
    for threshold in THRESHOLDS:
        value = signals.get(threshold.signal)
        if value is None or value <= threshold.warn:
            continue
        invalid = threshold.invalidate is not None and value > threshold.invalidate
        (reasons if invalid else warnings).append(f"{threshold.signal} {value:.3g} {threshold.unit}")
    return BlockTelemetry(
        valid=not reasons,
        warnings=tuple(warnings),
        reasons=tuple(reasons),
        signals={name: value for name, value in signals.items() if value is not None},
        unavailable=tuple(sorted(name for name, value in signals.items() if value is None)),
    )
