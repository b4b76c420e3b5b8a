"""Server-sent events of a run: the page's own partials, resumed by id, with no database connection held while waiting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from functools import partial

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string

from parka.accounts.access import Access
from parka.accounts.web import request_access
from parka.core.errors import NotFound, PlatformError
from parka.dashboard.views.runs import live_context, log_lines
from parka.experiments import selectors
from parka.workflow.events import START, EventKind, RunEvent, StreamDown, follow

RETRY_MS = 3000
LIVES_S = 600.0
BEAT_MS = 15_000
PACE_S = 0.25
MOST_LINES = 1000
MOST_STREAMS = 200
EVENT_ID = re.compile(r"\d{1,20}-\d{1,20}")
PANELS = {
    EventKind.STATUS: ("status", "runs/_status.html"),
    EventKind.TRIAL: ("trial", "runs/_trials.html"),
    EventKind.BEST: ("best", "runs/_best.html"),
}
REDRAWS: dict[EventKind, tuple[EventKind, ...]] = {
    EventKind.STATUS: (EventKind.STATUS,),
    EventKind.ETA: (EventKind.STATUS,),
    EventKind.TRIAL: (EventKind.TRIAL, EventKind.BEST),
    EventKind.BEST: (EventKind.BEST,),
}
_open_streams = 0


async def run_events(request: HttpRequest, team: str, number: int) -> HttpResponseBase:
    """``text/event-stream`` of a run; access is checked at every connect."""
    if request.method != "GET":
        return HttpResponse(status=405)
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse(status=401)
    try:
        access, run_id = await sync_to_async(_admit)(request, team, number)
    except NotFound:
        return HttpResponse(status=404)
    except PlatformError as error:
        return HttpResponse(status=error.status)
    if _open_streams >= MOST_STREAMS:
        return HttpResponse(status=503, headers={"Retry-After": "5"})
    after = _resume_from(request)
    stream = _stream(access, number, run_id, after=after)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(stream, content_type="text/event-stream", headers=headers)


def _admit(request: HttpRequest, team: str, number: int) -> tuple[Access, str]:
    try:
        access = request_access(request, team)
        return access, selectors.run(access, number).public_id
    finally:
        connections.close_all()


def _resume_from(request: HttpRequest) -> str:
    wanted = request.headers.get("Last-Event-ID") or request.GET.get("after", "")
    return wanted if EVENT_ID.fullmatch(wanted) else START


async def _stream(access: Access, number: int, run_id: str, *, after: str) -> AsyncIterator[str]:
    global _open_streams
    _open_streams += 1
    until = asyncio.get_running_loop().time() + LIVES_S
    try:
        yield f"retry: {RETRY_MS}\n\n"
        while asyncio.get_running_loop().time() < until:
            try:
                batch = await follow(run_id, after=after, block_ms=BEAT_MS)
            except StreamDown:
                return
            if batch.resync:
                yield frame("resync", "", after)
            if not batch.events:
                yield ": still here\n\n"
                continue
            after = batch.events[-1].id
            for piece in await sync_to_async(partial(_frames, access, number, batch.events))():
                yield piece
            if any(event.kind is EventKind.DONE for event in batch.events):
                return
            await asyncio.sleep(PACE_S)
    finally:
        _open_streams -= 1


def _frames(access: Access, number: int, events: Iterable[RunEvent]) -> list[str]:
    """One frame per changed panel and per piece of log; then the database connection is given back."""
    try:
        listed = list(events)
        last = listed[-1].id
        changed = {panel for event in listed for panel in REDRAWS.get(event.kind, ())}
        frames = [frame("log", html, last) for html in _log_frames(access, number, listed)]
        if changed:
            frames += _panel_frames(access, number, changed, last)
        if any(event.kind is EventKind.DONE for event in listed):
            frames.append(frame("done", "", last))
        return frames
    finally:
        connections.close_all()


def _panel_frames(access: Access, number: int, changed: set[EventKind], last: str) -> list[str]:
    run = selectors.run(access, number)
    context = {**live_context(access, run), "team": access.team, "access": access}
    return [frame(name, render_to_string(template, context), last) for kind, (name, template) in PANELS.items() if kind in changed]


def _log_frames(access: Access, number: int, events: list[RunEvent]) -> list[str]:
    """Lines from the first new byte on, numbered as in the stored log; the page replaces a line that it has already."""
    pieces = [event.payload for event in events if event.kind is EventKind.LOG]
    if not pieces:
        return []
    attempt = max(int(piece["attempt"]) for piece in pieces)
    offset = min(int(piece["offset"]) for piece in pieces if piece["attempt"] == attempt)
    data = selectors.log_text(selectors.run(access, number), attempt=attempt).encode()
    before = data[:offset].count(b"\n")
    lines = log_lines(data.decode(errors="replace"), last=MOST_LINES)
    return [render_to_string("runs/_log_lines.html", {"lines": [line for line in lines if line.number > before]})]


def frame(name: str, html: str, event_id: str) -> str:
    """One event; every line of its data is prefixed, so that no text can end it early."""
    data = "\n".join(f"data: {line}" for line in html.splitlines()) or "data:"
    return f"id: {event_id}\nevent: {name}\n{data}\n\n"
