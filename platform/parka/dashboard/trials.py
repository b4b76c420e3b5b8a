"""Trials as lines of a table: how far each came, its best numbers, why it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optimizer.score.rows import Standing
from optimizer.specs import Failure, Measurement, SearchOutcome, Stage, StageReport, StageStatus, Verdict

SPEEDUP, P50, THROUGHPUT = "speedup_ratio", "latency_p50_ms", "throughput_per_s"
DONE_WORDS = {
    Stage.BUILD: "built",
    Stage.GATE: "outputs match",
    Stage.SCREEN: "screened",
    Stage.RACE: "raced",
    Stage.CONFIRM: "confirmed",
}
STAGE_TITLES = {
    Stage.BUILD: "Build",
    Stage.GATE: "Gate: outputs against the original",
    Stage.SCREEN: "Screening: provisional",
    Stage.RACE: "Race: fresh processes against the baseline",
    Stage.CONFIRM: "Confirmation on sealed examples",
}
OUTPUTS = {Verdict.PASS: Standing.PASS, Verdict.FAIL: Standing.FAIL, Verdict.UNPROVEN: Standing.UNPROVEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLine:
    """One trial. ``speedup`` is the race's where there is one, else the screening's estimate (``provisional``)."""

    index: int
    label: str
    role: str
    tone: str
    stage_words: str
    last_stage: Stage
    speedup: Measurement | None
    provisional: bool
    p50: Measurement | None
    throughput: Measurement | None
    outputs: Standing | None
    failure: Failure | None

    @property
    def failed_stage(self) -> str:
        """The stage it stopped in, in words."""
        return self.last_stage.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best trial so far."""

    trial: int
    label: str
    speedup: Measurement | None
    p50: Measurement | None
    provisional: bool


def trial_lines(reports: Iterable[StageReport], *, outcome: SearchOutcome | None = None) -> list[TrialLine]:
    """A line per trial that has reported, by number."""
    by_trial: dict[int, list[StageReport]] = {}
    for report in reports:
        by_trial.setdefault(report.trial, []).append(report)
    return [_line(index, by_trial[index], outcome=outcome) for index in sorted(by_trial)]


def best_of(lines: Sequence[TrialLine]) -> Best | None:
    """The fastest candidate that has not failed: raced ones first; None while nothing beats the baseline."""
    running = [line for line in lines if line.index != 0 and line.failure is None and _value(line.speedup) > 1]
    if not running:
        return None
    top = max(running, key=lambda line: (not line.provisional, _value(line.speedup)))
    return Best(trial=top.index, label=top.label, speedup=top.speedup, p50=top.p50, provisional=top.provisional)


def measurement(reports: Iterable[StageReport], name: str, *stages: Stage) -> Measurement | None:
    """The last measurement of a KPI among the good reports of those stages (of all when none is named)."""
    found = [
        one
        for report in reports
        if report.status is StageStatus.OK and (not stages or report.stage in stages)
        for one in report.measurements
        if one.kpi == name
    ]
    return found[-1] if found else None


def stage_words(report: StageReport) -> str:
    """What one stage yielded, in a few words."""
    if report.failure is not None:
        return report.failure.detail
    reason = report.detail.get("reason")
    return str(reason) if reason else DONE_WORDS[report.stage]


def _line(index: int, reports: Sequence[StageReport], *, outcome: SearchOutcome | None) -> TrialLine:
    last = max(reports, key=lambda report: list(Stage).index(report.stage))
    duel = next((duel for duel in outcome.duels if duel.trial == index), None) if outcome else None
    raced = duel.speedup if duel else measurement(reports, SPEEDUP, Stage.RACE)
    failure = next((report.failure for report in reports if report.status is StageStatus.FAILED), None)
    return TrialLine(
        index=index,
        label=last.recipe.label,
        role=_role(index, outcome),
        tone="bad"
        if failure
        else ("good" if last.stage is Stage.CONFIRM or _is_winner(index, outcome) else "live" if outcome is None else ""),
        stage_words=f"failed in {last.stage}" if failure else DONE_WORDS[last.stage],
        last_stage=last.stage,
        speedup=raced or measurement(reports, SPEEDUP, Stage.SCREEN),
        provisional=raced is None,
        p50=measurement(reports, P50, Stage.RACE),
        throughput=measurement(reports, THROUGHPUT, Stage.RACE),
        outputs=_outputs(index, reports),
        failure=failure,
    )


def _role(index: int, outcome: SearchOutcome | None) -> str:
    if index == 0:
        return "baseline"
    return "winner" if _is_winner(index, outcome) else ""


def _is_winner(index: int, outcome: SearchOutcome | None) -> bool:
    return outcome is not None and outcome.winner == index


def _outputs(index: int, reports: Sequence[StageReport]) -> Standing | None:
    """The verdict on the outputs: sealed where confirmed, else the gate's; the baseline is the reference itself."""
    if index == 0:
        return None
    judged = {report.stage: report.verdict for report in reports if report.verdict is not None}
    verdict = judged.get(Stage.CONFIRM) or judged.get(Stage.GATE)
    return OUTPUTS[verdict] if verdict else None


def _value(one: Measurement | None) -> float:
    return one.value if one is not None and one.value is not None else 0.0
