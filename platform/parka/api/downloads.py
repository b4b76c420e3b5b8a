"""Bytes out: attachments that no browser opens, in constant memory under ASGI too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from parka import env
from parka.core.blobs import PIECE, BlobStore
from parka.core.errors import NotFound


def blob_response(request: HttpRequest, *, sha256: str, file_name: str) -> HttpResponseBase:
    """The blob as an attachment. Raises NotFound ``artifact.missing``.

    With ``PARKA_ACCEL_PREFIX`` the proxy sends the bytes (X-Accel-Redirect).
    """
    store = BlobStore()
    path = store.path(sha256)
    if not path.is_file():
        raise NotFound("artifact.missing")
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": content_disposition_header(True, file_name) or "attachment",
        "X-Content-Type-Options": "nosniff",
        "ETag": f'"{sha256}"',
        "Cache-Control": "private, no-cache",
    }
    prefix = env.read("PARKA_ACCEL_PREFIX")
    if prefix:
        relative = path.relative_to(store.root)
        return HttpResponse(headers={**headers, "X-Accel-Redirect": f"{prefix.rstrip('/')}/{relative}"})
    headers["Content-Length"] = str(path.stat().st_size)
    return StreamingHttpResponse(_bytes(request, path), headers=headers)


def _bytes(request: HttpRequest, path: Path) -> Iterator[bytes] | AsyncIterator[bytes]:
    return _async_pieces(path) if isinstance(request, ASGIRequest) else _pieces(path)


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


async def _async_pieces(path: Path) -> AsyncIterator[bytes]:
    file = await sync_to_async(_opened)(path)
    try:
        while piece := await sync_to_async(file.read)(PIECE):
            yield piece
    finally:
        await sync_to_async(file.close)()
