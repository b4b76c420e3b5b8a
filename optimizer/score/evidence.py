"""What a trial's race and confirmation left behind, gathered by KPI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from optimizer.score.cost import COST, MachinePrice, cost_per_million
from optimizer.specs import Measurement, Stage, StageReport, StageStatus, Verdict

THROUGHPUT = "throughput_per_s"
SIZE = "model_size_bytes"
FIDELITY = ("fidelity_", "accuracy_")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEvidence:
    """One trial's Measurements by KPI. ``fidelity`` is the verdict on the sealed examples, ``limits`` the default limits it used;
    ``stream_steps`` is above 1 where it fed state back over streams."""

    trial: int
    label: str
    measurements: dict[str, Measurement]
    fidelity: Verdict | None = None
    fidelity_reason: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    stream_steps: int = 1
    sandbox_level: str = ""
    raced: bool = False

    def get(self, name: str) -> Measurement | None:
        return self.measurements.get(name)


def gather(reports: Sequence[StageReport], *, price: MachinePrice) -> dict[int, TrialEvidence]:
    """Evidence of every trial that has a race or confirm report, cost included; later stages win on the same KPI."""
    trials = sorted({report.trial for report in reports if report.stage in (Stage.RACE, Stage.CONFIRM)})
    return {trial: _evidence([report for report in reports if report.trial == trial], price=price) for trial in trials}


def _evidence(reports: Sequence[StageReport], *, price: MachinePrice) -> TrialEvidence:
    done = {report.stage: report for report in reports if report.status is StageStatus.OK}
    measured = {one.kpi: one for one in _measurements(done)}
    if THROUGHPUT in measured:
        measured[COST] = cost_per_million(measured[THROUGHPUT], price)
    confirm = done.get(Stage.CONFIRM)
    return TrialEvidence(
        trial=reports[0].trial,
        label=reports[0].recipe.label,
        measurements=measured,
        fidelity=confirm.verdict if confirm else None,
        fidelity_reason=str(confirm.detail.get("reason", "")) if confirm else "",
        limits=_limits(confirm),
        stream_steps=_stream_steps(confirm),
        sandbox_level=_sandbox_level(reports),
        raced=Stage.RACE in done,
    )


def _measurements(done: dict[Stage, StageReport]) -> Iterable[Measurement]:
    """Size from the build; everything else only from race and confirm."""
    if Stage.BUILD in done:
        yield from (one for one in done[Stage.BUILD].measurements if one.kpi == SIZE)
    for stage in (Stage.RACE, Stage.CONFIRM):
        if stage in done:
            yield from done[stage].measurements


def _limits(confirm: StageReport | None) -> dict[str, float]:
    given = confirm.detail.get("limits") if confirm else None
    return {str(name): float(limit) for name, limit in given.items()} if isinstance(given, dict) else {}


def _stream_steps(confirm: StageReport | None) -> int:
    given = confirm.detail.get("stream_steps") if confirm else None
    return given if isinstance(given, int) else 1


def _sandbox_level(reports: Sequence[StageReport]) -> str:
    levels = [str(report.environment.get("sandbox_level", "")) for report in reports]
    return next((level for level in levels if level), "")
