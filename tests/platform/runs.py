"""Builders for tests of agents and runs, through the real services where there is one."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.models import F

from optimizer.codec import to_jsonable
from optimizer.sandbox.job import Level
from optimizer.specs import (
    Decision,
    HardwareProfile,
    Measurement,
    ModelCard,
    Recipe,
    SearchOutcome,
    SearchSpec,
    Stage,
    StageReport,
    TensorSpec,
)
from parka.accounts.access import Access
from parka.experiments.lifecycle import ClaimRequest, Fence, claim_run
from parka.experiments.models import Experiment, Run
from parka.experiments.records import Result
from parka.experiments.services import create_experiment, queue_run
from parka.fleet.models import Agent, AgentToken, RegistrationToken
from parka.fleet.services import Facts, create_agent, register
from parka.registry.models import Artifact, ArtifactRole, Intake, Model, ModelVersion
from parka_agent.protocol import RunReport, RunStatus, body_sha256, encode

PROFILE = HardwareProfile(
    os="Linux",
    os_version="13",
    architecture="x86_64",
    kernel="6",
    cpu_model="Test CPU",
    cores=2,
    memory_bytes=8 << 30,
    runtimes={"onnxruntime": "1.32.0", "openvino": "2026.4.1"},
)
CARD = ModelCard(
    format="onnx", entry="model.onnx", sha256="a" * 64, size_bytes=10, inputs=(TensorSpec(name="x", dtype="float32", shape=(1, 4)),)
)
RUN_TIMES = ("lease_expires_at", "cancel_deadline_at", "not_before_at", "queue_expires_at", "first_claimed_at", "claimed_at", "woken_at")


def facts(**changes: Any) -> Facts:
    return Facts(**{"profile": PROFILE, "agent_version": "0.1.0", "sandbox_level": Level.B, "sandbox_checks": {"tcp": True}, **changes})


def new_agent(access: Access, *, name: str = "Bench", **changes: Any) -> Agent:
    """A registered agent."""
    return new_agent_with_token(access, name=name, **changes)[0]


def new_agent_with_token(access: Access, *, name: str = "Bench", **changes: Any) -> tuple[Agent, str]:
    _, token = create_agent(access, name=name)
    return register(token, facts=facts(**changes))


def ready_version(access: Access, *, name: str = "tiny") -> ModelVersion:
    """An inspected model version whose blob nobody reads."""
    artifact = Artifact.objects.create(team=access.team, sha256=secrets.token_hex(32), size_bytes=10, role=ArtifactRole.MODEL)
    model, _ = Model.objects.get_or_create(team=access.team, slug=name, defaults={"name": name})
    return ModelVersion.objects.create(
        model=model, number=model.versions.count() + 1, artifact=artifact, state=Intake.READY, card=to_jsonable(CARD)
    )


def new_experiment(access: Access, agents: Sequence[Agent], **changes: Any) -> Experiment:
    version = changes.pop("version", None) or ready_version(access)
    return create_experiment(access, version=version, dataset=None, agents=agents, spec=changes.pop("spec", SearchSpec()), **changes)


def new_run(access: Access, agent: Agent) -> Run:
    return new_experiment(access, [agent]).runs.get()


def random_id() -> str:
    return secrets.token_hex(16)


def claim(agent: Agent, *, claim_id: str = "", incarnation: str = "process-one-aaaaaaaa", level: Level = Level.B) -> Run | None:
    return claim_run(agent, ClaimRequest(claim_id=claim_id or random_id(), incarnation=incarnation, level=level))


def fence_of(run: Run) -> Fence:
    """The fence of the execution that holds the run now."""
    run.refresh_from_db()
    return Fence(agent=run.agent, run=run.public_id, attempt=run.attempt, claim_id=run.claim_id)


def stage_report(*, trial: int = 0, stage: Stage = Stage.GATE, **changes: Any) -> StageReport:
    recipe = Recipe(backend="onnxruntime") if trial == 0 else Recipe(backend="openvino", settings=to_settings(trial))
    return StageReport(trial=trial, stage=stage, recipe=recipe, **changes)


def to_settings(trial: int) -> Any:
    from optimizer.specs import BackendSettings

    return BackendSettings(threads=trial)


def latency(kpi: str, value: float, *, n: int = 100) -> Measurement:
    return Measurement(kpi=kpi, value=value, unit="ms", n=n, n_eff=n)


def outcome(**changes: Any) -> SearchOutcome:
    return SearchOutcome(**{"decision": Decision.KEEP_ORIGINAL, "reason": "Nothing was faster.", "nearest": None, **changes})


def result(fence: Fence, *, status: RunStatus = RunStatus.OK, reason: str = "Nothing was faster.", code: str = "") -> Result:
    found = outcome(reason=reason) if status is RunStatus.OK else None
    message = RunReport(claim_id=fence.claim_id or random_id(), status=status, outcome=None if found is None else to_jsonable(found))
    code = code or ("baseline.failed" if status is RunStatus.FAILED else "")
    return Result(
        status=status,
        body={"status": str(status), "reason": reason},
        body_sha256=body_sha256(encode(message) + code.encode()),
        outcome=found,
        error_code=code,
    )


def age(seconds: float) -> None:
    """Let time pass: every moment in the database moves into the past, its clock stays the real one."""
    span = timedelta(seconds=seconds)
    Run.objects.update(**{name: F(name) - span for name in RUN_TIMES})
    Agent.objects.update(last_seen_at=F("last_seen_at") - span)
    AgentToken.objects.update(expires_at=F("expires_at") - span, retire_at=F("retire_at") - span)
    RegistrationToken.objects.update(expires_at=F("expires_at") - span)


def event_names(run: Run) -> list[str]:
    return list(run.events.order_by("id").values_list("event", flat=True))


def queue_again(access: Access, agent: Agent, *, version: ModelVersion) -> Run:
    """One more run, without the hourly bound of people."""
    spec = SearchSpec()
    experiment = Experiment.objects.create(
        team=access.team,
        number=secrets.randbelow(2**31),
        title="walk",
        version=version,
        objective=spec.objective,
        budget_s=spec.budget.total_s,
        preset=spec.budget.preset,
        spec=to_jsonable(spec),
        created_by=access.user,
    )
    return queue_run(experiment, agent)
