"""Random walks of agents, people and time over the real services; the state table holds on every path."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.db.models import Q
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from optimizer.specs import Stage
from parka.accounts.access import Access
from parka.core.errors import Conflict, NotFound
from parka.experiments.lifecycle import Event, Fence, Sign, end_leases, heartbeat, request_cancel, sweep
from parka.experiments.models import ACTIVE, TERMINAL, Experiment, Reception, Run, RunEvent, RunResult, TrialStage
from parka.experiments.records import record_result, record_stage
from parka.fleet.models import Agent, AgentState
from parka_agent.protocol import RunStatus
from tests.platform.runs import age, claim, fence_of, new_agent, queue_again, random_id, ready_version, result, stage_report

LEAST_SEEN = 20
RESTORED = ("state", "attempt", "claim_id", "incarnation", "lease_expires_at", "cancel_deadline_at", "finished_at", "error_code")
seen: Counter[str] = Counter()


class Runs(RuleBasedStateMachine):
    """Two agents share three runs; executions that were once given out stay in play, however stale."""

    access: Access

    @initialize()
    def begin(self) -> None:
        Experiment.objects.all().delete()
        Agent.objects.all().delete()
        self.version = ready_version(self.access)
        self.agents = [new_agent(self.access, name="A1"), new_agent(self.access, name="B1")]
        self.process = {agent.pk: 0 for agent in self.agents}
        self.executions: list[Fence] = []
        self.sent: list[tuple[Fence, Any]] = []
        self.ended: dict[int, str] = {}
        self.backup: list[dict[str, Any]] = []
        self.stages = 0
        self.steps = 0
        for place in range(3):
            self.queue(place)

    def teardown(self) -> None:
        seen.update(RunEvent.objects.values_list("event", flat=True))

    def queue(self, place: int) -> Run:
        return queue_again(self.access, self.agents[place % 2], version=self.version)

    def incarnation(self, agent: Agent) -> str:
        return f"process-{agent.pk}-{self.process[agent.pk]:012d}"

    @rule(place=st.integers(0, 1))
    def ask_for_work(self, place: int) -> None:
        agent = self.agents[place]
        run = claim(agent, incarnation=self.incarnation(agent))
        if run is not None:
            self.executions.append(fence_of(run))

    @precondition(lambda self: self.executions)
    @rule(data=st.data())
    def repeat_a_claim(self, data: st.DataObject) -> None:
        fence = data.draw(st.sampled_from(self.executions))
        run = claim(fence.agent, claim_id=fence.claim_id, incarnation=self.incarnation(fence.agent))
        assert run is None or (run.public_id, run.attempt, run.claim_id) == (fence.run, fence.attempt, fence.claim_id)
        seen["same claim" if run else "stale claim"] += 1

    @precondition(lambda self: self.executions)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        seen[f"heartbeat {heartbeat(self.pick(data), Sign())}"] += 1

    @precondition(lambda self: self.executions)
    @rule(data=st.data(), trial=st.integers(0, 2), stage=st.sampled_from(Stage))
    def report(self, data: st.DataObject, trial: int, stage: Stage) -> None:
        fence = self.pick(data)
        digest = f"{fence.attempt}-{fence.claim_id}-{trial}-{stage}"
        try:
            record_stage(fence, stage_report(trial=trial, stage=stage), body_sha256=digest[:64])
            seen["stage accepted"] += 1
        except Conflict as refusal:
            seen[refusal.code] += 1
        except NotFound:
            seen["not found"] += 1

    @precondition(lambda self: self.executions)
    @rule(data=st.data(), status=st.sampled_from([RunStatus.OK, RunStatus.FAILED, RunStatus.RELEASED]), reason=st.integers(0, 1))
    def finish(self, data: st.DataObject, status: RunStatus, reason: int) -> None:
        fence = self.pick(data)
        self.send(fence, result(fence, status=status, reason=str(reason)))

    @rule(data=st.data())
    def repeat_a_result(self, data: st.DataObject) -> None:
        if self.sent:
            self.send(*data.draw(st.sampled_from(self.sent)))

    @rule(data=st.data(), kind=st.sampled_from(["active", "active", "ended", "any"]))
    def cancel(self, data: st.DataObject, kind: str) -> None:
        wanted = {"active": Q(state__in=ACTIVE), "ended": Q(state__in=TERMINAL), "any": Q()}[kind]
        runs = list(Run.objects.filter(wanted).order_by("id"))
        if not runs:
            return
        try:
            request_cancel(data.draw(st.sampled_from(runs)))
        except Conflict as refusal:
            seen[f"cancel {refusal.code}"] += 1

    @rule()
    def lose_the_lease(self) -> None:
        age(76)
        sweep()
        age(31)

    @rule(seconds=st.sampled_from([10, 31, 46, 76]))
    def pass_time(self, seconds: int) -> None:
        age(seconds)

    @rule(place=st.integers(0, 1), end=st.sampled_from([RunStatus.OK, RunStatus.FAILED, RunStatus.RELEASED, "cancel", "lease"]))
    def work_on_what_is_held(self, place: int, end: RunStatus | str) -> None:
        """A stretch of orderly work, so that walks get somewhere between the accidents."""
        self.ask_for_work(place)
        run = Run.objects.filter(agent=self.agents[place], state__in=ACTIVE).first()
        if run is None:
            return None
        fence = fence_of(run)
        if end == "lease":
            return self.lose_the_lease()
        if end == "cancel":
            request_cancel(run)
            seen[f"heartbeat {heartbeat(fence, Sign())}"] += 1
            return self.send(fence, result(fence, status=RunStatus.CANCELLED))
        return self.send(fence, result(fence, status=RunStatus(end)))

    @rule()
    def tick(self) -> None:
        sweep()

    @precondition(lambda self: self.steps > 32)
    @rule()
    def wait_a_day(self) -> None:
        age(24 * 3600 + 1)
        sweep()

    @precondition(lambda self: self.steps > 8)
    @rule(place=st.integers(0, 1))
    def restart_agent(self, place: int) -> None:
        agent = self.agents[place]
        self.process[agent.pk] += 1
        end_leases(agent, but_of=self.incarnation(agent))
        seen["agent restarted"] += 1

    @precondition(lambda self: self.steps > 30)
    @rule(place=st.integers(0, 1))
    def revoke(self, place: int) -> None:
        agent = self.agents[place]
        Agent.objects.filter(pk=agent.pk).update(state=AgentState.REVOKED)
        end_leases(agent)
        sweep()
        self.agents[place] = new_agent(self.access, name=f"N{len(self.process)}")
        self.process[self.agents[place].pk] = 0
        self.queue(place)
        seen["agent revoked"] += 1

    @rule(place=st.integers(0, 1))
    def ask_something_new(self, place: int) -> None:
        self.queue(place)

    @rule()
    def back_up(self) -> None:
        if not RunResult.objects.filter(reception=Reception.ACCEPTED).exists():
            self.backup = list(Run.objects.values("pk", *RESTORED))

    @precondition(lambda self: self.backup and self.steps > 12)
    @rule()
    def restore(self) -> None:
        """The rows go back in time, the agents do not; as ``parka restore`` does, every lease then ends."""
        if not self.backup or RunResult.objects.filter(reception=Reception.ACCEPTED).exists():
            return
        Run.objects.filter(state__in=ACTIVE).update(state="queued", lease_expires_at=None, cancel_deadline_at=None)
        for row in self.backup:
            Run.objects.filter(pk=row["pk"]).update(**{name: row[name] for name in RESTORED})
        for agent in Agent.objects.all():
            end_leases(agent)
        self.ended = {pk: state for pk, state in self.ended.items() if state == Run.objects.get(pk=pk).state}
        seen["restored"] += 1

    def pick(self, data: st.DataObject) -> Fence:
        """Mostly the newest execution, so that walks get somewhere; sometimes one long gone, or one with a forged claim."""
        kind = data.draw(st.sampled_from(["newest"] * 4 + ["any", "forged"]))
        fence = self.executions[-1] if kind == "newest" else data.draw(st.sampled_from(self.executions))
        if kind == "forged":
            return Fence(agent=fence.agent, run=fence.run, attempt=fence.attempt, claim_id=random_id())
        return fence

    def send(self, fence: Fence, body: Any) -> None:
        self.sent.append((fence, body))
        try:
            record_result(fence, body)
        except Conflict as refusal:
            seen[refusal.code] += 1

    @invariant()
    def one_accepted_result_of_the_current_execution(self) -> None:
        for row in RunResult.objects.filter(reception=Reception.ACCEPTED).select_related("run"):
            assert (row.attempt, row.claim_id) == (row.run.attempt, row.run.claim_id)
            assert row.run.state in TERMINAL

    @invariant()
    def lease_fields_exactly_while_active(self) -> None:
        for run in Run.objects.all():
            assert (run.lease_expires_at is not None) == (run.state in ACTIVE)
            assert (run.cancel_deadline_at is not None) == (run.state == "cancelling")
            assert run.attempt <= 3

    @invariant()
    def terminal_states_stay(self) -> None:
        for run in Run.objects.filter(state__in=TERMINAL):
            assert self.ended.setdefault(run.pk, run.state) == run.state
            assert run.finished_at is not None

    @invariant()
    def one_active_run_per_agent(self) -> None:
        active = Run.objects.filter(state__in=ACTIVE).values_list("agent_id", flat=True)
        assert len(active) == len(set(active))

    @invariant()
    def count_steps(self) -> None:
        self.steps += 1

    @invariant()
    def accepted_stages_never_vanish(self) -> None:
        stages = TrialStage.objects.count()
        assert stages >= self.stages
        self.stages = stages


EXPECTED = [
    *(event.value for event in Event),
    "same claim",
    "stale claim",
    "heartbeat continue",
    "heartbeat cancel",
    "heartbeat lost",
    "stage accepted",
    "lease.stale",
    "result.conflict",
    "cancel run.terminal",
    "agent restarted",
    "agent revoked",
    "restored",
]


def walk(access: Access, *, examples: int) -> None:
    """Walk, then make sure that every event really happened: walks that never leave the queue prove nothing."""
    seen.clear()
    Runs.access = access
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    options = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=checks,
        database=None,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(Runs, settings=options)


@pytest.mark.timeout(900)
def test_the_state_table_holds_on_random_walks(alice_access: Access) -> None:
    walk(alice_access, examples=50)
    assert {name: seen[name] for name in EXPECTED if seen[name] < 1} == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.django_db(transaction=True)
def test_the_state_table_holds_on_four_hundred_random_walks(alice_access: Access) -> None:
    walk(alice_access, examples=400)
    assert {name: seen[name] for name in EXPECTED if seen[name] < LEAST_SEEN} == {}
