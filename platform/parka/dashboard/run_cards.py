"""Runs with what their newest scorecard says, for lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from optimizer.score.change import Change
from optimizer.score.scorecard import Scorecard as CardValue
from optimizer.score.wording import format_duration
from optimizer.specs import Measurement
from parka.accounts.access import Access
from parka.dashboard.live import eta
from parka.dashboard.scores import change_of, measured, read_card
from parka.experiments.models import Run, RunState
from parka.scorecards.models import Scorecard
from parka.scorecards.selectors import scorecards

P50, THROUGHPUT, COST = "latency_p50_ms", "throughput_per_s", "cost_usd_per_million_inferences"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run in a list."""

    run: Run
    card: Scorecard | None
    words: str
    p50: Measurement | None = None
    throughput: Measurement | None = None
    cost: Measurement | None = None
    change: Change | None = None
    margin: float = 0.03

    @property
    def key(self) -> str:
        return self.run.label


def run_lines(access: Access, runs: Sequence[Run]) -> list[RunLine]:
    """Lines for these runs, two queries in all."""
    newest: dict[int, Scorecard] = {}
    for card in scorecards(access).filter(run__in=[run.pk for run in runs]).order_by("book__version"):
        newest[card.run_id] = card
    return [_line(run, newest.get(run.pk)) for run in runs]


def took(run: Run) -> str:
    """How long a run needed from its first claim; empty before it ended."""
    if run.first_claimed_at is None or run.finished_at is None:
        return ""
    return format_duration((run.finished_at - run.first_claimed_at).total_seconds())


def _line(run: Run, card: Scorecard | None) -> RunLine:
    words = _words(run)
    if card is None:
        return RunLine(run=run, card=None, words=words)
    value: CardValue = read_card(card)
    return RunLine(
        run=run,
        card=card,
        words=words,
        p50=measured(value, P50),
        throughput=measured(value, THROUGHPUT),
        cost=measured(value, COST),
        change=change_of(value, P50),
        margin=value.margin,
    )


def _words(run: Run) -> str:
    if run.state == RunState.RUNNING:
        return f"{run.get_phase_display()}, {eta(run, now=datetime.now(UTC))}"
    if run.state in (RunState.FAILED, RunState.LOST):
        return run.error_code
    return took(run)
