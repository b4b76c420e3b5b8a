"""The live stream of a run: the page's own partials, resumed by id, open to members only."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from parka.accounts.access import Access
from parka.accounts.models import Team, User
from parka.experiments.models import Phase, Run
from parka.workflow.events import EventKind, latest_id, publish
from tests.platform import factories
from tests.platform.runs import fence_of

pytestmark = pytest.mark.django_db(transaction=True)


async def first_frames(client: AsyncClient, path: str, *, count: int) -> list[str]:
    """The first frames of a stream, then hang up."""
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/event-stream"
    assert answer["Cache-Control"] == "no-store"
    content: Any = answer.streaming_content
    frames: list[str] = []
    async with asyncio.timeout(20):
        async for piece in content:
            frames.append(piece.decode() if isinstance(piece, bytes) else piece)
            if len(frames) == count:
                break
    await content.aclose()
    return frames


@pytest.fixture
def running(alice_access: Access) -> Run:
    return factories.running_run(alice_access, factories.bench_agent(alice_access))


@pytest.fixture
async def alice_client(alice: User) -> AsyncClient:
    client = AsyncClient()
    await client.aforce_login(alice)
    return client


async def test_events_arrive_as_the_partials_of_the_page(running: Run, alice_client: AsyncClient) -> None:
    after = await sync_to_async(latest_id)(running.public_id)
    await sync_to_async(publish)(running, EventKind.TRIAL, {"trial": 3})
    frames = await first_frames(alice_client, f"/t/acme/runs/{running.label}/events?after={after}", count=3)
    assert frames[0] == "retry: 3000\n\n"
    trial = next(one for one in frames if "event: trial\n" in one)
    assert 'data: <tr id="trial-3"' in trial or '<tr id="trial-3"' in trial
    assert "fidelity.fail" in trial
    best = next(one for one in frames if "event: best\n" in one)
    assert "Trial 3" in best


async def test_a_reader_resumes_where_it_stopped(running: Run, alice_client: AsyncClient) -> None:
    await sync_to_async(publish)(running, EventKind.TRIAL, {"trial": 0})
    seen = await sync_to_async(latest_id)(running.public_id)
    await sync_to_async(publish)(running, EventKind.STATUS, {"phase": Phase.CONFIRM})
    frames = await first_frames(alice_client, f"/t/acme/runs/{running.label}/events?after={seen}", count=2)
    assert "event: status\n" in frames[1]
    resumed = await alice_client.get(f"/t/acme/runs/{running.label}/events?after=0-0", headers={"Last-Event-ID": seen})
    content: Any = resumed.streaming_content
    pieces = [await anext(content) for _ in range(2)]
    await content.aclose()
    assert b"event: status\n" in pieces[1]
    assert b"event: trial\n" not in pieces[1]


async def test_log_lines_carry_their_number_and_repeat_the_open_line(running: Run, alice_client: AsyncClient) -> None:
    after = await sync_to_async(latest_id)(running.public_id)
    text = await sync_to_async(lambda: running.log_pieces.get().text)()
    offset = len(text.encode())

    def log() -> None:
        factories.append_log(fence_of(running), offset=offset, piece=b"<b>bold</b>\x1b[31m red\nsecond")
        publish(running, EventKind.LOG, {"attempt": running.attempt, "offset": offset, "text": "<b>bold</b> red\nsecond"})

    await sync_to_async(log)()
    frames = await first_frames(alice_client, f"/t/acme/runs/{running.label}/events?after={after}", count=2)
    number = text.count("\n") + 1
    assert f'id="L{number}"' in frames[1]
    assert f'id="L{number + 1}"' in frames[1]
    assert f'id="L{number - 1}"' not in frames[1]
    assert "&lt;b&gt;bold&lt;/b&gt; red" in frames[1]
    assert "\x1b" not in frames[1]


async def test_the_stream_ends_with_the_run(running: Run, alice_client: AsyncClient) -> None:
    after = await sync_to_async(latest_id)(running.public_id)
    await sync_to_async(publish)(running, EventKind.DONE, {"state": "finished"})
    answer = await alice_client.get(f"/t/acme/runs/{running.label}/events?after={after}")
    content: Any = answer.streaming_content
    async with asyncio.timeout(20):
        pieces = [piece async for piece in content]
    assert pieces[-1].startswith(b"id: ")
    assert b"event: done\n" in pieces[-1]


async def test_an_id_older_than_the_stream_asks_for_a_fresh_look(running: Run, alice_client: AsyncClient) -> None:
    await sync_to_async(publish)(running, EventKind.STATUS, {})
    frames = await first_frames(alice_client, f"/t/acme/runs/{running.label}/events?after=1-0", count=2)
    assert "event: resync\n" in frames[1]


async def test_strangers_and_visitors_get_no_stream(running: Run, charlie: User, other_team: Team) -> None:
    path = f"/t/acme/runs/{running.label}/events"
    assert (await AsyncClient().get(path)).status_code == 401
    stranger = AsyncClient()
    await stranger.aforce_login(charlie)
    assert (await stranger.get(path)).status_code == 404
    assert (await stranger.get("/t/acme/runs/R-9999/events")).status_code == 404


async def test_polling_answers_204_until_something_changes(running: Run, alice_client: AsyncClient) -> None:
    path = f"/t/acme/runs/{running.label}/live/"
    first = await alice_client.get(path, headers={"HX-Request": "true"})
    assert first.status_code == 200
    token = first["X-Parka-Token"]
    assert (await alice_client.get(f"{path}?after={token}", headers={"HX-Request": "true"})).status_code == 204
    report = factories.reports_of(4)[0]
    await sync_to_async(lambda: factories.record_stage(fence_of(running), report, body_sha256=secrets.token_hex(32)))()
    assert (await alice_client.get(f"{path}?after={token}", headers={"HX-Request": "true"})).status_code == 200
    await sync_to_async(lambda: Run.objects.filter(pk=running.pk).update(state="finished", lease_expires_at=None))()
    assert (await alice_client.get(path, headers={"HX-Request": "true"})).status_code == 286
