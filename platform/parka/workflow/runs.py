"""What people do to runs."""

from __future__ import annotations

from django.db import transaction

from parka.accounts.access import Access, Capability
from parka.core.errors import NotFound
from parka.experiments.lifecycle import request_cancel
from parka.experiments.models import Run, RunState
from parka.workflow.progress import announce


@transaction.atomic
def cancel_run(access: Access, run: Run) -> RunState:
    """Ask for the end of a run: queued ones end at once, running ones within 45 s. Repeating it changes nothing.

    One's own runs need the right to run, others' the right to cancel any. Raises Forbidden, NotFound; Conflict ``run.terminal``.
    """
    if run.team_id != access.team.pk:
        raise NotFound
    own = run.experiment.created_by_id == access.user.pk
    access.require(Capability.RUN if own else Capability.CANCEL_ANY)
    state = request_cancel(run)
    announce([run.pk])
    return state
