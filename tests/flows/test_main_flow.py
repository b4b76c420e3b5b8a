"""From upload to a scorecard through real processes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flows.stack import LiveStack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]


def test_a_run_goes_from_upload_to_a_scorecard(stack: LiveStack, tiny_version: dict[str, Any]) -> None:
    run_id = stack.start_run(tiny_version, stack.wait_for_agent(), budget_s=40)
    run = stack.wait_for_end(run_id)
    assert (run["status"], run["attempt"]) == ("finished", 1), stack.tails()
    assert {stage for trial, stage in stack.stages(run_id) if trial == 0} >= {"build", "gate", "race"}
    assert stack.scorecard(run_id)["scorecard"]["decision"] == run["outcome"]["decision"]


def test_a_cancelled_run_ends_soon_and_its_children_are_gone(stack: LiveStack, tiny_version: dict[str, Any]) -> None:
    run_id = stack.start_run(tiny_version, stack.wait_for_agent(), budget_s=120)
    stack.wait_until(run_id, lambda run: run["status"] == "running", what="the claim")
    stack.wait(lambda: stack.stages(run_id), what="the first stage")
    stack.api.post(f"/runs/{run_id}/cancel", {})
    assert stack.wait_for_end(run_id, most_s=60)["status"] == "cancelled"
    stack.wait(lambda: not stack.children_of("agent", running="sandbox/child.py"), what="the children to end", most_s=30)


def test_a_model_that_no_backend_can_run_fails_with_its_reason_and_the_next_run_works(
    stack: LiveStack, tiny_version: dict[str, Any], huge_version: dict[str, Any]
) -> None:
    agent = stack.wait_for_agent()
    broken = stack.start_run(huge_version, agent, budget_s=40)
    good = stack.start_run(tiny_version, agent, budget_s=40)
    failed = stack.wait_for_end(broken)
    assert failed["status"] == "failed"
    assert failed["error"]["code"]
    assert stack.wait_for_end(good)["status"] == "finished"
