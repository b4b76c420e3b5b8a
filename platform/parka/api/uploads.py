"""``/uploads``: tus 1.0 for files of any size, a plain form up to 256 MiB."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.multipartparser import MultiPartParserError

from parka.accounts.access import Access
from parka.api import tus
from parka.api.plain import plain_resource
from parka.core.blobs import disk_full_is_refused
from parka.core.errors import BadRequest, Refused, TooLarge
from parka.registry import selectors, uploads
from parka.registry.limits import FORM_BYTES
from parka.registry.models import ArtifactRole, Upload
from parka.registry.owners import check_may_upload
from parka.registry.spool import spool_root

ROLES = frozenset({ArtifactRole.MODEL, ArtifactRole.DATASET})
LOCATION = "/api/v1/uploads/{id}"


@plain_resource
async def uploads_root(request: HttpRequest, access: Access) -> HttpResponse:
    """List one's open uploads, create one, or send a whole file as a form."""
    if request.method == "OPTIONS":
        return tus.options()
    if request.method == "GET":
        return await sync_to_async(listed)(access)
    if request.method != "POST":
        return HttpResponseNotAllowed(["GET", "POST", "OPTIONS"])
    if request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        return await sync_to_async(from_form)(request, access)
    return await sync_to_async(tus.create)(request, access, location=LOCATION, roles=ROLES)


@plain_resource
async def upload_detail(request: HttpRequest, access: Access, upload_id: str) -> HttpResponse:
    """One upload: state, next piece, or the end of it."""
    if request.method == "GET":
        return await sync_to_async(shown)(access, upload_id)
    act = {"HEAD": tus.head, "PATCH": tus.patch, "DELETE": tus.terminate}.get(request.method or "")
    if act is None:
        return HttpResponseNotAllowed(["GET", "HEAD", "PATCH", "DELETE"])
    return await sync_to_async(act)(request, access, upload_id)


def listed(access: Access) -> HttpResponse:
    return JsonResponse({"items": [as_json(upload) for upload in selectors.open_uploads(access)]})


def shown(access: Access, upload_id: str) -> HttpResponse:
    return JsonResponse(as_json(uploads.upload_of(access, upload_id)))


def from_form(request: HttpRequest, access: Access) -> HttpResponse:
    """A form with ``file`` and ``role`` (model or dataset; optionally ``sha256``), through the same intake as tus."""
    check_may_upload(access)
    with disk_full_is_refused():
        try:
            file = request.FILES.get("file")
        except MultiPartParserError:
            raise BadRequest("request.malformed", "The form cannot be read.") from None
    if not isinstance(file, UploadedFile):
        raise Refused("upload.file_missing")
    if (file.size or 0) > FORM_BYTES:
        raise TooLarge("upload.too_large")
    role = tus.read_role(request.POST.get("role", ArtifactRole.MODEL.value), ROLES)
    announced = uploads.Announced(
        role=role, file_name=file.name or "", size_bytes=file.size or 0, sha256=tus.read_sha256(request.POST.get("sha256", ""))
    )
    upload = store_form_file(access, announced, file)
    return JsonResponse(as_json(upload), status=201, headers={"Location": LOCATION.format(id=upload.public_id)})


def store_form_file(access: Access, announced: uploads.Announced, file: UploadedFile) -> Upload:
    """The form's file as Django spooled it; a small one that it kept in memory is written first."""
    if isinstance(file, TemporaryUploadedFile):
        return uploads.store_file(access, announced=announced, path=Path(file.temporary_file_path()))
    with disk_full_is_refused(), NamedTemporaryFile(dir=spool_root(), prefix="form-") as copy:
        for chunk in file.chunks():
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
        return uploads.store_file(access, announced=announced, path=Path(copy.name))


def as_json(upload: Upload) -> dict[str, Any]:
    """An upload as the API shows it."""
    return {
        "id": upload.public_id,
        "state": upload.state,
        "role": upload.role,
        "file_name": upload.file_name,
        "size_bytes": upload.size_bytes,
        "offset_bytes": upload.offset_bytes,
        "sha256": upload.sha256,
        "expires_at": upload.expires_at.isoformat().replace("+00:00", "Z"),
        "artifact": upload.artifact.public_id if upload.artifact else None,
    }
