"""How a run changes state: the table of transitions, each one conditional UPDATE with its guard in WHERE plus a RunEvent.

Time is the database's clock only. ``attempt`` is the fencing token; ``claim_id`` still separates executions when a restored
backup rewinds ``attempt``. Numbers in comments are rows of the state table in the security specification, section 2.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Case, DateTimeField, Exists, F, OuterRef, Q, QuerySet, When
from django.db.models.functions import Coalesce, Least, Now

from optimizer.sandbox.job import Level
from parka.core.codes import sentence
from parka.core.errors import Conflict, NotFound
from parka.core.transitions import own_columns
from parka.experiments.models import ACTIVE, TERMINAL, Phase, Run, RunClaim, RunEvent, RunState
from parka.fleet.models import Agent, AgentState
from parka_agent.protocol import RunDirective

LEASE = timedelta(seconds=75)
CANCEL_GRACE = timedelta(seconds=45)
QUEUE_TTL = timedelta(hours=24)
ATTEMPT_CAP = 3
SECOND_REQUEUE_DELAY = timedelta(seconds=30)
SWEEP_LOCK = 0x7061726B61

LEASE_LIVE = Q(lease_expires_at__gt=Now())
LEASE_OVER = Q(lease_expires_at__lte=Now())
BELOW_CAP = Q(attempt__lt=ATTEMPT_CAP)
AT_CAP = Q(attempt__gte=ATTEMPT_CAP)


class Event(StrEnum):
    """What happens to a run."""

    CREATED = "created"
    CLAIMED = "claimed"
    FINISHED = "finished"
    FAILED = "failed"
    RELEASED = "released"
    LEASE_EXPIRED = "lease_expired"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    NO_AGENT = "no_agent"
    WITHDRAWN = "withdrawn"
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The state an event starts from and the one it leads to."""

    source: RunState
    target: RunState


