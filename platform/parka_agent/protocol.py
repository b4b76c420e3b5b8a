"""The words between agent and server: pydantic messages, timings, and the canonical body of an idempotent report.

The only module of the agent that the platform imports. Unknown fields are ignored; NaN and infinities are refused.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.sandbox.job import Level
from optimizer.specs import ArtifactRef, Failure, Measurement, Recipe, SearchOutcome, Stage, StageReport, StageStatus, Verdict

PROTOCOL_VERSION = 1
VERSION_HEADER = "Parka-Protocol"
CLAIM_HEADER = "Parka-Claim"
BASE_PATH = "/api/v1/agent/"
WAKE_TASK = "parka_agent.wake"

HEARTBEAT_S = 15.0
HEARTBEAT_JITTER_S = 1.0
LEASE_S = 75.0
SELF_FENCE_S = 65.0
CLAIM_EVERY_S = 60.0
LONGEST_WAIT_S = 25.0
MESSAGE_BYTES = 256 * 1024
REPORT_BYTES = 8 * 2**20
RESULT_BYTES = 2**20
LOG_PIECE_BYTES = 64 * 1024
LOG_BYTES = 20 * 2**20

Token = Annotated[str, Field(min_length=8, max_length=200)]
RandomId = Annotated[str, Field(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
PublicId = Annotated[str, Field(min_length=1, max_length=40)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=2000)]
Attempt = Annotated[int, Field(ge=1, le=1000)]
Json = dict[str, Any]


class Message(BaseModel):
    """Base of every message."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Timings(Message):
    """What the server wants the agent to keep to, in seconds."""

    heartbeat_s: float = HEARTBEAT_S
    lease_s: float = LEASE_S
    self_fence_s: float = SELF_FENCE_S
    claim_every_s: float = CLAIM_EVERY_S


class Broker(Message):
    """How a Celery-form agent listens for wake-ups."""

    url: str
    queue: str
    prefix: str


class SandboxFacts(Message):
    """The level whose self-test passed, and each check."""

    level: Level
    checks: dict[str, bool] = {}


class Registration(Message):
    """``POST register``. ``facts`` is an ``optimizer.specs.HardwareProfile`` as JSON."""

    token: Token
    name: Annotated[str, Field(max_length=120)] = ""
    agent_version: Annotated[str, Field(max_length=40)] = ""
    facts: Json
    sandbox: SandboxFacts


class Registered(Message):
    agent_id: str
    agent_token: str
    expires_at: str
    form: str
    timings: Timings
    broker: Broker | None = None


class Start(Message):
    """``POST start``: a process of the agent begins; facts may have changed since the registration."""

    incarnation: RandomId
    agent_version: Annotated[str, Field(max_length=40)] = ""
    facts: Json
    sandbox: SandboxFacts


class Started(Message):
    agent_id: str
    form: str
    timings: Timings
    token_expires_in_s: float
    broker: Broker | None = None


class Claim(Message):
    """``POST claim``; ``claim_id`` is new for each request unless that very request is retried."""

    claim_id: RandomId
    incarnation: RandomId
    wait_s: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] = 0.0
    run_hint: Annotated[str, Field(max_length=40)] = ""
    sandbox_level: Level
    draining: bool = False


class File(Message):
    """A file of the lease; ``url`` is signed, relative to the server and lives 15 minutes."""

    name: str
    file_name: str = ""
    sha256: Sha256
    size: int
    url: str


class FinishedTrial(Message):
    """Accepted stage reports of one trial, each a ``StageReport`` as JSON."""

    trial: int
    recipe_key: str
    stages: list[Json]


class Lease(Message):
    """The run that the agent now owns until ``lease_s`` after its last accepted call."""

    run: PublicId
    label: str = ""
    attempt: Attempt
    lease_s: float
    heartbeat_s: float
    spec: Json
    card: Json
    budget_left_s: float
    finished: list[FinishedTrial] = []
    min_level: Level = Level.C
    manifest: list[File]

    def reports(self) -> list[StageReport]:
        """The accepted reports of earlier attempts."""
        return [from_jsonable(StageReport, stage) for trial in self.finished for stage in trial.stages]


class RunSign(Message):
    """One run under way, as a heartbeat tells it."""

    run: PublicId
    attempt: Attempt
    claim_id: RandomId
    phase: Annotated[str, Field(max_length=10)] = "prepare"
    progress: Json = {}
    rss_bytes: int = 0


class Heartbeat(Message):
    incarnation: RandomId
    running: Annotated[list[RunSign], Field(max_length=4)] = []
    draining: bool = False


