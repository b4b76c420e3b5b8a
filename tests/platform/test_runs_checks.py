"""What an agent claims must be plausible; what a person asks must be allowed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from optimizer.specs import (
    BackendSettings,
    Budget,
    Decision,
    Failure,
    FirstProven,
    KpiTarget,
    Recipe,
    SearchSpec,
    Stage,
    StageReport,
    StageStatus,
)
from parka.accounts.access import Access
from parka.api.questions import QuestionSerializer, read_question
from parka.core.errors import Forbidden, NotFound, PlatformError, RateLimited, Refused
from parka.experiments import selectors, services
from parka.experiments.models import Experiment, Run
from parka.experiments.result_checks import check_outcome, check_report, largest_batch
from parka.experiments.services import create_experiment
from parka.registry.models import Intake
from tests.platform.runs import latency, new_agent, new_experiment, outcome, ready_version, stage_report

GOOD = (
    latency("latency_p50_ms", 1.0),
    latency("latency_p90_ms", 1.5),
    latency("latency_p99_ms", 2.0, n=1000),
    latency("latency_mean_ms", 1.1, n=1000),
    latency("throughput_per_s", 900.0, n=1000),
)


def refused(*measurements: object, elapsed_s: float = 60.0, **changes: object) -> bool:
    report = stage_report(stage=Stage.RACE, measurements=tuple(measurements), **changes)
    try:
        check_report(report, elapsed_s=elapsed_s)
    except Refused as refusal:
        return refusal.code == "result.invalid"
    return False


def test_plausible_measurements_pass() -> None:
    assert not refused(*GOOD)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0, 1e308])
def test_an_impossible_latency_is_refused(value: float) -> None:
    assert refused(latency("latency_p50_ms", value))


@pytest.mark.parametrize("end", ["ci_low", "ci_high"])
def test_an_interval_with_nan_is_refused(end: str) -> None:
    assert refused(replace(GOOD[0], **{end: math.nan}))


def test_percentiles_out_of_order_are_refused() -> None:
    assert refused(latency("latency_p50_ms", 2.0), latency("latency_p99_ms", 1.0))
    assert refused(latency("latency_p90_ms", 2.0), latency("latency_p95_ms", 1.9))


def test_a_latency_without_samples_is_refused() -> None:
    assert refused(latency("latency_p50_ms", 1.0, n=0))


def test_throughput_above_what_the_latency_allows_is_refused() -> None:
    assert refused(latency("latency_mean_ms", 1.0), latency("throughput_per_s", 1200.0))
    assert not refused(latency("latency_mean_ms", 1.0), latency("throughput_per_s", 1000.0))


def test_more_sample_time_than_the_attempt_is_old_is_refused() -> None:
    assert refused(latency("latency_mean_ms", 1000.0, n=100), elapsed_s=90)
    assert not refused(latency("latency_mean_ms", 1000.0, n=100), elapsed_s=101)


def test_a_batch_may_complete_several_inferences_a_call() -> None:
    card = {"inputs": [{"shape": ["batch", 3]}]}
    assert largest_batch(card, {"batch": 8}) == 8
    report = stage_report(stage=Stage.RACE, measurements=(latency("latency_mean_ms", 1.0), latency("throughput_per_s", 8000.0)))
    check_report(report, elapsed_s=60, batch=8)


def test_a_recipe_with_batches_and_streams_may_complete_more_but_not_any_number() -> None:
    settings = BackendSettings(threads=2, streams=2, batch=4)
    recipe = Recipe(backend="openvino", settings=settings)
    for rate in (8000.0, 9000.0):
        report = StageReport(
            trial=1, stage=Stage.RACE, recipe=recipe, measurements=(latency("latency_mean_ms", 1.0), latency("throughput_per_s", rate))
        )
        if rate == 8000.0:
            check_report(report, elapsed_s=60)
        else:
            with pytest.raises(Refused):
                check_report(report, elapsed_s=60)


def test_an_unknown_kpi_is_refused() -> None:
    assert refused(latency("latency_p51_ms", 1.0))


def test_a_failed_stage_needs_an_error_and_an_ok_one_none() -> None:
    assert refused(status=StageStatus.FAILED)
    assert refused(failure=Failure(code="child.oom", detail=""))
    assert not refused(status=StageStatus.FAILED, failure=Failure(code="child.oom", detail=""))


def test_nan_hidden_in_the_detail_is_refused() -> None:
    assert refused(detail={"blocks": [{"ratio": math.nan}]})
    assert refused(environment={"load": math.inf})


def test_an_outcome_may_only_name_reported_trials() -> None:
    winner = outcome(decision=Decision.WINNER, winner=3)
    check_outcome(winner, trials=[0, 3])
    with pytest.raises(Refused):
        check_outcome(winner, trials=[0])
    with pytest.raises(Refused):
        check_outcome(outcome(picks={"fastest": 9}), trials=[0])


@pytest.mark.parametrize("wrong", [{"trial": 9}, {"forms": 0}, {"seconds": 1e6}, {"seconds": -1.0}])
def test_the_form_found_first_is_one_of_the_run_and_found_in_its_time(wrong: dict[str, float]) -> None:
    first = FirstProven(trial=3, forms=2, seconds=30.0)
    won = outcome(decision=Decision.WINNER, winner=3, elapsed_s=60.0)
    check_outcome(replace(won, first_proven=first), trials=[0, 3])
    with pytest.raises(Refused):
        check_outcome(replace(won, first_proven=replace(first, **wrong)), trials=[0, 3])  # type: ignore[arg-type]


def test_a_winner_is_named_exactly_when_there_is_one() -> None:
    with pytest.raises(Refused):
        check_outcome(outcome(winner=0), trials=[0])
    with pytest.raises(Refused):
        check_outcome(outcome(decision=Decision.WINNER), trials=[0])


def test_an_experiment_queues_one_run_per_agent_with_running_numbers(alice_access: Access) -> None:
    agents = [new_agent(alice_access, name="A1"), new_agent(alice_access, name="B1")]
    first = new_experiment(alice_access, agents, spec=SearchSpec(targets=(KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True),)))
    second = new_experiment(alice_access, agents[:1])
    assert [first.number, second.number] == [1, 2]
    assert list(Run.objects.order_by("id").values_list("number", "state")) == [(1, "queued"), (2, "queued"), (3, "queued")]
    assert first.targets.get().op == "<="


def code_of(access: Access, **changes: object) -> str:
    """Code of the refusal of an experiment with one thing wrong."""
    given = {"version": None, "dataset": None, "agents": None, "spec": SearchSpec()} | changes
    with pytest.raises(PlatformError) as refusal:
        create_experiment(access, **given)  # type: ignore[arg-type]
    assert Experiment.objects.filter(team=access.team).count() == 0
    return refusal.value.code


def test_each_wrong_field_is_refused_with_its_code(alice_access: Access, charlie_access: Access) -> None:
    agent, version = new_agent(alice_access), ready_version(alice_access)
    foreign_agent, foreign_version = new_agent(charlie_access), ready_version(charlie_access)
    uninspected = ready_version(alice_access)
    uninspected.state = Intake.INSPECTING
    twice = (KpiTarget(kpi="latency_p50_ms", value=1.0), KpiTarget(kpi="latency_p50_ms", value=2.0))
    good = {"version": version, "agents": [agent]}
    assert code_of(alice_access, **good | {"version": foreign_version}) == "field.unknown_object"
    assert code_of(alice_access, **good | {"agents": [foreign_agent]}) == "field.unknown_object"
    assert code_of(alice_access, **good | {"version": uninspected}) == "model.not_ready"
    assert code_of(alice_access, **good | {"agents": []}) == "experiment.no_agents"
    assert code_of(alice_access, **good | {"agents": [agent, agent]}) == "experiment.agent_twice"
    assert code_of(alice_access, **good | {"spec": SearchSpec(targets=twice)}) == "target.twice"
    assert code_of(alice_access, **good | {"spec": SearchSpec(budget=Budget(total_s=1e6))}) == "budget.too_long"
    weak = new_agent(alice_access, name="Weak", sandbox_level="C")
    assert code_of(alice_access, **good | {"agents": [weak]}) == "agent.sandbox_too_weak"


def test_several_wrong_fields_come_back_together(alice_access: Access, charlie_access: Access) -> None:
    with pytest.raises(Refused) as refusal:
        create_experiment(alice_access, version=ready_version(charlie_access), dataset=None, agents=[], spec=SearchSpec())
    assert refusal.value.code == "request.invalid"
    assert [field.pointer for field in refusal.value.fields] == ["/version", "/agents"]


def test_a_viewer_starts_nothing(alice_access: Access, vic_access: Access) -> None:
    with pytest.raises(Forbidden):
        new_experiment(vic_access, [new_agent(alice_access)], version=ready_version(alice_access))


def test_the_queue_of_a_team_is_bounded(alice_access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MOST_QUEUED", 2)
    agent = new_agent(alice_access)
    new_experiment(alice_access, [agent])
    new_experiment(alice_access, [agent])
    with pytest.raises(RateLimited) as refusal:
        new_experiment(alice_access, [agent])
    assert refusal.value.code == "quota.runs"


def test_experiments_an_hour_are_bounded(alice_access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MOST_PER_HOUR", 1)
    agent = new_agent(alice_access)
    new_experiment(alice_access, [agent])
    with pytest.raises(RateLimited) as refusal:
        new_experiment(alice_access, [agent])
    assert refusal.value.code == "quota.experiments"


def test_a_stranger_sees_no_experiment_and_no_run(alice_access: Access, charlie_access: Access) -> None:
    experiment = new_experiment(alice_access, [new_agent(alice_access)])
    run = experiment.runs.get()
    assert list(selectors.experiments(charlie_access)) == []
    assert list(selectors.runs(charlie_access)) == []
    for look in (
        lambda: selectors.experiment(charlie_access, experiment.number),
        lambda: selectors.experiment_by_id(charlie_access, experiment.public_id),
        lambda: selectors.run(charlie_access, run.number),
        lambda: selectors.run_by_id(charlie_access, run.public_id),
    ):
        with pytest.raises(NotFound):
            look()


def test_a_queued_run_knows_how_many_are_before_it(alice_access: Access) -> None:
    agent = new_agent(alice_access)
    runs = [new_experiment(alice_access, [agent]).runs.get() for _ in range(3)]
    assert [selectors.queue_position(run) for run in runs] == [0, 1, 2]
    assert selectors.waiting_count(alice_access) == 3


@pytest.mark.parametrize(
    ("traffic", "code"),
    [
        ([{"bindings": {"sequence": 16}, "weight": 3}, {"bindings": {"sequence": 64}}], ""),
        ([{"bindings": {"sequence": 16}}, {"bindings": {"batch": 2}}], "traffic.bindings"),
        ([{"bindings": {"sequence": 16}, "weight": 0}], "traffic.weight"),
    ],
)
def test_traffic_comes_through_the_api_and_what_is_wrong_with_it_is_named(
    alice_access: Access, traffic: list[dict[str, object]], code: str
) -> None:
    agent, version = new_agent(alice_access), ready_version(alice_access)
    body = QuestionSerializer(
        data={"version": version.public_id, "agents": [agent.slug], "traffic": traffic, "objective": "throughput_per_s"}
    )
    body.is_valid(raise_exception=True)
    if code:
        with pytest.raises(Refused) as refusal:
            read_question(alice_access, body.validated_data)
        assert refusal.value.code == code
        assert refusal.value.fields[0].pointer == "/traffic"
    else:
        asked = read_question(alice_access, body.validated_data).spec
        assert [(one.bindings, one.weight) for one in asked.traffic] == [({"sequence": 16}, 3.0), ({"sequence": 64}, 1.0)]
        assert not asked.is_offline
