"""The scorecard: what was measured, judged against the targets, in one derived value (measurement.md 4, 7; ux.md 8.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from optimizer.errors import InputError
from optimizer.measure.verdict import Needed
from optimizer.score.catalog import is_stale
from optimizer.score.change import Change
from optimizer.score.cost import MachinePrice
from optimizer.score.evidence import TrialEvidence, gather
from optimizer.score.finding import write_finding
from optimizer.score.picks import pick_trials
from optimizer.score.rows import ScoreRow, Standing, score_rows
from optimizer.score.wording import format_search
from optimizer.specs import SCHEMA_VERSION, Decision, Duel, FirstProven, InputSource, SearchOutcome, SearchSpec, StageReport, Verdict

__all__ = ["Change", "Needed", "ScoreRow", "Scorecard", "Standing", "build_scorecard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """One run's answer. ``trial`` is the one it judges: the winner, or 0 when the original is kept.

    ``finding`` is one sentence to copy; ``reason`` says why the search decided as it did. ``nearest`` is the closest
    candidate when nothing won, with its duel in ``duel``.
    """

    schema_version: int = SCHEMA_VERSION
    decision: Decision
    finding: str
    reason: str
    trial: int
    label: str
    baseline_label: str
    nearest: int | None = None
    nearest_label: str = ""
    rows: tuple[ScoreRow, ...] = ()
    duel: Duel | None = None
    input_source: InputSource = InputSource.SYNTHETIC
    sealed_examples: int = 0
    trials: int = 0
    elapsed_s: float = 0.0
    first_proven: FirstProven | None = None
    price: MachinePrice
    picks: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    sandbox_level: str = ""
    margin: float = 0.03

    @property
    def targets(self) -> tuple[ScoreRow, ...]:
        """Rows that carry one of the user's targets."""
        return tuple(row for row in self.rows if row.target is not None and not row.default_target)

    @property
    def search(self) -> str:
        """How much was tried, and when what meets all targets was found; empty for scorecards of runs that did not note it."""
        return format_search(self.trials, self.elapsed_s, self.first_proven) if self.trials else ""

    def count(self, verdict: Verdict) -> int:
        """How many of the user's targets have that verdict; estimated and not measured ones count as unproven."""
        return sum(row.verdict is verdict for row in self.targets)

    @property
    def summary(self) -> str:
        """``Meets 4 of 5 targets; 1 unproven``."""
        if not self.targets:
            return "No targets set"
        passed, failed, open_ = (self.count(one) for one in (Verdict.PASS, Verdict.FAIL, Verdict.UNPROVEN))
        rest = "".join(f"; {number} {word}" for number, word in ((failed, "missed"), (open_, "unproven")) if number)
        return f"Meets {passed} of {len(self.targets)} target{'s' if len(self.targets) != 1 else ''}{rest}"


def build_scorecard(
    *, reports: Sequence[StageReport], outcome: SearchOutcome, spec: SearchSpec, price: MachinePrice, today: date | None = None
) -> Scorecard:
    """Judge a finished search from its stored stage reports. Pure: a new price scores an old run again.

    Only race and confirm reports (and the size from the build) are read: screening numbers never reach a scorecard.
    ``today`` dates the price. Raises InputError ``scorecard.no_baseline`` when Trial 0 left no report.
    """
    evidence = gather(reports, price=price)
    if 0 not in evidence:
        raise InputError("scorecard.no_baseline", "Trial 0, the untouched original, left no measurement; run the experiment again.")
    trial = outcome.winner if outcome.winner is not None and outcome.winner in evidence else 0
    judged, baseline = evidence[trial], evidence[0]
    rows = score_rows(judged, baseline, outcome=outcome, spec=spec)
    nearest = _nearest(outcome, trial)
    return Scorecard(
        decision=outcome.decision,
        finding=write_finding(judged, baseline, rows=rows, outcome=outcome, spec=spec, nearest=evidence.get(nearest or -1)),
        reason=outcome.reason,
        trial=trial,
        label=judged.label,
        baseline_label=baseline.label,
        nearest=nearest,
        nearest_label=evidence[nearest].label if nearest in evidence and nearest is not None else "",
        rows=rows,
        duel=_duel(outcome, trial or nearest),
        input_source=outcome.input_source,
        sealed_examples=outcome.sealed_examples,
        trials=outcome.trials,
        elapsed_s=outcome.elapsed_s,
        first_proven=outcome.first_proven,
        price=price,
        picks=dict(outcome.picks) or pick_trials(evidence, outcome=outcome, spec=spec),
        warnings=(*outcome.warnings, *_warnings(judged, outcome=outcome, spec=spec, price=price, today=today)),
        sandbox_level=judged.sandbox_level or baseline.sandbox_level,
        margin=spec.margin,
    )


def _nearest(outcome: SearchOutcome, trial: int) -> int | None:
    return outcome.nearest if trial == 0 else None


def _duel(outcome: SearchOutcome, trial: int | None) -> Duel | None:
    return next((duel for duel in outcome.duels if duel.trial == trial), None)


def _warnings(
    judged: TrialEvidence, *, outcome: SearchOutcome, spec: SearchSpec, price: MachinePrice, today: date | None
) -> tuple[str, ...]:
    """Sentences that belong beside the numbers."""
    found: list[str] = []
    if spec.budget.preset == "quick":
        found.append("Measured with the quick budget: good for a personal decision; use the standard budget for a shared one.")
    if judged.sandbox_level == "C":
        found.append("Sandbox level C: the model ran with few barriers, so use it on your own machine only.")
    if outcome.input_source is InputSource.PROXY:
        found.append("Fidelity on proxy inputs: add your own data to prove it on them.")
    if outcome.input_source is InputSource.SYNTHETIC:
        found.append("Inputs were synthetic: reduced precision cannot be proven; add 500 real inputs to prove it.")
    if price.provenance.is_estimate:
        found.append(f"The price is a catalogue default ({price.source}, {price.dated or 'no date'}): confirm it to prove a cost.")
    elif today is not None and is_stale(price.dated, today=today):
        found.append(f"The price is older than 90 days ({price.dated or 'no date'}).")
    return tuple(found)
