"""Bodies are stopped at their limit before the application has read them."""

from __future__ import annotations

import errno
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from parka.api.body_limit import BodyLimit

MIB = 1 << 20
MULTIPART = "multipart/form-data; boundary=x"


class Reader:
    """An application that reads every byte it is given, and answers 200."""

    def __init__(self, *, breaks: OSError | None = None) -> None:
        self.bytes = 0
        self.breaks = breaks

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            self.bytes += len(message.get("body", b""))
            if self.breaks:
                raise self.breaks
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def answer(app: Reader, *, method: str, path: str, mebibytes: int, content_type: str = "application/json") -> tuple[int, str]:
    """Status and code of a body of that size sent without Content-Length."""
    left, sent = mebibytes, []

    async def receive() -> MutableMapping[str, Any]:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": bytes(MIB), "more_body": left > 0}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"content-type", content_type.encode())]}
    await BodyLimit(app)(scope, receive, send)
    body = sent[1]["body"]
    return sent[0]["status"], json.loads(body)["code"] if body else ""


@pytest.mark.parametrize(
    ("method", "path", "content_type", "limit", "code"),
    [
        ("PATCH", "/api/v1/uploads/upl_x", "application/offset+octet-stream", 16, "upload.chunk_too_large"),
        ("PATCH", "/api/v1/agent/runs/r/attempts/1/uploads/u", "application/offset+octet-stream", 16, "upload.chunk_too_large"),
        ("POST", "/api/v1/uploads", MULTIPART, 256, "upload.too_large"),
        ("POST", "/t/acme/models/new/", MULTIPART, 256, "upload.too_large"),
        ("PUT", "/api/v1/agent/runs/r/attempts/1/trials/0/race", "application/json", 8, "result.too_large"),
        ("POST", "/api/v1/models", "application/json", 1, "request.too_large"),
        ("POST", "/accounts/login/", MULTIPART, 1, "request.too_large"),
        ("PATCH", "/t/uploads/x", "text/plain", 1, "request.too_large"),
    ],
)
async def test_the_application_never_sees_more_than_the_limit(method: str, path: str, content_type: str, limit: int, code: str) -> None:
    app = Reader()
    assert await answer(app, method=method, path=path, mebibytes=limit + 3, content_type=content_type) == (413, code)
    assert app.bytes <= limit * MIB
    within = Reader()
    assert await answer(within, method=method, path=path, mebibytes=limit, content_type=content_type) == (200, "")
    assert within.bytes == limit * MIB


async def test_a_disk_that_fills_while_the_body_is_spooled_is_said() -> None:
    full = Reader(breaks=OSError(errno.ENOSPC, "no space"))
    assert await answer(full, method="POST", path="/api/v1/uploads", mebibytes=1, content_type=MULTIPART) == (507, "storage.full")


async def test_other_failures_pass_through() -> None:
    with pytest.raises(OSError, match="broken"):
        await answer(Reader(breaks=OSError(errno.EIO, "broken")), method="GET", path="/", mebibytes=1)
