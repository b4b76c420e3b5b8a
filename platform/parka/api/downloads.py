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
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from parka import env
from parka.api.problems import describe, problem_response
from parka.core.blobs import PIECE, BlobStore
from parka.core.errors import Forbidden, NotFound, PlatformError
from parka.core.signing import read_grant


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


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def signed_blob(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """What an agent fetches by a signed address. Every flaw answers 403 ``url.invalid``, before the blob is looked for."""
    try:
        read_grant("GET" if request.method == "GET" else str(request.method), sha256=sha256, query=request.GET.dict())
        if request.method != "GET":
            raise Forbidden("url.invalid")
        return blob_response(request, sha256=sha256, file_name=sha256)
    except PlatformError as error:
        return problem_response(describe(error, request=request), request)


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
