"""Directed cases of the run's state table; the restore collision first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from optimizer.sandbox.job import Level
from optimizer.specs import Stage
from parka.accounts.access import Access
from parka.core.errors import Conflict, NotFound
from parka.experiments.lifecycle import Fence, Sign, budget_left_s, end_leases, heartbeat, request_cancel, sweep
from parka.experiments.models import Phase, Reception, Run, RunState
from parka.experiments.records import record_result, record_stage
from parka.fleet.models import Agent
from parka.fleet.services import drain, revoke
from parka_agent.protocol import RunDirective, RunStatus
from tests.platform.runs import age, claim, event_names, fence_of, new_agent, new_run, random_id, result, stage_report

SECOND_PROCESS = "process-two-bbbbbbbb"


@pytest.fixture
def agent(alice_access: Access) -> Agent:
    return new_agent(alice_access)


@pytest.fixture
def run(alice_access: Access, agent: Agent) -> Run:
    return new_run(alice_access, agent)


def held(run: Run) -> Fence:
    """Claim the run and return the fence of that execution."""
    assert claim(run.agent) is not None
    return fence_of(run)


def requeue(run: Run) -> None:
    """Let the lease end and the requeue delay pass."""
    age(76)
    sweep()
    age(31)
    run.refresh_from_db()
    assert run.state == RunState.QUEUED


def test_after_a_restore_the_old_execution_of_the_same_attempt_is_fenced_by_its_claim_id(run: Run) -> None:
    before_backup = Run.objects.filter(pk=run.pk).values().get()
    old = held(run)
    restored = {name: value for name, value in before_backup.items() if name != "id"}
    Run.objects.filter(pk=run.pk).update(**restored)
    new = held(run)
    assert old.attempt == new.attempt
    with pytest.raises(Conflict, match="owns this run"):
        record_result(old, result(old))
    run.refresh_from_db()
    assert run.state == RunState.RUNNING
    assert run.results.get().reception == Reception.ORPHAN


def test_a_claim_leases_the_oldest_queued_run_for_75_seconds(alice_access: Access, run: Run) -> None:
    new_run(alice_access, run.agent)
    claimed = claim(run.agent)
    assert claimed is not None
    assert (claimed.pk, claimed.state, claimed.attempt) == (run.pk, RunState.RUNNING, 1)
    left = Run.objects.annotate(now=Now()).values_list("lease_expires_at", "now").get(pk=run.pk)
    assert timedelta(seconds=70) < left[0] - left[1] <= timedelta(seconds=75)
    assert event_names(run) == ["created", "claimed"]


def test_the_same_claim_id_gets_the_same_lease_again(run: Run) -> None:
    first = claim(run.agent, claim_id="c" * 32)
    again = claim(run.agent, claim_id="c" * 32)
    assert first is not None
    assert again is not None
    assert (again.pk, again.attempt) == (first.pk, 1)
    assert event_names(run) == ["created", "claimed"]


def test_a_delayed_copy_of_an_old_claim_takes_nothing(alice_access: Access, run: Run) -> None:
    old = held(run)
    record_result(old, result(old))
    waiting = new_run(alice_access, run.agent)
    assert claim(run.agent, claim_id=old.claim_id) is None
    waiting.refresh_from_db()
    assert waiting.state == RunState.QUEUED


def test_a_delayed_copy_of_a_claim_whose_attempt_was_replaced_takes_nothing(run: Run) -> None:
    first = held(run)
    requeue(run)
    held(run)
    requeue(run)
    assert claim(run.agent, claim_id=first.claim_id) is None


def test_an_agent_holds_one_run_at_a_time(alice_access: Access, run: Run) -> None:
    second = new_run(alice_access, run.agent)
    held(run)
    assert claim(run.agent) is None
    second.refresh_from_db()
    assert second.state == RunState.QUEUED


@pytest.mark.parametrize("weak", [Level.C])
def test_a_run_is_not_given_to_a_weaker_sandbox_than_it_needs(run: Run, weak: Level) -> None:
    assert run.min_level == Level.B
    assert claim(run.agent, level=weak) is None
    assert claim(run.agent, level=Level.A) is not None


def test_a_draining_agent_gets_nothing(alice_access: Access, run: Run) -> None:
    drain(alice_access, run.agent)
    assert claim(run.agent) is None


def test_another_agents_run_is_not_claimed(alice_access: Access, run: Run) -> None:
    assert claim(new_agent(alice_access, name="Other")) is None


def test_a_heartbeat_prolongs_the_lease_and_shows_progress(run: Run) -> None:
    fence = held(run)
    age(60)
    assert heartbeat(fence, Sign(phase=Phase.CONFIRM, progress={"fraction": 0.5})) is RunDirective.CONTINUE
    age(60)
    assert sweep() == []
    run.refresh_from_db()
    assert (run.state, run.phase, run.progress) == (RunState.RUNNING, Phase.CONFIRM, {"fraction": 0.5})


def test_a_heartbeat_after_the_lease_ended_is_told_that_the_run_is_lost(run: Run) -> None:
    fence = held(run)
    age(76)
    assert heartbeat(fence, Sign()) is RunDirective.LOST


@pytest.mark.parametrize("part", ["attempt", "claim_id"])
def test_a_heartbeat_with_one_wrong_part_of_the_fence_is_lost(run: Run, part: str) -> None:
    fence = held(run)
    wrong = {"attempt": fence.attempt, "claim_id": fence.claim_id} | {"attempt": {"attempt": 9}, "claim_id": {"claim_id": random_id()}}[
        part
    ]
    assert heartbeat(Fence(agent=run.agent, run=run.public_id, **wrong), Sign()) is RunDirective.LOST


def test_an_expired_lease_requeues_at_once_then_after_30_seconds_then_the_run_is_lost(run: Run) -> None:
    held(run)
    age(76)
    assert sweep() == [run.pk]
    held(run)
    age(76)
    sweep()
    assert claim(run.agent) is None
    age(31)
    assert held(run).attempt == 3
    age(76)
    sweep()
    run.refresh_from_db()
    assert (run.state, run.error_code) == (RunState.LOST, "run.attempts_exhausted")
    assert event_names(run).count("claimed") == 3


def test_a_claim_settles_the_agents_own_expired_lease_without_the_sweeper(run: Run) -> None:
    held(run)
    age(76)
    again = claim(run.agent)
    assert again is not None
    assert again.attempt == 2


def test_a_late_result_of_an_earlier_attempt_is_kept_as_an_orphan_and_the_newer_attempt_wins(run: Run) -> None:
    old = held(run)
    requeue(run)
    new = held(run)
    with pytest.raises(Conflict):
        record_result(old, result(old))
    assert record_result(new, result(new, reason="second")) == RunState.FINISHED
    run.refresh_from_db()
    assert run.outcome is not None
    assert run.outcome["reason"] == "second"
    assert sorted(run.results.values_list("reception", flat=True)) == ["accepted", "orphan"]


def test_a_result_is_accepted_after_the_lease_ended_while_nobody_else_took_the_run(run: Run) -> None:
    fence = held(run)
    age(500)
    assert record_result(fence, result(fence)) == RunState.FINISHED


def test_a_repeated_result_is_answered_alike_and_a_changed_one_refused(run: Run) -> None:
    fence = held(run)
    assert record_result(fence, result(fence)) == RunState.FINISHED
    assert record_result(fence, result(fence)) == RunState.FINISHED
    with pytest.raises(Conflict) as refusal:
        record_result(fence, result(fence, reason="another"))
    assert refusal.value.code == "result.conflict"
    assert run.results.count() == 1
    assert event_names(run) == ["created", "claimed", "finished"]


def test_a_failed_result_ends_the_run_without_a_retry(run: Run) -> None:
    fence = held(run)
    assert record_result(fence, result(fence, status=RunStatus.FAILED, code="backend.load_failed")) == RunState.FAILED
    run.refresh_from_db()
    assert (run.error_code, run.lease_expires_at) == ("backend.load_failed", None)


def test_a_released_run_goes_back_to_the_queue_and_at_the_cap_is_lost(run: Run) -> None:
    for expected in (RunState.QUEUED, RunState.QUEUED, RunState.LOST):
        fence = held(run)
        assert record_result(fence, result(fence, status=RunStatus.RELEASED)) == expected
        assert record_result(fence, result(fence, status=RunStatus.RELEASED)) == expected
        age(31)


def test_a_queued_run_is_cancelled_at_once_and_a_second_cancel_is_refused_as_ended(run: Run) -> None:
    assert request_cancel(run) == RunState.CANCELLED
    with pytest.raises(Conflict) as refusal:
        request_cancel(run)
    assert refusal.value.code == "run.terminal"


def test_a_running_run_is_cancelled_by_its_agent_and_its_result_is_not_scored(run: Run) -> None:
    fence = held(run)
    assert request_cancel(run) == RunState.CANCELLING
    assert request_cancel(run) == RunState.CANCELLING
    assert heartbeat(fence, Sign()) is RunDirective.CANCEL
    assert record_result(fence, result(fence)) == RunState.CANCELLED
    run.refresh_from_db()
    assert run.outcome is None
    assert event_names(run) == ["created", "claimed", "cancel_requested", "cancelled"]


def test_a_cancelling_lease_never_outlives_its_deadline(run: Run) -> None:
    fence = held(run)
    request_cancel(run)
    age(30)
    assert heartbeat(fence, Sign()) is RunDirective.CANCEL
    run.refresh_from_db()
    assert run.lease_expires_at is not None
    assert run.cancel_deadline_at is not None
    assert run.lease_expires_at <= run.cancel_deadline_at
    age(16)
    assert sweep() == [run.pk]
    run.refresh_from_db()
    assert run.state == RunState.CANCELLED


def test_a_silent_agents_cancel_ends_without_it(run: Run) -> None:
    fence = held(run)
    request_cancel(run)
    age(46)
    sweep()
    with pytest.raises(Conflict):
        record_result(fence, result(fence))
    run.refresh_from_db()
    assert run.state == RunState.CANCELLED


def test_a_queued_run_that_nobody_takes_for_a_day_is_lost(run: Run) -> None:
    age(24 * 3600 + 1)
    sweep()
    run.refresh_from_db()
    assert (run.state, run.error_code) == (RunState.LOST, "run.no_agent")


def test_revoking_the_agent_ends_its_lease_and_loses_what_waits(alice_access: Access, run: Run) -> None:
    held(run)
    waiting = new_run(alice_access, run.agent)
    revoke(alice_access, run.agent)
    end_leases(run.agent)
    sweep()
    for row in (run, waiting):
        row.refresh_from_db()
        assert (row.state, row.error_code) == (RunState.LOST, "run.no_agent")


def test_a_newer_process_frees_only_the_leases_of_older_ones(run: Run) -> None:
    held(run)
    assert end_leases(run.agent, but_of="process-one-aaaaaaaa") == []
    assert end_leases(run.agent, but_of=SECOND_PROCESS) == [run.pk]
    assert held(run).attempt == 2


def test_a_foreign_agent_is_told_that_the_run_does_not_exist(alice_access: Access, run: Run) -> None:
    fence = held(run)
    stranger = Fence(agent=new_agent(alice_access, name="Other"), run=run.public_id, attempt=fence.attempt, claim_id=fence.claim_id)
    with pytest.raises(NotFound) as refusal:
        record_stage(stranger, stage_report(), body_sha256="s" * 64)
    assert refusal.value.code == "run.not_found"


def test_stages_stay_when_the_run_is_requeued_and_a_later_attempt_replaces_its_own_timings(run: Run) -> None:
    first = held(run)
    record_stage(first, stage_report(stage=Stage.BUILD), body_sha256="1" * 64)
    record_stage(first, stage_report(stage=Stage.SCREEN), body_sha256="2" * 64)
    requeue(run)
    second = held(run)
    assert run.trials.get().stages.count() == 2
    record_stage(second, stage_report(stage=Stage.SCREEN, detail={"again": True}), body_sha256="3" * 64)
    stages = {stage.stage: stage for stage in run.trials.get().stages.all()}
    assert (stages["build"].attempt, stages["screen"].attempt) == (1, 2)
    assert stages["screen"].report["detail"] == {"again": True}


def test_a_stage_report_is_idempotent_and_a_changed_one_of_the_same_attempt_refused(run: Run) -> None:
    fence = held(run)
    assert record_stage(fence, stage_report(), body_sha256="1" * 64) is True
    assert record_stage(fence, stage_report(), body_sha256="1" * 64) is False
    with pytest.raises(Conflict) as refusal:
        record_stage(fence, stage_report(detail={"other": 1}), body_sha256="2" * 64)
    assert refusal.value.code == "result.conflict"


def test_a_stage_of_a_superseded_attempt_is_refused(run: Run) -> None:
    old = held(run)
    requeue(run)
    held(run)
    with pytest.raises(Conflict) as refusal:
        record_stage(old, stage_report(), body_sha256="1" * 64)
    assert refusal.value.code == "lease.stale"
    assert run.trials.count() == 0


def test_a_trial_number_cannot_change_its_recipe(run: Run) -> None:
    fence = held(run)
    record_stage(fence, stage_report(trial=1), body_sha256="1" * 64)
    report = stage_report(trial=2)
    swapped = type(report)(trial=1, stage=Stage.SCREEN, recipe=report.recipe)
    with pytest.raises(Conflict) as refusal:
        record_stage(fence, swapped, body_sha256="2" * 64)
    assert refusal.value.code == "result.conflict"


def test_the_budget_runs_from_the_first_claim_on(run: Run) -> None:
    assert budget_left_s(run) == run.experiment.budget_s
    held(run)
    age(100)
    assert run.experiment.budget_s - 105 < budget_left_s(run) <= run.experiment.budget_s - 100
    age(10_000)
    assert budget_left_s(run) == 0


@pytest.mark.django_db(transaction=True)
def test_of_twenty_simultaneous_claims_one_gets_the_run(alice_access: Access, run: Run) -> None:
    def attempt(_: int) -> int | None:
        try:
            claimed = claim(run.agent)
            return None if claimed is None else claimed.pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = [pk for pk in pool.map(attempt, range(20)) if pk is not None]
    assert found == [run.pk]
    run.refresh_from_db()
    assert run.attempt == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_result_sent_twice_at_once_is_one_row_and_two_good_answers(run: Run) -> None:
    fence = held(run)
    same = result(fence)

    def send(_: int) -> RunState:
        try:
            return record_result(fence, same)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))
    assert answers == [RunState.FINISHED] * 4
    assert run.results.count() == 1
