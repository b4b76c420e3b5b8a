"""The agent as a real process over real HTTP: work, crash, partition, cancel, revoke, release."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from parka.accounts.access import Access
from parka.experiments.lifecycle import request_cancel
from parka.experiments.models import Run, RunState, TrialStage
from parka.experiments.selectors import log_text
from parka.fleet.models import Agent
from parka.registry.models import Artifact, ModelVersion
from parka.workflow.agents import revoke_agent
from parka_agent.faults import Point
from parka_agent.state import Home
from tests.agent.conftest import AgentProcess
from tests.agent.proxy import Proxy
from tests.platform.runs import queue_again

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(400)]


@pytest.fixture
def proxy(live_server: Any) -> Iterator[Proxy]:
    between = Proxy(live_server.url)
    yield between
    between.close()


def state_of(run: Run) -> str:
    run.refresh_from_db()
    return str(run.state)


def finished(worker: AgentProcess, run: Run) -> Run:
    worker.wait(lambda: state_of(run) not in {"queued", "running", "cancelling"}, what="the run's end")
    assert run.state == RunState.FINISHED, (run.error_code, run.error_detail, worker.log.read_text()[-4000:])
    return run


def reported(run: Run, trial: int, stage: str) -> bool:
    return TrialStage.objects.filter(trial__run=run, trial__index=trial, stage=stage).exists()


def test_an_agent_takes_a_run_reports_every_stage_and_finishes_it(worker: AgentProcess, run: Run) -> None:
    worker.start()
    finished(worker, run)
    assert run.attempt == 1
    assert TrialStage.objects.filter(trial__run=run).count() == 9
    assert Artifact.objects.filter(role="samples").count() == 3
    assert "search begins with 0 finished stages" in log_text(run)
    worker.terminate()
    assert worker.ends() == 0


def test_work_that_comes_later_is_taken_without_a_wake_up(
    worker: AgentProcess, alice_access: Access, agent: Agent, version: ModelVersion
) -> None:
    worker.start()
    worker.wait(lambda: "agent_started" in worker.log.read_text(), what="the start")
    finished(worker, queue_again(alice_access, agent, version=version))


def test_after_a_kill_the_next_process_goes_on_with_the_finished_stages(worker: AgentProcess, run: Run) -> None:
    worker.tell(crash_at="1:gate")
    worker.start()
    assert worker.ends() == -9
    assert state_of(run) == RunState.RUNNING
    worker.start()
    finished(worker, run)
    assert run.attempt == 2
    attempts = dict(TrialStage.objects.filter(trial__run=run, trial__index=0).values_list("stage", "attempt"))
    assert attempts == {"build": 1, "gate": 1, "race": 2}
    assert "search begins with 4 finished stages" in log_text(run, attempt=2)
    assert run.results.count() == 1


@pytest.mark.parametrize("point", Point)
def test_a_crash_at_any_point_ends_in_one_result(worker: AgentProcess, run: Run, point: Point) -> None:
    worker.tell(trials=1)
    worker.start(crash_at=point)
    assert worker.ends() == -9
    worker.start()
    finished(worker, run)
    assert run.attempt == (1 if point in {Point.BEFORE_RESULT, Point.AFTER_RESULT} else 2)
    assert TrialStage.objects.filter(trial__run=run).count() == 3
    assert list(run.results.values_list("reception", flat=True)) == ["accepted"]


def test_a_result_that_could_not_be_sent_is_sent_first_by_the_next_process(worker: AgentProcess, run: Run, proxy: Proxy) -> None:
    worker.use_server(proxy.url)
    worker.tell(trials=2, wait_at=1)
    worker.start()
    worker.wait(lambda: reported(run, 0, "race"), what="the first trial")
    proxy.cut()
    worker.tell(trials=1)
    spool = worker.home.spool
    worker.wait(lambda: any(spool.glob("*.json")), what="a report in the spool")
    worker.kill()
    proxy.mend()
    worker.tell(trials=2)
    worker.start()
    finished(worker, run)
    worker.wait(lambda: not any(spool.glob("*.json")), what="the spool to empty")


def test_a_short_partition_costs_nothing(worker: AgentProcess, run: Run, proxy: Proxy) -> None:
    worker.use_server(proxy.url)
    worker.tell(wait_at=1)
    worker.start()
    worker.wait(lambda: reported(run, 0, "race"), what="the first trial")
    proxy.cut()
    worker.tell()
    worker.wait(lambda: any(worker.home.spool.glob("*.json")), what="a report in the spool")
    proxy.mend()
    finished(worker, run)
    assert run.attempt == 1


def test_a_cancelled_run_stops_and_the_agent_takes_the_next_one(
    worker: AgentProcess, run: Run, alice_access: Access, agent: Agent, version: ModelVersion
) -> None:
    worker.tell(wait_at=0)
    worker.start()
    worker.wait(lambda: state_of(run) == RunState.RUNNING, what="the claim")
    next_run = queue_again(alice_access, agent, version=version)
    request_cancel(run)
    worker.wait(lambda: state_of(run) == RunState.CANCELLED, what="the cancel")
    assert run.results.get().body["status"] == "cancelled"
    worker.tell()
    finished(worker, next_run)


def test_sigterm_gives_the_run_back(worker: AgentProcess, run: Run) -> None:
    worker.tell(wait_at=1)
    worker.start()
    worker.wait(lambda: reported(run, 0, "race"), what="the first trial")
    worker.terminate()
    assert worker.ends() == 0
    assert state_of(run) == RunState.QUEUED
    assert reported(run, 0, "race")


def test_a_revoked_agent_stops(worker: AgentProcess, run: Run, alice_access: Access, agent: Agent) -> None:
    worker.tell(wait_at=1)
    worker.start()
    worker.wait(lambda: reported(run, 0, "race"), what="the first trial")
    revoke_agent(alice_access, agent)
    assert worker.ends() == 1
    assert state_of(run) == RunState.LOST


def test_of_two_processes_on_a_cloned_disk_the_older_stops(worker: AgentProcess, run: Run, tmp_path: Path) -> None:
    worker.tell(wait_at=1)
    worker.start()
    worker.wait(lambda: reported(run, 0, "race"), what="the first trial")
    clone = tmp_path / "clone"
    shutil.copytree(worker.home.folder, clone, ignore=shutil.ignore_patterns("children", "work"))
    newer = AgentProcess(home=Home(folder=clone), script=tmp_path / "second.json", server=worker.server, log=tmp_path / "second.log")
    newer.tell()
    newer.start()
    try:
        assert worker.ends() == 1
        finished(newer, run)
        assert run.attempt == 2
    finally:
        newer.stop()


def test_a_second_process_on_the_same_home_refuses_to_start(worker: AgentProcess, run: Run) -> None:
    worker.tell(wait_at=0)
    worker.start()
    worker.wait(lambda: state_of(run) == RunState.RUNNING, what="the claim")
    first = worker.process
    worker.start()
    assert worker.ends() == 1
    assert first is not None
    assert first.poll() is None


def test_a_report_that_the_server_refuses_fails_the_run_with_its_code(worker: AgentProcess, run: Run) -> None:
    worker.tell(lie_at=1)
    worker.start()
    worker.wait(lambda: state_of(run) == RunState.FAILED, what="the failure")
    assert run.error_code == "result.invalid"
    assert "latency_p99_ms" in run.error_detail


def test_a_killed_agents_consumer_ends_too(worker: AgentProcess, run: Run) -> None:
    worker.tell(wait_at=0)
    worker.start()
    worker.wait(lambda: state_of(run) == RunState.RUNNING, what="the claim")
    assert worker.process is not None
    process = psutil.Process(worker.process.pid)

    def consumers() -> list[psutil.Process]:
        return [child for child in process.children() if "parka_agent.worker" in " ".join(child.cmdline())]

    consumer = worker.wait(consumers, what="the consumer")[0]
    worker.kill()
    worker.wait(lambda: not consumer.is_running() or consumer.status() == psutil.STATUS_ZOMBIE, what="the consumer to end")
