"""Stage reports of a search, written as its results come in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.measure.records import StartSamples, write_samples
from optimizer.pipeline import Build
from optimizer.search.actions import Arm, Built, Fidelity, Gated, Sealed
from optimizer.search.appraise import size_measurement, start_measurements
from optimizer.search.problem import Observer
from optimizer.search.screen import ScreenLedger
from optimizer.specs import (
    ArtifactRef,
    Duel,
    Failure,
    Json,
    Measurement,
    Provenance,
    Recipe,
    Stage,
    StageReport,
    StageStatus,
    Verdict,
)

CONFIRM_KPIS = ("cold_start_ms", "memory_peak_host_bytes")


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Sends each stage of each trial to the observer and keeps what was sent. ``samples_dir`` receives the raw samples.

    ``known`` are builds and gates that an earlier attempt reported: they stay as they are and are not told again.
    """

    observer: Observer
    environment: dict[str, Json]
    samples_dir: Path
    known: frozenset[tuple[int, Stage]] = frozenset()
    recipes: dict[int, Recipe] = field(default_factory=dict)
    sent: list[StageReport] = field(default_factory=list)

    def built(self, result: Built, build: Build | None) -> None:
        detail: dict[str, Json] = {"seconds": round(result.seconds, 3)}
        if build is not None:
            detail |= {"build_key": build.key, "artifact_sha256": build.sha256, "entry": build.entry, "passes": build.facts}
        measured = (size_measurement(result.size_bytes),) if result.failure is None else ()
        self._send(result.trial, Stage.BUILD, failure=result.failure, measurements=measured, detail=detail)

    def gated(self, result: Gated, *, examples: int) -> None:
        self._fidelity(
            result.trial, Stage.GATE, result.fidelity, result.failure, {"examples": examples, "seconds": round(result.seconds, 3)}
        )

    def screened(self, trial: int, ledger: ScreenLedger) -> None:
        """Screening's own view: an estimate that never reaches a scorecard."""
        pace = ledger.pace(trial)
        if pace is None:
            return
        half = 1.959963984540054 * pace.se
        estimate = Measurement(
            kpi="speedup_ratio",
            value=pace.speedup,
            unit="×",
            ci_low=math.exp(pace.log_ratio - half),
            ci_high=math.exp(pace.log_ratio + half),
            n=pace.rounds,
            n_eff=pace.rounds,
            starts=1,
            method="screening_rounds",
            provenance=Provenance.MODELED,
        )
        self._send(trial, Stage.SCREEN, measurements=(estimate,), detail={"rounds": pace.rounds})

    def screen_failed(self, trial: int, failure: Failure) -> None:
        self._send(trial, Stage.SCREEN, failure=failure)

    def raced(self, trial: int, arms: Sequence[Arm], *, duels: Sequence[Duel] = (), detail: dict[str, Json]) -> None:
        """Latency and throughput from the race's own starts, with the raw samples."""
        samples = write_samples([_stored(number, arm) for number, arm in enumerate(arms)], folder=self.samples_dir)
        timed = [one for one in start_measurements(arms, samples_sha256=samples.sha256) if one.kpi not in CONFIRM_KPIS]
        shown = {"duels": [{"kpi": one.kpi, "speedup": one.speedup.value, "effect": one.effect.value} for one in duels], **detail}
        self._send(trial, Stage.RACE, measurements=tuple(timed), detail=shown, artifacts=(samples,))

    def race_failed(self, trial: int, failure: Failure) -> None:
        self._send(trial, Stage.RACE, failure=failure)

    def confirmed(self, trial: int, arms: Sequence[Arm], *, size_bytes: int, sealed: Sealed | None) -> None:
        """Sealed fidelity, cold start, peak memory and size."""
        started = [one for one in start_measurements(arms) if one.kpi in CONFIRM_KPIS]
        fidelity = sealed.fidelity if sealed else None
        failure = sealed.failure if sealed else None
        extra: dict[str, Json] = {"examples": sealed.examples, "seconds": round(sealed.seconds, 3)} if sealed else {}
        self._fidelity(trial, Stage.CONFIRM, fidelity, failure, extra, more=(*started, size_measurement(size_bytes)))

    def _fidelity(
        self,
        trial: int,
        stage: Stage,
        fidelity: Fidelity | None,
        failure: Failure | None,
        detail: dict[str, Json],
        *,
        more: tuple[Measurement, ...] = (),
    ) -> None:
        measured: tuple[Measurement, ...] = more
        verdict: Verdict | None = None
        if fidelity is not None:
            measured, verdict = (*fidelity.measurements, *more), fidelity.verdict
            detail = {**detail, "reason": fidelity.reason, "invariant": fidelity.invariant, "limits": dict(fidelity.limits)}
            detail |= {"stream_steps": fidelity.stream_steps} if fidelity.stream_steps > 1 else {}
        self._send(trial, stage, failure=failure, measurements=measured, verdict=verdict, detail=detail)

    def _send(
        self,
        trial: int,
        stage: Stage,
        *,
        failure: Failure | None = None,
        measurements: tuple[Measurement, ...] = (),
        verdict: Verdict | None = None,
        detail: dict[str, Json] | None = None,
        artifacts: tuple[ArtifactRef, ...] = (),
    ) -> None:
        report = StageReport(
            trial=trial,
            stage=stage,
            recipe=self.recipes[trial],
            status=StageStatus.OK if failure is None else StageStatus.FAILED,
            failure=failure,
            measurements=measurements,
            verdict=verdict,
            detail=detail or {},
            artifacts=artifacts,
            environment=self.environment,
        )
        if (trial, stage) in self.known:
            return
        self.sent.append(report)
        self.observer.report(report)


def _stored(number: int, arm: Arm) -> StartSamples:
    return StartSamples(
        start_id=number,
        block_id=number,
        issued_ns=arm.rows_ns[:, 0],
        completed_ns=arm.rows_ns[:, 1],
        calls_per_sample=arm.calls_per_sample,
        items=arm.items,
        in_flight=arm.in_flight,
    )
