"""Signed downloads of agents: every flaw answers 403, and bytes stream in pieces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.test import Client

from parka.accounts.access import Access
from parka.core import signing
from parka.core.blobs import PIECE, BlobStore
from parka.core.errors import Forbidden, NotFound
from parka.core.signing import read_grant, signed_blob_path
from parka.experiments.models import Run
from tests.platform.runs import claim, new_agent, new_run

pytestmark = pytest.mark.django_db
CONTENT = b"weights" * 300_000


@pytest.fixture
def run(alice_access: Access) -> Run:
    agent = new_agent(alice_access)
    new_run(alice_access, agent)
    claimed = claim(agent)
    assert claimed is not None
    return claimed


@pytest.fixture
def sha256() -> str:
    return BlobStore().put_bytes(CONTENT)


def address(run: Run, sha256: str, **changes: Any) -> str:
    facts = {"sha256": sha256, "size_bytes": len(CONTENT), "run": run.public_id, "attempt": run.attempt, "agent": run.agent.public_id}
    return signed_blob_path(**{**facts, **changes})


def refused(response: Any) -> bool:
    return response.status_code == 403 and response.json()["code"] == "url.invalid"


def test_a_signed_address_gives_the_bytes(client: Client, run: Run, sha256: str) -> None:
    response = client.get(address(run, sha256))
    assert b"".join(response.streaming_content) == CONTENT  # type: ignore[attr-defined]
    assert response["Content-Disposition"].startswith("attachment")
    assert response["X-Content-Type-Options"] == "nosniff"


def edits(path: str) -> Iterator[str]:
    """The address with one thing changed at a time."""
    for name, value in (
        ("size", "1"),
        ("run", "run_other"),
        ("attempt", "9"),
        ("agent", "agent_x"),
        ("exp", "9999999999"),
        ("sig", "0" * 64),
    ):
        head, _, tail = path.partition(f"{name}=")
        yield f"{head}{name}={value}{'&' + tail.split('&', 1)[1] if '&' in tail else ''}"
        yield path.replace(f"{name}=", f"no{name}=")


def test_every_edit_of_the_address_is_refused(client: Client, run: Run, sha256: str) -> None:
    other = BlobStore().put_bytes(b"another object")
    path = address(run, sha256)
    for edited in [*edits(path), path.replace(sha256, other), path.split("?")[0], path + "&exp=1"]:
        assert refused(client.get(edited)), edited


@pytest.mark.parametrize("method", ["head", "post", "put", "patch", "delete"])
def test_another_method_is_refused(client: Client, run: Run, sha256: str, method: str) -> None:
    response = getattr(client, method)(address(run, sha256))
    assert response.status_code == 403


def test_an_old_address_is_refused(client: Client, run: Run, sha256: str) -> None:
    assert refused(client.get(address(run, sha256, lives_s=-1)))


def test_no_address_lives_longer_than_a_quarter_of_an_hour(run: Run, sha256: str) -> None:
    path = address(run, sha256, lives_s=10**6)
    assert int(path.split("exp=")[1].split("&")[0]) <= time.time() + 15 * 60


def test_the_address_ends_with_the_attempt(client: Client, run: Run, sha256: str) -> None:
    path = address(run, sha256)
    Run.objects.filter(pk=run.pk).update(attempt=2)
    assert refused(client.get(path))


def test_an_unknown_key_is_refused_and_an_old_one_still_works(run: Run, sha256: str, settings: Any) -> None:
    path = address(run, sha256)
    query = dict(pair.split("=") for pair in path.split("?")[1].split("&"))
    settings.URL_SIGNING_KEY_FALLBACKS = [settings.URL_SIGNING_KEY]
    settings.URL_SIGNING_KEY = "a new key"
    assert read_grant("GET", sha256=sha256, query=query).run == run.public_id
    settings.URL_SIGNING_KEY_FALLBACKS = []
    with pytest.raises(Forbidden):
        read_grant("GET", sha256=sha256, query=query)


def test_a_signature_covers_every_field(run: Run, sha256: str) -> None:
    grant = signing.BlobGrant(sha256=sha256, size_bytes=1, run="r", attempt=1, agent="a", expires_at=5)
    assert grant.message("GET") == f"GET|{sha256}|1|r|1|a|5".encode()


def test_a_vanished_blob_is_said_to_be_missing(client: Client, run: Run) -> None:
    response = client.get(address(run, "0" * 64))
    assert (response.status_code, response.json()["code"]) == (404, "artifact.missing")


def test_what_is_no_hash_names_no_file() -> None:
    for name in ("../../etc/passwd", "", "A" * 64, "0" * 63):
        with pytest.raises(NotFound):
            BlobStore().path(name)


@pytest.mark.django_db(transaction=True)
async def test_bytes_stream_in_pieces_under_asgi(run: Run, sha256: str) -> None:
    path = await sync_to_async(address)(run, sha256)
    transport = httpx.ASGITransport(app=get_asgi_application())
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        response = await http.get(path)
    assert response.content == CONTENT
    assert len(CONTENT) > PIECE