class AgentDirective(StrEnum):
    CONTINUE = "continue"
    DRAIN = "drain"
    STOP = "stop"


class RunDirective(StrEnum):
    CONTINUE = "continue"
    CANCEL = "cancel"
    LOST = "lost"


class LeaseState(Message):
    run: str
    attempt: int
    directive: RunDirective


class HeartbeatReply(Message):
    lease_s: float
    agent: AgentDirective
    leases: list[LeaseState] = []


class ErrorNote(Message):
    """Why a stage or a run failed; ``stray`` when the cause lay outside the trial."""

    code: Annotated[str, Field(min_length=1, max_length=60)]
    detail: Text = ""
    stray: bool = False


class FileNote(Message):
    """An uploaded file that belongs to a stage."""

    role: Annotated[str, Field(max_length=20)]
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class TrialReport(Message):
    """``PUT runs/R/attempts/N/trials/K/STAGE``; trial and stage stand in the address."""

    claim_id: RandomId
    recipe_key: Sha256
    recipe: Json
    status: StageStatus
    error: ErrorNote | None = None
    measurements: Annotated[list[Json], Field(max_length=200)] = []
    verdict: Verdict | None = None
    detail: Json = {}
    artifacts: Annotated[list[FileNote], Field(max_length=500)] = []
    environment: Json = {}
    wall_s: Annotated[float, Field(ge=0)] = 0.0

    @classmethod
    def of(cls, report: StageReport, *, claim_id: str, wall_s: float = 0.0) -> TrialReport:
        """The message that carries an engine's report."""
        failure = report.failure
        return cls(
            claim_id=claim_id,
            recipe_key=report.recipe.key,
            recipe=to_jsonable(report.recipe),
            status=report.status,
            error=None if failure is None else ErrorNote(code=failure.code, detail=failure.detail[:2000], stray=failure.stray),
            measurements=[to_jsonable(measurement) for measurement in report.measurements],
            verdict=report.verdict,
            detail=report.detail,
            artifacts=[FileNote(role=ref.role, sha256=ref.sha256, size=ref.size_bytes) for ref in report.artifacts],
            environment=report.environment,
            wall_s=wall_s,
        )

    def report(self, *, trial: int, stage: Stage) -> StageReport:
        """The engine's report. Raises InputError ``spec.invalid``."""
        error = self.error
        return StageReport(
            trial=trial,
            stage=stage,
            recipe=from_jsonable(Recipe, self.recipe),
            status=self.status,
            failure=None if error is None else Failure(code=error.code, detail=error.detail, stray=error.stray),
            measurements=tuple(from_jsonable(Measurement, measurement) for measurement in self.measurements),
            verdict=self.verdict,
            detail=self.detail,
            artifacts=tuple(ArtifactRef(role=note.role, sha256=note.sha256, size_bytes=note.size) for note in self.artifacts),
            environment=self.environment,
        )


class RunStatus(StrEnum):
    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"


class RunReport(Message):
    """``POST runs/R/attempts/N/result``; ``outcome`` is a ``SearchOutcome`` as JSON when the status is ok."""

    claim_id: RandomId
    status: RunStatus
    error: ErrorNote | None = None
    outcome: Json | None = None

    def search_outcome(self) -> SearchOutcome | None:
        """The engine's answer. Raises InputError ``spec.invalid``."""
        return None if self.outcome is None else from_jsonable(SearchOutcome, self.outcome)


class Rotated(Message):
    agent_token: str
    expires_at: str


class BlobAddress(Message):
    """A signed address of a build."""

    url: str
    sha256: str


class Problem(Message):
    """RFC 9457 problem document as far as the agent reads it."""

    code: str = ""
    detail: str = ""
    offset: int | None = None


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Canonical JSON: equal messages have equal bytes, so that a repeated report is recognised by its sha256."""
    return json.dumps(message.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode(kind: type[M], body: bytes) -> M:
    """Parse and validate. Raises ValueError (pydantic's ValidationError is one) for anything else, NaN included."""
    return kind.model_validate(json.loads(body, parse_constant=_refuse_constant))


def body_sha256(body: bytes) -> str:
    """Identity of a report."""
    return hashlib.sha256(body).hexdigest()


def agent_queue(agent_id: str) -> str:
    """The Celery queue of one agent."""
    return f"agent.{agent_id}"


def agent_prefix(agent_id: str) -> str:
    """The broker key prefix of one agent."""
    return f"agent:{agent_id}:"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
