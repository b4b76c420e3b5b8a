"""A run under way as a person watches it: phases, headline, time left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from optimizer.score.wording import format_duration, format_duration_range
from parka.core.text import clean_line
from parka.experiments.models import Phase, Run, RunState

STEPS = (Phase.QUEUED, Phase.PREPARE, Phase.BASELINE, Phase.OPTIMISE, Phase.CONFIRM, Phase.SCORE)
SILENT_AFTER_S = 45


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """A phase: done, now or to come."""

    label: str
    state: str
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """What the status panel shows; ``share`` is whole percent of the time budget that has passed."""

    steps: tuple[StepView, ...]
    headline: str
    eta: str
    notice: str
    share: int


def live_view(run: Run, *, ahead: int = 0, now: datetime | None = None) -> LiveView:
    """The status of a run; ``ahead`` counts the runs its agent takes first."""
    moment = now or datetime.now(UTC)
    return LiveView(
        steps=steps(run),
        headline=headline(run, ahead=ahead),
        eta=eta(run, now=moment),
        notice=notice(run, now=moment),
        share=share(run, now=moment),
    )


def steps(run: Run) -> tuple[StepView, ...]:
    """The six phases in order."""
    current = Phase.QUEUED if run.state == RunState.QUEUED else Phase(run.phase)
    here = STEPS.index(current)
    return tuple(
        StepView(
            label=str(phase.label),
            state="done" if place < here else "now" if place == here else "next",
            words=_counter(run, phase, current),
        )
        for place, phase in enumerate(STEPS)
    )


def headline(run: Run, *, ahead: int) -> str:
    """One sentence on what happens now."""
    if run.state == RunState.QUEUED:
        return f"Waiting for {run.agent.name}: " + (f"{ahead} ahead" if ahead else "next in its queue")
    if run.state == RunState.CANCELLING:
        return "Cancelling: the agent stops within 45 s"
    return clean_line(str(_progress(run).get("detail", "")), limit=160) or f"{run.get_phase_display()} on {run.agent.name}"


def eta(run: Run, *, now: datetime) -> str:
    """Time left as a range: the budget is an upper bound."""
    if run.first_claimed_at is None:
        return f"budget {format_duration(run.experiment.budget_s)}"
    left = run.experiment.budget_s - (now - run.first_claimed_at).total_seconds()
    return "ending any moment" if left < 10 else f"{format_duration_range(left * 0.6, left)} left"


def notice(run: Run, *, now: datetime) -> str:
    """What may worry: a silent agent, a repeated attempt."""
    if run.state == RunState.RUNNING and run.agent.last_seen_at is not None:
        silent = (now - run.agent.last_seen_at).total_seconds()
        if silent > SILENT_AFTER_S:
            return f"No heartbeat for {format_duration(silent)}; results are safe; requeued within 2 min."
    return f"Attempt {run.attempt}: an earlier one was lost. Its finished trials are kept." if run.attempt > 1 else ""


def share(run: Run, *, now: datetime) -> int:
    """Percent of the budget that has passed."""
    if run.first_claimed_at is None:
        return 0
    passed = (now - run.first_claimed_at).total_seconds() / run.experiment.budget_s
    return max(0, min(99, int(passed * 100)))


def token(run: Run, *, stages: int) -> str:
    """Changes whenever the live partial would; lets polling answer 204."""
    seen = [run.state, run.phase, run.attempt, run.progress, stages]
    return sha256(repr(seen).encode()).hexdigest()[:16]


def _progress(run: Run) -> dict[str, Any]:
    return run.progress if isinstance(run.progress, dict) else {}


def _counter(run: Run, phase: Phase, current: Phase) -> str:
    done, total = _progress(run).get("done"), _progress(run).get("total")
    if phase != current or not isinstance(done, int) or not isinstance(total, int) or total <= 0:
        return ""
    return f"{done} of {total}"
