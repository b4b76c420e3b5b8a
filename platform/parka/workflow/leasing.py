"""What an agent's claim and heartbeat do: hear the process, settle old leases, hand out or prolong the lease."""

from __future__ import annotations

import json

import structlog
from django.db import transaction

from optimizer.codec import to_jsonable
from optimizer.sandbox.job import Level
from parka.accounts.models import Team
from parka.audit.services import record
from parka.core.signing import signed_blob_path
from parka.core.text import clean_json
from parka.experiments.lifecycle import LEASE, ClaimRequest, Fence, Sign, budget_left_s, claim_run, end_leases, heartbeat
from parka.experiments.models import Phase, Run
from parka.experiments.selectors import reports
from parka.fleet.models import Agent, AgentState
from parka.fleet.services import Facts, hear, store_facts
from parka.registry.models import Artifact
from parka.workflow.progress import announce, announce_progress
from parka_agent.protocol import (
    HEARTBEAT_S,
    AgentDirective,
    Claim,
    File,
    FinishedTrial,
    Heartbeat,
    HeartbeatReply,
    Lease,
    LeaseState,
    RunDirective,
    RunSign,
)

log = structlog.get_logger(__name__)
PROGRESS_BYTES = 4096


@transaction.atomic
def start_process(agent: Agent, *, incarnation: str, facts: Facts) -> None:
    """A process of the agent begins: keep its facts, end what an earlier one held.

    Raises Conflict ``agent.superseded``.
    """
    _hear(agent, incarnation)
    store_facts(agent, facts)


def grant_lease(agent: Agent, claim: Claim) -> Lease | None:
    """Lease the next run to the agent; None when nothing waits or the agent takes no work.

    Raises Conflict ``agent.superseded``.
    """
    _hear(agent, claim.incarnation)
    if claim.draining:
        return None
    level = _weaker(claim.sandbox_level, agent.sandbox_level)
    run = claim_run(agent, ClaimRequest(claim_id=claim.claim_id, incarnation=claim.incarnation, level=level))
    if run is None:
        return None
    announce([run.pk])
    log.info("run_claimed", run=run.public_id, agent=agent.public_id, attempt=run.attempt)
    return _lease(agent, run)


def hear_heartbeat(agent: Agent, message: Heartbeat) -> HeartbeatReply:
    """Prolong the leases of the runs under way and say how to go on.

    Raises Conflict ``agent.superseded``.
    """
    _hear(agent, message.incarnation)
    draining = agent.state == AgentState.DRAINING
    return HeartbeatReply(
        lease_s=LEASE.total_seconds(),
        agent=AgentDirective.DRAIN if draining else AgentDirective.CONTINUE,
        leases=[_prolong(agent, sign) for sign in message.running],
    )


def _hear(agent: Agent, incarnation: str) -> None:
    with transaction.atomic():
        if hear(agent, incarnation):
            announce(end_leases(agent, but_of=incarnation))


def _prolong(agent: Agent, sign: RunSign) -> LeaseState:
    fence = Fence(agent=agent, run=sign.run, attempt=sign.attempt, claim_id=sign.claim_id)
    directive = heartbeat(fence, Sign(phase=_phase(sign.phase), progress=_progress(sign.progress)))
    run = Run.objects.filter(public_id=sign.run, agent=agent).first()
    if run is None:
        note_foreign_run(agent, sign.run)
    elif directive is RunDirective.CONTINUE:
        announce_progress(run)
    return LeaseState(run=sign.run, attempt=sign.attempt, directive=directive)


@transaction.atomic
def note_foreign_run(agent: Agent, run_id: str) -> None:
    """An agent spoke of a run that is not its own: audited."""
    team = Team.objects.get(pk=agent.team_id)
    record("agent.foreign_run", actor=f"agent {agent.public_id}", team=team.public_id, target=run_id)


def _lease(agent: Agent, run: Run) -> Lease:
    experiment = run.experiment
    files = [("model", experiment.version.artifact)]
    if experiment.dataset is not None:
        files.append(("dataset", experiment.dataset.artifact))
    return Lease(
        run=run.public_id,
        label=run.label,
        attempt=run.attempt,
        lease_s=LEASE.total_seconds(),
        heartbeat_s=HEARTBEAT_S,
        spec=experiment.spec,
        card=experiment.version.card or {},
        budget_left_s=budget_left_s(run),
        finished=_finished(run),
        min_level=Level(run.min_level),
        manifest=[_file(name, artifact, run=run, agent=agent) for name, artifact in files],
    )


def _file(name: str, artifact: Artifact, *, run: Run, agent: Agent) -> File:
    url = signed_blob_path(
        sha256=artifact.sha256, size_bytes=artifact.size_bytes, run=run.public_id, attempt=run.attempt, agent=agent.public_id
    )
    return File(name=name, file_name=artifact.file_name, sha256=artifact.sha256, size=artifact.size_bytes, url=url)


def _finished(run: Run) -> list[FinishedTrial]:
    by_trial: dict[int, FinishedTrial] = {}
    for report in reports(run):
        trial = by_trial.setdefault(report.trial, FinishedTrial(trial=report.trial, recipe_key=report.recipe.key, stages=[]))
        trial.stages.append(to_jsonable(report))
    return list(by_trial.values())


def _weaker(claimed: Level, registered: str) -> Level:
    """The level that holds: never stronger than the one the server was told with its checks."""
    return max(claimed, Level(registered)) if registered else Level.C


def _phase(name: str) -> Phase:
    return Phase(name) if name in Phase.values else Phase.PREPARE


def _progress(progress: dict[str, object]) -> dict[str, object]:
    return clean_json(progress) if len(json.dumps(progress)) <= PROGRESS_BYTES else {}
