"""Lists cost the same number of queries however long they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from parka.accounts.access import Access
from parka.accounts.models import Scope
from parka.accounts.services import create_token
from parka.registry.models import Upload, UploadState
from parka.scorecards.models import Comparison
from tests.platform.factories import bench_agent, encoder_version, finished_run, sentences

pytestmark = pytest.mark.django_db
CALLER = 3
"""Token, membership, last use."""
QUERIES = {
    "/api/v1/models": 1,
    "/api/v1/models/minilm/versions": 2,
    "/api/v1/datasets": 1,
    "/api/v1/agents": 1,
    "/api/v1/experiments": 4,
    "/api/v1/runs": 1,
    "/api/v1/runs/R-1/trials": 4,
    "/api/v1/scorecards": 1,
    "/api/v1/artifacts": 1,
    "/api/v1/tokens": 1,
    "/api/v1/members": 1,
    "/api/v1/comparisons": 1,
    "/api/v1/audit": 1,
    "/api/v1/price-book/versions": 4,
    "/api/v1/compare?runs=R-1,R-2": 4,
    "/api/v1/compare?runs=R-2,R-1,R-1/0,R-1/1,R-2/0": 4,
}


def grow(access: Access, round_: int) -> None:
    """One more of everything."""
    agent = bench_agent(access, name=f"lab-{round_}")
    version = encoder_version(access)
    finished_run(access, agent, version=version)
    sentences(access, slug=f"sentences-{round_}")
    create_token(access, name=f"t{round_}", scope=Scope.READ)
    Comparison.objects.create(team=access.team, name="c", query="", created_by=access.user)


def queries(client: APIClient, path: str) -> tuple[int, Any]:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        response = client.get(path)
    assert response.status_code == 200, response.content
    return len([one for one in captured if "SAVEPOINT" not in one["sql"]]), [one["sql"][:150] for one in captured]


def test_a_longer_list_costs_no_more_queries(api: Callable[..., APIClient], alice_access: Access) -> None:
    client = api(alice_access)
    grow(alice_access, 1)
    grow(alice_access, 2)
    client.get("/api/v1/me")
    short = {path: queries(client, path)[0] - CALLER for path in QUERIES}
    for number in range(3, 6):
        grow(alice_access, number)
    long = {path: queries(client, path) for path in QUERIES}
    assert {path: count - CALLER for path, (count, _) in long.items()} == short
    assert short == QUERIES


def test_open_uploads_are_one_query(api: Callable[..., APIClient], bob_access: Access) -> None:
    client = api(bob_access)
    for _ in range(5):
        Upload.objects.create(
            team=bob_access.team,
            user=bob_access.user,
            role="model",
            size_bytes=9,
            state=UploadState.OPEN,
            expires_at=Now() + timedelta(hours=1),
        )
    client.get("/api/v1/me")
    count, _ = queries(client, "/api/v1/uploads")
    assert count == CALLER + 1
