"""What an earlier attempt's reports still say: indices, builds and gates stay valid, timings are taken again (measurement.md 8)."""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.search.actions import Fidelity
from optimizer.search.field import Known
from optimizer.specs import Failure, Stage, StageReport, StageStatus


def known_recipes(finished: Sequence[StageReport]) -> dict[str, Known]:
    """Per recipe key: its index, its gate, and a failure that would come again. A stray failure is forgotten."""
    by_recipe: dict[str, dict[Stage, StageReport]] = {}
    for report in finished:
        by_recipe.setdefault(report.recipe.key, {})[report.stage] = report
    return {key: _known(stages) for key, stages in by_recipe.items()}


def _known(stages: dict[Stage, StageReport]) -> Known:
    index = next(iter(stages.values())).trial
    build, gate = stages.get(Stage.BUILD), stages.get(Stage.GATE)
    failures = [report.failure for report in (build, gate) if report and report.status is StageStatus.FAILED and report.failure]
    lasting: Failure | None = next((failure for failure in failures if not failure.stray), None)
    return Known(index=index, gate=gate_of(gate) if gate else None, failure=lasting)


def gate_of(report: StageReport) -> Fidelity | None:
    """The gate's fidelity as its report stored it; None when it gave none."""
    if report.verdict is None:
        return None
    limits = report.detail.get("limits")
    return Fidelity(
        verdict=report.verdict,
        reason=str(report.detail.get("reason", "")),
        invariant=bool(report.detail.get("invariant")),
        measurements=report.measurements,
        limits={str(name): float(limit) for name, limit in limits.items()} if isinstance(limits, dict) else {},
    )
