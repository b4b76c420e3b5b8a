"""From a question to queued runs: estimate, check against the engine, store, wake the agents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import transaction

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineError
from optimizer.measure.inputs import bound_shapes
from optimizer.search import planner
from optimizer.search.plan import Estimate
from optimizer.specs import ModelCard, SearchSpec
from parka.accounts.access import Access, Capability
from parka.core.errors import FieldError, Refused
from parka.experiments.models import Experiment
from parka.experiments.services import create_experiment
from parka.fleet.models import Agent
from parka.fleet.selectors import hardware
from parka.registry.models import Dataset, ModelVersion
from parka.workflow.wakeup import wake_agents


@transaction.atomic
def start_experiment(
    access: Access,
    *,
    version: ModelVersion,
    dataset: Dataset | None = None,
    agents: Sequence[Agent],
    spec: SearchSpec,
    title: str = "",
) -> Experiment:
    """Store the experiment with its estimate, queue one run per agent and wake those agents.

    Raises what ``create_experiment`` raises; Refused with the engine's code when the model's inputs are not bound.
    """
    experiment = create_experiment(access, version=version, dataset=dataset, agents=agents, spec=spec, title=title)
    estimates = estimate_experiment(access, version=version, agents=agents, spec=spec)
    experiment.estimate = {agent.public_id: to_jsonable(estimate) for agent, estimate in estimates}
    experiment.save(update_fields=["estimate"])
    wake_agents(list(experiment.runs.select_related("agent")))
    return experiment


def estimate_experiment(
    access: Access, *, version: ModelVersion, agents: Sequence[Agent], spec: SearchSpec
) -> list[tuple[Agent, Estimate]]:
    """What the experiment will take on each agent that has told its hardware; nothing is stored.

    Raises Refused with the engine's code, such as ``input.unbound``, and ``model.not_ready``.
    """
    access.require(Capability.READ)
    if version.card is None:
        raise Refused("model.not_ready")
    card = from_jsonable(ModelCard, version.card)
    with _engine_refusals("/bindings"):
        bound_shapes(card, spec.bindings)
    known = [(agent, profile) for agent in agents if (profile := hardware(agent)) is not None]
    with _engine_refusals("/spec"):
        return [(agent, planner.estimate(card, spec, profile)) for agent, profile in known]


@contextmanager
def _engine_refusals(pointer: str) -> Iterator[None]:
    """The engine's refusals keep their codes."""
    try:
        yield
    except EngineError as error:
        field = FieldError(pointer=pointer, code=error.code, detail=error.message)
        raise Refused(error.code, error.message, fields=(field,)) from error
