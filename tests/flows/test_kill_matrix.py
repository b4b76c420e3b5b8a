"""SIGKILL of each process in the middle of a run: the run ends correct, finished trials stay, nothing is counted twice."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from tests.flows.stack import LiveStack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(1200)]
BUDGET_S = 60


@pytest.fixture
def under_way(stack: LiveStack, tiny_version: dict[str, Any]) -> str:
    """A run whose baseline has been measured and whose first candidate has a report."""
    run_id = stack.start_run(tiny_version, stack.wait_for_agent(), budget_s=BUDGET_S)
    stack.wait_until(run_id, lambda run: run["status"] == "running", what="the claim")
    stack.wait(lambda: any(trial > 0 for trial, _ in stack.stages(run_id)), what="the first candidate")
    return run_id


def assert_sound(stack: LiveStack, run_id: str) -> dict[str, Any]:
    """The run finished, has one accepted result of its last execution, one report per stage, and a scorecard."""
    run = stack.wait_for_end(run_id)
    assert run["status"] == "finished", (run, stack.tails())
    accepted = stack.rows(
        "SELECT r.attempt, r.claim_id, run.attempt, run.claim_id FROM experiments_runresult r"
        " JOIN experiments_run run ON run.id = r.run_id WHERE run.public_id = ? AND r.reception = 'accepted'",
        run_id,
    )
    assert len(accepted) == 1
    assert accepted[0][:2] == accepted[0][2:]
    trials = stack.trials(run_id)
    assert len({trial["recipe_key"] for trial in trials}) == len(trials)
    for trial in trials:
        names = [stage["stage"] for stage in trial["stages"]]
        assert len(names) == len(set(names))
    assert stack.scorecard(run_id)["scorecard"]["trial"] in {trial["index"] for trial in trials}
    return run


def test_a_killed_agent_leaves_no_process_behind_and_resumes_with_its_finished_trials(stack: LiveStack, under_way: str) -> None:
    before = stack.trials(under_way)
    family = stack.process("agent").children(recursive=True)
    stack.kill("agent")
    stack.wait(lambda: not [one for one in family if alive(one)], what="the old children to end", most_s=30)
    stack.restart("agent")
    run = assert_sound(stack, under_way)
    assert run["attempt"] == 2
    after = {trial["index"]: trial for trial in stack.trials(under_way)}
    for trial in before:
        assert after[trial["index"]]["recipe_key"] == trial["recipe_key"]
        kept = {stage["stage"] for stage in after[trial["index"]]["stages"]}
        assert kept >= {stage["stage"] for stage in trial["stages"]}
    assert stack.stages(under_way)[0, "gate"] == 1


def test_a_killed_child_costs_at_most_its_trial(stack: LiveStack, under_way: str) -> None:
    children = stack.wait(lambda: stack.children_of("agent", running="sandbox/child.py"), what="a child at work")
    children[-1].kill()
    run = assert_sound(stack, under_way)
    assert run["attempt"] == 1


def test_a_killed_celery_worker_and_a_killed_web_server_cost_nothing(stack: LiveStack, under_way: str) -> None:
    stack.kill("worker")
    stack.kill("web")
    stack.restart("web")
    run = assert_sound(stack, under_way)
    assert run["attempt"] == 1


def test_a_killed_valkey_costs_nothing(stack: LiveStack, under_way: str) -> None:
    stack.kill("valkey")
    run = assert_sound(stack, under_way)
    assert run["attempt"] == 1


def test_work_starts_although_valkey_lost_the_wake_up(stack: LiveStack, tiny_version: dict[str, Any]) -> None:
    agent = stack.wait_for_agent()
    stack.kill("valkey")
    run_id = stack.start_run(tiny_version, agent, budget_s=BUDGET_S)
    assert_sound(stack, run_id)


def test_a_killed_consumer_is_replaced_and_work_goes_on(stack: LiveStack, tiny_version: dict[str, Any]) -> None:
    for consumer in stack.wait(lambda: stack.children_of("agent", running="parka_agent.worker"), what="the consumer"):
        consumer.kill()
    assert_sound(stack, stack.start_run(tiny_version, stack.wait_for_agent(), budget_s=BUDGET_S))
    stack.wait(lambda: stack.children_of("agent", running="parka_agent.worker"), what="the new consumer")


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
