"""An ASGI middleware that caps request bodies before Django spools them: it reads a whole body before any view runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings

from parka.core.blobs import DISK_FULL
from parka.core.codes import sentence
from parka.registry.limits import CHUNK_BYTES, FORM_BYTES

JSON_BYTES = 1 << 20
REPORT_BYTES = 8 << 20
FORM_SLACK_BYTES = 64 << 10

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class BodyTooLarge(Exception):
    """The body went past its limit while streaming."""


class BodyLimit:
    """Wraps the application: 16 MiB for upload pieces, 256 MiB for file forms, 8 MiB for trial reports, 1 MiB for the rest."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit, code = limit_of(scope)
        if announced_bytes(scope) > limit:
            await refuse(send, status=413, code=code)
            return
        await self._run(scope, counted(receive, limit), send, code=code)

    async def _run(self, scope: Scope, receive: Receive, send: Send, *, code: str) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except BodyTooLarge:
            if not started:
                await refuse(send, status=413, code=code)
        except OSError as error:
            if started or error.errno not in DISK_FULL:
                raise
            await refuse(send, status=507, code="storage.full")


def limit_of(scope: Scope) -> tuple[int, str]:
    """Largest body in bytes for this request, and the code of the refusal."""
    path, method = scope["path"], scope["method"]
    if method == "PATCH" and "/uploads/" in path and path.startswith("/api/"):
        return CHUNK_BYTES, "upload.chunk_too_large"
    if header(scope, b"content-type").startswith("multipart/form-data") and (path.startswith("/t/") or path == "/api/v1/uploads"):
        return FORM_BYTES + FORM_SLACK_BYTES, "upload.too_large"
    if path.startswith("/api/v1/agent/") and method == "PUT":
        return REPORT_BYTES, "result.too_large"
    return JSON_BYTES, "request.too_large"


def header(scope: Scope, name: bytes) -> str:
    """Value of a request header, lower-cased; empty when absent."""
    return next((value.decode("latin-1").strip().lower() for key, value in scope["headers"] if key == name), "")


def announced_bytes(scope: Scope) -> int:
    """Content-Length; 0 when it is absent or no number (the stream is counted anyway)."""
    length = header(scope, b"content-length")
    return int(length) if length.isdecimal() else 0


def counted(receive: Receive, limit: int) -> Receive:
    """``receive`` that raises BodyTooLarge once more than ``limit`` bytes have come."""
    total = 0

    async def next_message() -> Message:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > limit:
                raise BodyTooLarge
        return message

    return next_message


async def refuse(send: Send, *, status: int, code: str) -> None:
    """A problem document without the application; the connection ends, because the rest of the body is not read."""
    problem = {
        "type": f"{settings.PUBLIC_URL}/problems/{code}/",
        "title": sentence(code),
        "status": status,
        "detail": sentence(code),
        "instance": "",
        "code": code,
        "errors": [],
    }
    body = json.dumps(problem).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
