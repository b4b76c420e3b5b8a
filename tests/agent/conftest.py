"""A real agent process with a fake engine, against the real server over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from optimizer.codec import to_jsonable
from optimizer.hardware import probe
from parka.accounts.access import Access
from parka.core.blobs import BlobStore
from parka.experiments.models import Run
from parka.fleet.models import Agent
from parka.registry.models import Artifact, ArtifactRole, Intake, Model, ModelVersion
from parka_agent.faults import VARIABLE
from parka_agent.host import PROFILE
from parka_agent.state import Home, Identity
from tests.platform.conftest import alice, alice_access, fresh_cache, own_files, team
from tests.platform.runs import CARD, new_agent_with_token, queue_again
from tests.samples import mlp

__all__ = ["alice", "alice_access", "fresh_cache", "own_files", "team"]
T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0


@dataclass(slots=True)
class AgentProcess:
    """One process of the agent; ``script`` tells its fake engine what to do."""

    home: Home
    script: Path
    server: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def tell(self, **wanted: Any) -> None:
        """Change what the fake engine does."""
        draft = self.script.with_suffix(".draft")
        draft.write_text(json.dumps(wanted))
        draft.replace(self.script)

    def start(self, *, crash_at: str = "") -> None:
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", VARIABLE: crash_at}
        command = [sys.executable, "-m", "tests.agent.fake_search", str(self.home.folder), str(self.script)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        self.started.append(self.process)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def ends(self, *, most_s: float = PATIENCE_S) -> int:
        """The exit code."""
        assert self.process is not None
        return self.process.wait(most_s)

    def use_server(self, url: str) -> None:
        """Let the next process speak to another address."""
        self.home.keep(replace(self.home.identity(), server=url))

    def wait(self, look: Callable[[], T | None], *, what: str, most_s: float = PATIENCE_S) -> T:
        """The first thing that is there, not empty and not False."""
        until = time.monotonic() + most_s
        while time.monotonic() < until:
            found = look()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"waited {most_s:.0f} s for {what}\n{self.log.read_text()[-4000:]}")

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait(10)


@pytest.fixture(scope="session")
def warm_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose hardware is known and whose sandbox has been tested, so that each start is quick."""
    home = Home(folder=tmp_path_factory.mktemp("agent"))
    home.make()
    (home.folder / PROFILE).write_text(json.dumps(to_jsonable(probe(benchmark=False))))
    return home


@pytest.fixture
def registered(transactional_db: None, alice_access: Access) -> tuple[Agent, str]:
    return new_agent_with_token(alice_access)


@pytest.fixture
def agent(registered: tuple[Agent, str]) -> Agent:
    return registered[0]


@pytest.fixture
def version(alice_access: Access, tmp_path: Path) -> ModelVersion:
    """A tiny model whose bytes lie in the blob store."""
    content = mlp(tmp_path / "tiny.onnx").read_bytes()
    sha256 = BlobStore().put_bytes(content)
    artifact = Artifact.objects.create(
        team=alice_access.team, sha256=sha256, size_bytes=len(content), role=ArtifactRole.MODEL, file_name="tiny.onnx"
    )
    model = Model.objects.create(team=alice_access.team, slug="tiny", name="tiny")
    return ModelVersion.objects.create(model=model, number=1, artifact=artifact, state=Intake.READY, card=to_jsonable(CARD))


@pytest.fixture
def run(alice_access: Access, agent: Agent, version: ModelVersion) -> Run:
    """A queued run of that model on the agent."""
    return queue_again(alice_access, agent, version=version)


@pytest.fixture
def worker(live_server: Any, registered: tuple[Agent, str], warm_home: Home, tmp_path: Path) -> Iterator[AgentProcess]:
    """The agent, not started yet."""
    for file in warm_home.spool.glob("*.json"):
        file.unlink()
    warm_home.keep(Identity(server=live_server.url, agent_id=registered[0].public_id, agent_token=registered[1]))
    process = AgentProcess(home=warm_home, script=tmp_path / "script.json", server=live_server.url, log=tmp_path / "agent.log")
    process.log.touch()
    process.tell()
    yield process
    process.stop()