TRANSITIONS: dict[Event, Transition] = {
    Event.CLAIMED: Transition(source=RunState.QUEUED, target=RunState.RUNNING),  # 2
    Event.FINISHED: Transition(source=RunState.RUNNING, target=RunState.FINISHED),  # 5
    Event.FAILED: Transition(source=RunState.RUNNING, target=RunState.FAILED),  # 6
    Event.RELEASED: Transition(source=RunState.RUNNING, target=RunState.QUEUED),  # 7
    Event.LEASE_EXPIRED: Transition(source=RunState.RUNNING, target=RunState.QUEUED),  # 8
    Event.ATTEMPTS_EXHAUSTED: Transition(source=RunState.RUNNING, target=RunState.LOST),  # 7, 8
    Event.NO_AGENT: Transition(source=RunState.QUEUED, target=RunState.LOST),  # 9
    Event.WITHDRAWN: Transition(source=RunState.QUEUED, target=RunState.CANCELLED),  # 10
    Event.CANCEL_REQUESTED: Transition(source=RunState.RUNNING, target=RunState.CANCELLING),  # 11
    Event.CANCELLED: Transition(source=RunState.CANCELLING, target=RunState.CANCELLED),  # 13, 14
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """The execution that speaks: agent, run, attempt and claim must all match the row."""

    agent: Agent
    run: str
    attempt: int
    claim_id: str

    @property
    def rows(self) -> QuerySet[Run]:
        """The run while this execution owns it; empty otherwise."""
        return Run.objects.filter(public_id=self.run, agent=self.agent, attempt=self.attempt, claim_id=self.claim_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """An agent asks for work. ``claim_id`` is new for each request unless that very request is retried."""

    claim_id: str
    incarnation: str
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What a heartbeat says of a run under way; display only."""

    phase: Phase = Phase.PREPARE
    progress: dict[str, Any] = field(default_factory=dict)


def move(run_id: int, event: Event, *guards: Q, detail: dict[str, Any] | None = None, **changes: Any) -> bool:
    """Apply an event to a run whose row still meets its state and guards; False when it does not."""
    transition = TRANSITIONS[event]
    with transaction.atomic():
        rows = Run.objects.filter(*guards, pk=run_id, state=transition.source)
        if own_columns(rows).update(state=transition.target, **{**_fields_of(transition.target), **changes}) == 0:
            return False
        attempt = Run.objects.values_list("attempt", flat=True).get(pk=run_id)
        note(run_id, event=event, source=transition.source, target=transition.target, attempt=attempt, detail=detail)
    return True


def note(run_id: int, *, event: Event, source: str, target: RunState, attempt: int, detail: dict[str, Any] | None = None) -> None:
    """Write the event row of a change."""
    RunEvent.objects.create(run_id=run_id, event=event, from_state=source, to_state=target, attempt=attempt, detail=detail or {})


def own_run(agent: Agent, public_id: str) -> Run:
    """A run of this agent. Raises NotFound ``run.not_found``."""
    run = Run.objects.filter(public_id=public_id, agent=agent).select_related("experiment", "team").first()
    if run is None:
        raise NotFound("run.not_found")
    return run


def claim_run(agent: Agent, request: ClaimRequest) -> Run | None:
    """Lease the agent's next queued run to it; the same ``claim_id`` gets the same lease again; None when there is nothing.

    Works without the sweeper: the agent's own expired leases are settled first.
    """
    sweep(agent=agent)
    if RunClaim.objects.filter(agent=agent, claim_id=request.claim_id).exists():
        return Run.objects.filter(LEASE_LIVE, agent=agent, claim_id=request.claim_id, state=RunState.RUNNING).first()
    try:
        with transaction.atomic():
            return _claim_next(agent, request)
    except IntegrityError:
        return None


def heartbeat(fence: Fence, sign: Sign) -> RunDirective:
    """Prolong the lease of the execution that speaks and tell it how to go on."""
    shown = {"phase": sign.phase, "progress": sign.progress}
    if fence.rows.filter(LEASE_LIVE, state=RunState.RUNNING).update(lease_expires_at=Now() + LEASE, **shown):
        return RunDirective.CONTINUE
    until_deadline = Least(Now() + LEASE, F("cancel_deadline_at"))
    if fence.rows.filter(state=RunState.CANCELLING).update(lease_expires_at=until_deadline):
        return RunDirective.CANCEL
    return RunDirective.LOST


def request_cancel(run: Run) -> RunState:
    """End a queued run at once, ask the agent of a running one to stop; a second request changes nothing.

    Raises Conflict ``run.terminal``.
    """
    if move(run.pk, Event.WITHDRAWN):
        return RunState.CANCELLED
    deadline = Now() + CANCEL_GRACE
    asked = move(run.pk, Event.CANCEL_REQUESTED, cancel_deadline_at=deadline, lease_expires_at=Least(F("lease_expires_at"), deadline))
    state = RunState(Run.objects.values_list("state", flat=True).get(pk=run.pk))
    if state in TERMINAL and not asked:
        raise Conflict("run.terminal")
    return state


def end_leases(agent: Agent, *, but_of: str = "") -> list[int]:
    """The agent was revoked, or a newer process of it spoke: other processes' leases end now (15). Ids of changed runs."""
    rows = Run.objects.filter(agent=agent, state__in=ACTIVE)
    if but_of:
        rows = rows.exclude(incarnation=but_of)
    return sweep(agent=agent) if rows.update(lease_expires_at=Now()) else []


def sweep(*, agent: Agent | None = None) -> list[int]:
    """Settle what time decided, everywhere or for one agent; returns the ids of the runs that changed. Safe to repeat."""
    scope = Run.objects.all() if agent is None else Run.objects.filter(agent=agent)
    due = list(scope.filter(_DUE).values_list("pk", "state"))
    if not due:
        return []
    with _only_sweeper(everything=agent is None) as mine:
        return [pk for pk, state in due if mine and _SETTLE[RunState(state)](pk)]


def requeue_changes() -> dict[str, Any]:
    """Fields of a run that goes back to the queue: the second time it waits 30 s."""
    delayed = Case(When(attempt__gte=2, then=Now() + SECOND_REQUEUE_DELAY), default=Now(), output_field=DateTimeField())
    return {"not_before_at": delayed, "queue_expires_at": Now() + QUEUE_TTL, "woken_at": None}


def requeue_or_lose(run_id: int, event: Event, *guards: Q) -> bool:
    """Back to the queue; at the attempt cap the run is lost."""
    if move(run_id, event, *guards, BELOW_CAP, **requeue_changes()):
        return True
    return move(run_id, Event.ATTEMPTS_EXHAUSTED, *guards, AT_CAP, **_lost("run.attempts_exhausted"))


def budget_left_s(run: Run) -> float:
    """Seconds of the experiment's budget that remain, counted from the run's first claim by the database clock."""
    row = Run.objects.filter(pk=run.pk).annotate(now=Now()).values("now", "first_claimed_at", "experiment__budget_s").get()
    if row["first_claimed_at"] is None:
        return float(row["experiment__budget_s"])
    return max(0.0, row["experiment__budget_s"] - (row["now"] - row["first_claimed_at"]).total_seconds())


def attempt_age_s(run: Run) -> float:
    """Seconds since the current attempt was claimed, by the database clock; 0 when nobody holds it."""
    row = Run.objects.filter(pk=run.pk).annotate(now=Now()).values("now", "claimed_at").get()
    return (row["now"] - row["claimed_at"]).total_seconds() if row["claimed_at"] else 0.0


def _fields_of(state: RunState) -> dict[str, Any]:
    """Lease fields are set exactly while a run is active."""
    if state in ACTIVE:
        return {}
    idle: dict[str, Any] = {"lease_expires_at": None, "cancel_deadline_at": None, "progress": {}}
    return {**idle, "phase": Phase.QUEUED, "incarnation": ""} if state == RunState.QUEUED else {**idle, "finished_at": Now()}


def _agent_is(state: AgentState) -> Exists:
    return Exists(Agent.objects.filter(pk=OuterRef("agent"), state=state))


def _claim_next(agent: Agent, request: ClaimRequest) -> Run | None:
    free = Q(_agent_is(AgentState.ACTIVE), not_before_at__lte=Now(), min_level__gte=request.level)
    waiting = Run.objects.select_for_update(skip_locked=True, of=("self",)).filter(free, BELOW_CAP, agent=agent, state=RunState.QUEUED)
    run_id = waiting.order_by("priority", "id").values_list("pk", flat=True).first()
    if run_id is None:
        return None
    claimed = move(
        run_id,
        Event.CLAIMED,
        free,
        BELOW_CAP,
        attempt=F("attempt") + 1,
        claim_id=request.claim_id,
        incarnation=request.incarnation,
        claimed_at=Now(),
        first_claimed_at=Coalesce(F("first_claimed_at"), Now()),
        lease_expires_at=Now() + LEASE,
        phase=Phase.PREPARE,
    )
    if not claimed:
        return None
    run = Run.objects.get(pk=run_id)
    RunClaim.objects.create(run=run, agent=agent, attempt=run.attempt, claim_id=request.claim_id)
    return run


_DUE = (
    Q(state__in=ACTIVE) & LEASE_OVER
    | Q(state=RunState.CANCELLING, cancel_deadline_at__lte=Now())
    | Q(state=RunState.QUEUED) & (Q(queue_expires_at__lte=Now()) | Q(agent__state=AgentState.REVOKED))
)


def _settle_running(run_id: int) -> bool:
    return requeue_or_lose(run_id, Event.LEASE_EXPIRED, LEASE_OVER)


def _settle_cancelling(run_id: int) -> bool:
    return move(run_id, Event.CANCELLED, LEASE_OVER | Q(cancel_deadline_at__lte=Now()), detail={"by": "sweeper"})


def _settle_queued(run_id: int) -> bool:
    unwanted = Q(queue_expires_at__lte=Now()) | Q(_agent_is(AgentState.REVOKED))
    return move(run_id, Event.NO_AGENT, unwanted, **_lost("run.no_agent"))


_SETTLE = {RunState.RUNNING: _settle_running, RunState.CANCELLING: _settle_cancelling, RunState.QUEUED: _settle_queued}


def _lost(code: str) -> dict[str, Any]:
    return {"error_code": code, "error_detail": sentence(code)}


@contextmanager
def _only_sweeper(*, everything: bool) -> Iterator[bool]:
    """One transaction; on PostgreSQL only one process sweeps everything at a time, on SQLite the write lock sees to it."""
    with transaction.atomic():
        if everything and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [SWEEP_LOCK])
                yield bool(cursor.fetchone()[0])
        else:
            yield True
