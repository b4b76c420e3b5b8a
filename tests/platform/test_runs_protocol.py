"""The agent protocol over HTTP: who may speak, what is refused with which code, what is idempotent."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from optimizer.codec import to_jsonable
from optimizer.specs import Stage
from parka.accounts.access import Access
from parka.audit.models import SecurityEvent
from parka.core.blobs import BlobStore
from parka.experiments.models import Reception, Run, RunState
from parka.experiments.selectors import log_text
from parka.fleet.models import Agent
from parka.fleet.services import create_agent, register, rotate
from parka.registry.models import Artifact
from parka.workflow.agents import revoke_agent
from parka.workflow.runs import cancel_run
from parka_agent.protocol import (
    BASE_PATH,
    Claim,
    ErrorNote,
    Heartbeat,
    Lease,
    Message,
    RunReport,
    RunSign,
    RunStatus,
    SandboxFacts,
    Start,
    TrialReport,
    encode,
)
from tests.platform.runs import PROFILE, age, facts, latency, new_agent_with_token, new_run, outcome, random_id, ready_version, stage_report

PROCESS = "process-one-aaaaaaaa"
SANDBOX = SandboxFacts(level="B", checks={"tcp": True})


class Speaker:
    """An agent's side of the protocol through Django's test client."""

    def __init__(self, token: str, *, incarnation: str = PROCESS) -> None:
        self.http = Client()
        self.token = token
        self.incarnation = incarnation
        self.lease: Lease | None = None
        self.claim_id = ""

    def call(self, method: str, path: str, body: bytes = b"", *, version: str = "1", **headers: str) -> Any:
        address = path if path.startswith("/") else BASE_PATH + path
        head = {"Authorization": f"Bearer {self.token}", "Parka-Protocol": version, "Parka-Claim": self.claim_id, **headers}
        kind = headers.pop("Content-Type", "application/json")
        return self.http.generic(method, address, body, content_type=kind, headers={k.replace("_", "-"): v for k, v in head.items()})

    def post(self, path: str, message: Message) -> Any:
        return self.call("POST", path, encode(message))

    def claim(self, *, claim_id: str = "", **changes: Any) -> Any:
        self.claim_id = claim_id or random_id()
        answer = self.post("claim", Claim(**{"claim_id": self.claim_id, "incarnation": self.incarnation, "sandbox_level": "B", **changes}))
        if answer.status_code == 200:
            self.lease = Lease.model_validate(answer.json())
        return answer

    @property
    def attempt(self) -> str:
        assert self.lease is not None
        return f"runs/{self.lease.run}/attempts/{self.lease.attempt}"

    def beat(self, **changes: Any) -> Any:
        assert self.lease is not None
        sign = {"run": self.lease.run, "attempt": self.lease.attempt, "claim_id": self.claim_id, **changes}
        return self.post("heartbeat", Heartbeat(incarnation=self.incarnation, running=[RunSign(**sign)]))

    def stage(self, body: bytes | None = None, *, trial: int = 0, name: str = "gate", **changes: Any) -> Any:
        if body is None:
            body = encode(TrialReport.of(stage_report(trial=trial, stage=Stage(name), **changes), claim_id=self.claim_id))
        return self.call("PUT", f"{self.attempt}/trials/{trial}/{name}", body)

    def finish(self, **changes: Any) -> Any:
        content = {"claim_id": self.claim_id, "status": RunStatus.OK, "outcome": to_jsonable(outcome()), **changes}
        return self.post(f"{self.attempt}/result", RunReport(**content))

    def send(self, content: bytes, *, role: str = "samples", **head: str) -> Any:
        metadata = f"role {b64encode(role.encode()).decode()},filename {b64encode(b'samples.npz').decode()}"
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(content)), "Upload-Metadata": metadata, **head}
        made = self.call("POST", f"{self.attempt}/uploads", **tus)
        if made.status_code != 201:
            return made
        patch = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        return self.call("PATCH", made["Location"], content, **patch)


@pytest.fixture
def agent_and_token(alice_access: Access) -> tuple[Agent, str]:
    return new_agent_with_token(alice_access)


@pytest.fixture
def agent(agent_and_token: tuple[Agent, str]) -> Agent:
    return agent_and_token[0]


@pytest.fixture
def speaker(agent_and_token: tuple[Agent, str]) -> Speaker:
    return Speaker(agent_and_token[1])


@pytest.fixture
def run(alice_access: Access, agent: Agent) -> Run:
    return new_run(alice_access, agent)


@pytest.fixture
def at_work(speaker: Speaker, run: Run) -> Speaker:
    """An agent that holds the run."""
    assert speaker.claim().status_code == 200
    return speaker


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, json.loads(answer.content)["code"]


def test_an_agent_registers_once_and_can_speak(alice_access: Access) -> None:
    _, token = create_agent(alice_access, name="Bench")
    body = json.dumps({"token": token, "facts": to_jsonable(PROFILE), "sandbox": {"level": "C"}, "unknown": 1}).encode()
    anonymous = Speaker("")
    answer = anonymous.call("POST", "register", body)
    assert answer.status_code == 201
    registered = answer.json()
    assert registered["broker"]["queue"] == f"agent.{registered['agent_id']}"
    assert registered["broker"]["prefix"] == f"agent:{registered['agent_id']}:"
    assert Speaker(registered["agent_token"]).claim().status_code == 204
    assert code(anonymous.call("POST", "register", body)) == (409, "agent.registration_used")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"token":"pkr_x"}', b'{"token": NaN}', b"[" * 100_000, b"\xff\xfe"])
def test_a_malformed_registration_is_refused(db: None, body: bytes) -> None:
    assert code(Speaker("").call("POST", "register", body)) == (422, "request.invalid")


def test_facts_that_are_no_hardware_profile_are_refused(alice_access: Access) -> None:
    _, token = create_agent(alice_access, name="Bench")
    body = json.dumps({"token": token, "facts": {"os": "Linux"}, "sandbox": {"level": "C"}}).encode()
    assert code(Speaker("").call("POST", "register", body)) == (422, "spec.invalid")


def test_another_protocol_version_is_told_to_upgrade(speaker: Speaker) -> None:
    assert code(speaker.call("POST", "claim", version="2")) == (426, "agent.protocol_version")
    assert code(speaker.call("POST", "register", version="")) == (426, "agent.protocol_version")


@pytest.mark.parametrize("token", ["", "pka_unknown-unknown-unknown", "pk_whatever-whatever-whatever"])
def test_an_unknown_token_is_refused(db: None, token: str) -> None:
    assert code(Speaker(token).call("POST", "heartbeat")) == (401, "agent.token_invalid")


def test_a_revoked_agent_is_refused_everywhere(alice_access: Access, at_work: Speaker, agent: Agent) -> None:
    revoke_agent(alice_access, agent)
    for answer in (at_work.claim(), at_work.beat(), at_work.stage(), at_work.finish()):
        assert code(answer) == (401, "agent.token_invalid")


def test_rotation_during_a_run_keeps_the_lease(at_work: Speaker, agent: Agent) -> None:
    answer = at_work.call("POST", "token/rotate")
    at_work.token = answer.json()["agent_token"]
    assert at_work.beat().json()["leases"][0]["directive"] == "continue"
    assert rotate(agent) != at_work.token


def test_a_lease_carries_all_the_agent_needs_and_the_same_claim_gets_it_again(speaker: Speaker, run: Run) -> None:
    first = speaker.claim(claim_id="c" * 32).json()
    assert (first["run"], first["attempt"], first["spec"]) == (run.public_id, 1, run.experiment.spec)
    assert first["card"]["entry"] == "model.onnx"
    assert 0 < first["budget_left_s"] <= run.experiment.budget_s
    assert [file["name"] for file in first["manifest"]] == ["model"]
    again = speaker.claim(claim_id="c" * 32).json()
    assert (again["run"], again["attempt"]) == (run.public_id, 1)


def test_a_draining_process_gets_nothing(speaker: Speaker, run: Run) -> None:
    assert speaker.claim(draining=True).status_code == 204


def test_a_claim_may_wait_for_work(speaker: Speaker) -> None:
    assert speaker.claim(wait_s=1.0).status_code == 204


def test_an_agent_cannot_claim_a_stronger_sandbox_than_it_registered(alice_access: Access) -> None:
    agent, token = new_agent_with_token(alice_access, sandbox_level="B")
    new_run(alice_access, agent)
    Run.objects.update(min_level="A")
    assert Speaker(token).claim(sandbox_level="A").status_code == 204


def test_a_heartbeat_of_an_older_process_is_superseded_and_its_lease_goes_to_the_new_one(at_work: Speaker) -> None:
    newer = Speaker(at_work.token, incarnation="process-two-bbbbbbbb")
    assert newer.claim().status_code == 200
    assert newer.lease is not None
    assert newer.lease.attempt == 2
    assert code(at_work.beat()) == (409, "agent.superseded")
    assert newer.beat().json()["leases"][0]["directive"] == "continue"


def test_the_start_of_a_process_refreshes_its_facts_and_tells_it_where_to_listen(speaker: Speaker, agent: Agent) -> None:
    changed = to_jsonable(PROFILE) | {"cpu_model": "Newer CPU"}
    answer = speaker.post("start", Start(incarnation=PROCESS, facts=changed, sandbox=SandboxFacts(level="C")))
    assert answer.json()["broker"]["queue"] == f"agent.{agent.public_id}"
    agent.refresh_from_db()
    assert agent.profile is not None
    assert (agent.profile.profile["cpu_model"], agent.sandbox_level) == ("Newer CPU", "C")


def test_a_cancelled_run_is_told_so_and_ends_with_the_agents_result(alice_access: Access, at_work: Speaker, run: Run) -> None:
    cancel_run(alice_access, run)
    assert at_work.beat().json()["leases"] == [{"run": run.public_id, "attempt": 1, "directive": "cancel"}]
    assert at_work.finish(status=RunStatus.CANCELLED, outcome=None).json()["state"] == "cancelled"


def test_a_heartbeat_for_a_foreign_run_is_lost_and_audited(alice_access: Access, at_work: Speaker) -> None:
    other, token = new_agent_with_token(alice_access, name="Other")
    stranger = Speaker(token)
    stranger.lease, stranger.claim_id = at_work.lease, at_work.claim_id
    assert stranger.beat().json()["leases"][0]["directive"] == "lost"
    assert code(stranger.stage()) == (404, "run.not_found")
    assert code(stranger.finish()) == (404, "run.not_found")
    assert SecurityEvent.objects.filter(action="agent.foreign_run", actor__contains=other.public_id).count() == 3


def test_a_stage_report_is_stored_once_and_a_changed_one_conflicts(at_work: Speaker, run: Run) -> None:
    assert at_work.stage().json() == {"accepted": True, "repeated": False}
    assert at_work.stage().json() == {"accepted": True, "repeated": True}
    assert code(at_work.stage(detail={"other": True})) == (409, "result.conflict")
    assert run.trials.get().stages.count() == 1


def tampered(speaker: Speaker, **changes: Any) -> bytes:
    message = TrialReport.of(stage_report(), claim_id=speaker.claim_id).model_dump(mode="json")
    return json.dumps(message | changes).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"measurements": [to_jsonable(latency("latency_p50_ms", 1.0)) | {"value": float("nan")}]},
        {"measurements": [to_jsonable(latency("latency_p50_ms", -1.0))]},
        {"measurements": [to_jsonable(latency("latency_p50_ms", 1e308))]},
        {"measurements": [to_jsonable(latency("latency_p50_ms", 1.0, n=0))]},
        {"measurements": [to_jsonable(latency("latency_p50_ms", 2.0)), to_jsonable(latency("latency_p99_ms", 1.0))]},
        {"artifacts": [{"role": "samples", "sha256": "0" * 64, "size": 3}]},
        {"status": "failed"},
        {"status": "great"},
        {"recipe": {"backend": 3}},
        {"claim_id": "short"},
    ],
)
def test_an_implausible_stage_report_is_refused(at_work: Speaker, run: Run, changes: dict[str, Any]) -> None:
    answer = at_work.stage(tampered(at_work, **changes))
    assert answer.status_code == 422
    assert code(answer)[1] in {"result.invalid", "spec.invalid"}
    assert run.trials.count() == 0


def test_a_report_over_eight_mebibytes_is_too_large(at_work: Speaker) -> None:
    assert code(at_work.stage(b" " * (8 * 2**20 + 1))) == (413, "result.too_large")


def test_an_unknown_stage_is_refused(at_work: Speaker) -> None:
    body = encode(TrialReport.of(stage_report(), claim_id=at_work.claim_id))
    assert code(at_work.call("PUT", f"{at_work.attempt}/trials/0/party", body)) == (422, "result.invalid")


def test_a_run_goes_from_claim_to_finished(at_work: Speaker, run: Run) -> None:
    at_work.stage()
    assert at_work.finish().json() == {"accepted": True, "state": "finished"}
    assert at_work.finish().json() == {"accepted": True, "state": "finished"}
    assert code(at_work.finish(outcome=to_jsonable(outcome(reason="changed")))) == (409, "result.conflict")
    run.refresh_from_db()
    assert run.state == RunState.FINISHED
    assert at_work.claim().status_code == 204


def test_a_failed_run_keeps_its_code(at_work: Speaker, run: Run) -> None:
    at_work.finish(status=RunStatus.FAILED, outcome=None, error=ErrorNote(code="backend.load_failed", detail="No.\x1b[31m"))
    run.refresh_from_db()
    assert (run.state, run.error_code, run.error_detail) == (RunState.FAILED, "backend.load_failed", "No.")


def test_a_result_after_a_partition_is_an_orphan(at_work: Speaker, run: Run) -> None:
    age(300)
    newer = Speaker(at_work.token, incarnation=PROCESS)
    assert newer.claim().status_code == 200
    late = Speaker(at_work.token)
    late.lease, late.claim_id = at_work.lease, at_work.claim_id
    assert code(late.finish()) == (409, "lease.stale")
    assert code(late.stage()) == (409, "lease.stale")
    assert run.results.get().reception == Reception.ORPHAN
    assert newer.finish().json()["state"] == "finished"


def test_the_log_grows_by_offset(at_work: Speaker, run: Run) -> None:
    assert at_work.call("PUT", f"{at_work.attempt}/log?offset=0", "prüfe\n".encode()).status_code == 204
    assert at_work.call("PUT", f"{at_work.attempt}/log?offset=0", "prüfe\n".encode()).status_code == 204
    wrong = at_work.call("PUT", f"{at_work.attempt}/log?offset=3", b"x")
    assert code(wrong) == (409, "log.offset")
    assert wrong["Parka-Offset"] == "7"
    assert at_work.call("PUT", f"{at_work.attempt}/log?offset=7", b"done\n").status_code == 204
    assert log_text(run) == "prüfe\ndone\n"
    assert code(at_work.call("PUT", f"{at_work.attempt}/log?offset=x", b"x")) == (422, "request.invalid")


def test_the_log_of_a_run_ends_at_twenty_mebibytes(at_work: Speaker, run: Run) -> None:
    run.log_pieces.create(attempt=1, offset_bytes=0, size_bytes=20 * 2**20 - 2, text="x")
    assert code(at_work.call("PUT", f"{at_work.attempt}/log?offset={20 * 2**20 - 2}", b"abc")) == (413, "log.full")


def test_a_build_nobody_made_is_built_by_the_agent(at_work: Speaker) -> None:
    assert code(at_work.call("GET", f"{at_work.attempt}/artifacts/{'k' * 64}")) == (404, "artifact.unknown")


def test_samples_are_uploaded_under_the_fence_and_named_by_the_report(at_work: Speaker, run: Run) -> None:
    content = b"raw samples"
    assert at_work.send(content).status_code == 204
    sha256 = hashlib.sha256(content).hexdigest()
    note = [{"role": "samples", "sha256": sha256, "size": len(content)}]
    assert at_work.stage(tampered(at_work, artifacts=note)).status_code == 200
    assert run.trials.get().stages.get().artifacts.get().sha256 == sha256
    assert at_work.send(b"model", role="model").status_code == 422


def test_a_stale_execution_uploads_nothing(at_work: Speaker) -> None:
    at_work.claim_id = random_id()
    assert code(at_work.send(b"x")) == (409, "lease.stale")
    assert Artifact.objects.filter(role="samples").count() == 0


@pytest.fixture
def blob_address(alice_access: Access, agent_and_token: tuple[Agent, str], tmp_path: Path) -> tuple[Speaker, str]:
    """An agent at work and the signed address of its model."""
    agent, token = agent_and_token
    version = ready_version(alice_access)
    sha256 = BlobStore().put_bytes(b"model bytes")
    Artifact.objects.filter(pk=version.artifact_id).update(sha256=sha256, size_bytes=11)
    from tests.platform.runs import queue_again

    queue_again(alice_access, agent, version=version)
    speaker = Speaker(token)
    return speaker, speaker.claim().json()["manifest"][0]["url"]


async def _bytes(answer: Any) -> bytes:
    return b"".join([chunk async for chunk in answer.streaming_content])


def body_of(answer: Any) -> bytes:
    if answer.is_async:
        import asyncio

        return asyncio.run(_bytes(answer))
    return b"".join(answer.streaming_content)


def test_the_signed_address_gives_the_bytes_without_a_token(blob_address: tuple[Speaker, str]) -> None:
    answer = Client().get(blob_address[1])
    assert answer.status_code == 200
    assert body_of(answer) == b"model bytes"


@pytest.mark.parametrize(
    "edit", [lambda url: url.replace("attempt=1", "attempt=2"), lambda url: url[:-4] + "0000", lambda url: url.split("?")[0]]
)
def test_an_edited_address_is_refused(blob_address: tuple[Speaker, str], edit: Callable[[str], str]) -> None:
    assert code(Client().get(edit(blob_address[1]))) == (403, "url.invalid")


def test_the_address_ends_with_the_attempt(blob_address: tuple[Speaker, str]) -> None:
    speaker, address = blob_address
    speaker.finish(status=RunStatus.FAILED, outcome=None, error=ErrorNote(code="x.y"))
    assert code(Client().get(address)) == (403, "url.invalid")


def test_a_busy_database_is_answered_with_retry_after(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    from parka.api.agent import endpoint

    def locked(plain: str) -> Agent:
        raise OperationalError("database is locked")

    monkeypatch.setattr(endpoint, "authenticate", locked)
    answer = speaker.call("POST", "heartbeat")
    assert code(answer) == (503, "server.busy")
    assert answer["Retry-After"]


def test_vital_calls_have_a_bucket_of_their_own(at_work: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    from parka.api.agent import endpoint

    monkeypatch.setattr(endpoint, "REQUESTS_PER_MINUTE", 1)
    answers = [at_work.call("PUT", f"{at_work.attempt}/log?offset=0", b"x").status_code for _ in range(3)]
    assert answers[-1] == 429
    assert at_work.finish().status_code == 200


def test_wrong_methods_are_refused(at_work: Speaker) -> None:
    for method, path in (("GET", "claim"), ("GET", "register"), ("DELETE", "heartbeat"), ("GET", f"{at_work.attempt}/result")):
        assert code(at_work.call(method, path)) == (405, "method.not_allowed")


def test_registering_with_weak_facts_keeps_the_checks(alice_access: Access) -> None:
    _, token = create_agent(alice_access, name="Bench")
    agent, _ = register(token, facts=facts(sandbox_checks={"udp": False}))
    assert agent.sandbox_checks == {"udp": False}
