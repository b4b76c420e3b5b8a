"""What people set in motion: starting experiments with an estimate, cancelling runs."""

from __future__ import annotations

import pytest

from optimizer.codec import to_jsonable
from optimizer.specs import Budget, ModelCard, SearchSpec, TensorSpec
from parka.accounts.access import Access
from parka.core.errors import Conflict, Forbidden, NotFound, PlatformError, Refused
from parka.experiments.models import Experiment, Run, RunState
from parka.registry.models import ModelVersion
from parka.workflow.experiments import estimate_experiment, start_experiment
from parka.workflow.runs import cancel_run
from tests.platform.runs import CARD, claim, new_agent, new_experiment, ready_version


def version_with(access: Access, card: ModelCard) -> ModelVersion:
    version = ready_version(access)
    version.card = to_jsonable(card)
    version.save(update_fields=["card"])
    return version


def test_an_experiment_starts_with_its_estimate_per_agent(alice_access: Access) -> None:
    agents = [new_agent(alice_access, name="A1"), new_agent(alice_access, name="B1")]
    experiment = start_experiment(alice_access, version=ready_version(alice_access), agents=agents, spec=SearchSpec(), title="Faster?")
    experiment.refresh_from_db()
    assert set(experiment.estimate) == {agent.public_id for agent in agents}
    assert all(part["low_s"] <= part["high_s"] for part in experiment.estimate.values())
    assert experiment.runs.count() == 2


def test_an_estimate_stores_nothing(alice_access: Access) -> None:
    estimates = estimate_experiment(alice_access, version=ready_version(alice_access), agents=[new_agent(alice_access)], spec=SearchSpec())
    assert len(estimates) == 1
    assert Experiment.objects.count() == 0


def test_unbound_dims_that_have_no_default_are_refused_before_anything_is_queued(alice_access: Access) -> None:
    unknown = TensorSpec(name="x", dtype="float32", shape=("weird_axis", "another_axis", "third_axis"))
    card = ModelCard(format="onnx", entry="m.onnx", sha256="a" * 64, size_bytes=1, inputs=(unknown,))
    spec = SearchSpec(bindings={"weird_axis": -3})
    with pytest.raises(PlatformError) as refusal:
        start_experiment(alice_access, version=version_with(alice_access, card), agents=[new_agent(alice_access)], spec=spec)
    assert refusal.value.code.startswith("input.")
    assert Run.objects.count() == 0


def test_a_budget_too_small_for_an_answer_is_told_before_the_start(alice_access: Access) -> None:
    spec = SearchSpec(budget=Budget(total_s=1.0))
    (_, estimate), *_ = estimate_experiment(
        alice_access, version=version_with(alice_access, CARD), agents=[new_agent(alice_access)], spec=spec
    )
    assert estimate.problems


def test_a_viewer_may_look_at_an_estimate_and_start_nothing(alice_access: Access, vic_access: Access) -> None:
    agent, version = new_agent(alice_access), ready_version(alice_access)
    assert estimate_experiment(vic_access, version=version, agents=[agent], spec=SearchSpec())
    with pytest.raises(Forbidden):
        start_experiment(vic_access, version=version, agents=[agent], spec=SearchSpec())


def test_members_cancel_their_own_runs_admins_any_strangers_none(
    alice_access: Access, ada_access: Access, bob_access: Access, vic_access: Access, charlie_access: Access
) -> None:
    agent = new_agent(alice_access)
    bobs, alices = (new_experiment(access, [agent]).runs.get() for access in (bob_access, alice_access))
    with pytest.raises(NotFound):
        cancel_run(charlie_access, bobs)
    for access in (vic_access, bob_access):
        with pytest.raises(Forbidden):
            cancel_run(access, alices)
    assert cancel_run(bob_access, bobs) == RunState.CANCELLED
    assert cancel_run(ada_access, alices) == RunState.CANCELLED


def test_cancelling_twice_asks_once_and_an_ended_run_is_refused(alice_access: Access) -> None:
    run = new_experiment(alice_access, [new_agent(alice_access)]).runs.get()
    claim(run.agent)
    assert cancel_run(alice_access, run) == RunState.CANCELLING
    assert cancel_run(alice_access, run) == RunState.CANCELLING
    assert run.events.filter(event="cancel_requested").count() == 1
    Run.objects.filter(pk=run.pk).update(state="cancelled", lease_expires_at=None, cancel_deadline_at=None)
    with pytest.raises(Conflict):
        cancel_run(alice_access, run)


def test_a_version_without_a_card_cannot_be_estimated(alice_access: Access) -> None:
    version = ready_version(alice_access)
    version.card = None
    with pytest.raises(Refused):
        estimate_experiment(alice_access, version=version, agents=[], spec=SearchSpec())
