"""Fills the database of a browser test: ``python -m tests.browser.seed`` in the environment of the server."""

from __future__ import annotations

import django


def seed() -> None:
    """Team Acme with runs in every state, a viewer, and an empty team."""
    from parka.accounts.access import access_for
    from parka.accounts.models import Membership, Role, User
    from parka.accounts.services import create_team
    from tests.browser.site import PASSWORD
    from tests.platform import factories
    from tests.platform.runs import new_experiment

    ana, vic, newbie = (
        User.objects.create_user(email, PASSWORD, name=name)
        for email, name in (("ana@acme.example", "Ana"), ("vic@acme.example", "Vic"), ("newbie@new.example", "Newbie"))
    )
    team = create_team(ana, name="Acme")
    create_team(newbie, name="Fresh")
    Membership.objects.create(team=team, user=vic, role=Role.VIEWER)
    access = access_for(ana, team.slug)
    xeon, edge = factories.bench_agent(access), factories.bench_agent(access, name="edge-altra", profile=factories.EDGE)
    third = factories.bench_agent(access, name="spare-xeon")
    version = factories.encoder_version(access)
    factories.rejected_version(access)
    factories.waiting_version(access)
    factories.sentences(access)
    factories.finished_run(access, xeon, version=version)
    factories.running_run(access, xeon, version=version)
    factories.failed_run(access, edge, version=version)
    new_experiment(access, [xeon], version=version, spec=factories.SPEC)
    factories.finished_run(access, third, version=version, winner=None)


if __name__ == "__main__":
    django.setup()
    seed()
